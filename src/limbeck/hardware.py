"""What a network was trained or measured on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpu(device: str) -> str | None:
    """Return the name of the GPU that a type of device means, None for "cpu", whether the machine has one or not."""
    import torch  # noqa: PLC0415 (`compare` reads results without it)

    return torch.cuda.get_device_name() if device == "cuda" else device if device == "mps" else None


def machine(device: str) -> str:
    """Return in a phrase what computes on a type of device, e.g. "NVIDIA H100" or "AMD EPYC, 2 threads"."""
    import torch  # noqa: PLC0415

    return gpu(device) or f"{processor()}, {torch.get_num_threads()} threads"

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
    """Return the name of the GPU that "cuda" or "mps" means, None for "cpu", whether the machine has one or not."""
    import torch  # noqa: PLC0415 (`compare` reads results without it)

    if device == "mps":
        return f"{processor()} (mps)"
    return torch.cuda.get_device_name() if device == "cuda" else None


def machine(device: str, processes: int = 1) -> str:
    """Return in a phrase what computes on a type of device: "NVIDIA H100", "2 x NVIDIA H100", "AMD EPYC, 2 threads".

    Args:
        device: "cpu", "cuda" or "mps".
        processes: How many processes work together, on a device each or on a part of the processor's threads.
    """
    import torch  # noqa: PLC0415

    if (name := gpu(device)) is None:
        return f"{processor()}, {processes * torch.get_num_threads()} threads"
    return name if processes == 1 else f"{processes} x {name}"

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


def native_bf16(device: str) -> bool:
    """Return whether a type of device computes in bfloat16 by itself; where not, autocast imitates it, which is slow.

    oneDNN says yes to any CPU with AVX-512, where it converts to float32 and back, which takes longer than float32.

    Args:
        device: "cpu", "cuda" or "mps".
    """
    import torch  # noqa: PLC0415

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine().lower() in ("x86_64", "amd64"):
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device == "cpu" and bool(native)

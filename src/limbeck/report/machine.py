"""What a result was made on: the versions of packages, and the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import limbeck
from limbeck.ground.hardware import gpu, processor

PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "limbeck": limbeck.__version__}
    for package in PACKAGES:
        try:
            found[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            found[package.replace("-", "_")] = "not installed"
    return found


def hardware(device: str = "cpu") -> dict[str, str | int | None]:
    """Return the processor, how many of its cores and threads were used, the GPU and the system.

    Args:
        device: Where networks ran; "cpu" has no GPU, whether the machine has one or not.
    """
    import torch  # noqa: PLC0415 (`compare` reads results without it)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "gpu": gpu(device),
        "system": f"{platform.system()} {platform.machine()}",
    }

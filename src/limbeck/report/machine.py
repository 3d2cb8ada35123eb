"""What a result was made on: the versions of packages, and the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import SubprocessError, run

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
    return found | ({"commit": found_commit} if (found_commit := commit()) else {})


def commit() -> str:
    """Return the commit of the checkout that Limbeck runs from, with "-dirty" after edits; "" of an installed one."""
    folder = Path(limbeck.__file__).parent
    if folder.parent.name != "src":
        return ""
    words = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, SubprocessError):  # no git, or no checkout
        return ""


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

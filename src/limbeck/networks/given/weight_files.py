"""What a weight file holds, read by its content, whatever its name, and without running code in it."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch
from safetensors.torch import load_file

from limbeck.errors import WeightsError

BESIDE: list[Any] = [
    argparse.Namespace,
    np.dtype,
    getattr(np, "_core", np.core).multiarray.scalar,
    *{type(np.dtype(kind)) for kind in (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_)},
]
"""What is read beside tensors: the options and figures of a training. None of it runs anything."""


def held_in(path: Path) -> Mapping[str, Any]:
    """Return what the file holds, on the CPU, without running any code in it."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file")
    try:
        if _is_safetensors(path):
            return load_file(path)
        if _is_script(path):
            raise WeightsError(
                f"{path}: a TorchScript program, which is code; save its weights alone with"
                " torch.save(torch.jit.load(file).state_dict(), other)"
            )
        return _unpickled(path)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise _no_tensors(path, error) from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the readers raise whatever a damaged file leads them to, struct.error for one
        raise damaged(path) from error


def _unpickled(path: Path) -> Mapping[str, Any]:
    """Return what torch has saved: tensors, plain containers, and the numbers that trainings note beside them."""
    with warnings.catch_warnings():  # about pickle protocols; what matters raises
        warnings.simplefilter("ignore", UserWarning)
        with torch.serialization.safe_globals(BESIDE):
            found = torch.load(path, map_location="cpu", weights_only=True)
    return found if isinstance(found, Mapping) else {}


def _no_tensors(path: Path, error: pickle.UnpicklingError) -> WeightsError:
    """Return what to raise where a file asks for something that is no tensor."""
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code and _cut_off(code[1], path):
        return damaged(path)
    return WeightsError(
        f"{path}: holds {code[1] if code else 'something'} that is no tensor, which could run code or is damage, so"
        " it is not loaded; save the weights alone with torch.save(network.state_dict(), file)"
    )


def _cut_off(code: str, path: Path) -> bool:
    """Return whether the name of what a pickle asks for is cut off; a line break ends its module, and another it."""
    module, _, name = code.rpartition(".")
    return not is_zipfile(path) and f"{module}\n{name}\n".encode() not in path.read_bytes()


def damaged(path: Path) -> WeightsError:
    """Return what to raise where a file cannot be read."""
    size = path.stat().st_size
    return WeightsError(f"{path}: truncated, or not a weight file ({size} bytes, type {path.suffix}); fetch it again")


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do: the length of a header, then JSON."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _is_script(path: Path) -> bool:
    """Return whether a file is a program of TorchScript: an archive with code."""
    if not is_zipfile(path):
        return False
    with ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())

"""Reading what a weight file holds, by its content and not its name, without running any code in it."""

from __future__ import annotations

import pickle
import re
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch
from safetensors.torch import load_file

from limbeck.errors import WeightsError
from limbeck.networks.given.pickled import unpickled

# What trainings save beside weights, and what makes it: none of them runs anything. NumPy 2 renamed its modules.
_MAKERS: tuple[Any, ...] = (np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0])
_BESIDE_WEIGHTS: list[Any] = [
    *((maker, f"numpy.{core}.multiarray.{maker.__name__}") for maker in _MAKERS for core in ("core", "_core")),
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"},
    np.dtype,
    np.ndarray,
    Namespace,
]

_MAGIC = torch.serialization.MAGIC_NUMBER  # the first object in files of torch.save before PyTorch 1.6


def read(path: Path) -> Mapping[str, Any]:
    """Return what the file holds, on the CPU, without running any code in it."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file")
    try:
        return load_file(path) if _is_safetensors(path) else _unpickled(path)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise _no_tensors(path, error) from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the readers raise whatever a damaged file leads them to, struct.error for one
        raise damaged(path) from error


def _is_safetensors(path: Path) -> bool:
    """Return whether the file begins as that format does: the length of a header in eight bytes, and the header."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _unpickled(path: Path) -> Mapping[str, Any]:
    """Return what torch or pickle has saved, of which nothing but tensors, numbers and plain containers is read."""
    if not is_zipfile(path) and (found := unpickled(path)) != _MAGIC:
        return found if isinstance(found, Mapping) else {}
    if is_zipfile(path) and any(name.endswith("/constants.pkl") for name in ZipFile(path).namelist()):
        raise WeightsError(
            f"{path}: a TorchScript program, expected weights alone; save them with"
            " torch.save(torch.jit.load(file).state_dict(), other_file)"
        )
    with warnings.catch_warnings():  # about pickle protocols; what matters raises
        warnings.simplefilter("ignore", UserWarning)
        with torch.serialization.safe_globals(_BESIDE_WEIGHTS):
            found = torch.load(path, map_location="cpu", weights_only=True)
    return found if isinstance(found, Mapping) else {}


def odd_values(found: Any, where: str = "") -> list[str]:
    """Return where a file holds numbers of NumPy and a program's arguments, each with its type."""
    if isinstance(found, (np.generic, np.ndarray, Namespace)):
        return [f"{where} ({type(found).__name__})"]
    items: Any = found.items() if isinstance(found, Mapping) else enumerate(found) if isinstance(found, list) else ()
    return [odd for name, value in items for odd in odd_values(value, f"{where}.{name}".lstrip("."))]


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
    """Return whether the name of what a pickle asks for is cut off; a line break ends it, or its length begins it."""
    module, _, name = code.rpartition(".")
    whole = f"{module}\n{name}\n".encode(), bytes((0x8C, len(name))) + name.encode()
    return not is_zipfile(path) and not any(each in path.read_bytes() for each in whole)


def damaged(path: Path) -> WeightsError:
    """Return what to raise where a file cannot be read to its end."""
    size = path.stat().st_size
    return WeightsError(f"{path}: truncated, or not a weight file ({size} bytes, type {path.suffix}); fetch it again")

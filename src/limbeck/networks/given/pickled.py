"""Reading arrays that `pickle.dump` has written, as Detectron2's files are, without running any code in the file."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

_MAKERS: dict[str, tuple[Any, ...]] = {  # of arrays and numbers; NumPy 2 renamed its modules
    "multiarray": (np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]),
    "numeric": (np.zeros(1).__reduce_ex__(5)[0],),
}


def _latin(text: str, encoding: str) -> bytes:
    """Return the bytes of an array, which old protocols hold as text; `_codecs.encode` would take other encodings."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"expected bytes as latin1, found {encoding!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.{module}", maker.__name__): maker
        for core in ("core", "_core")
        for module, makers in _MAKERS.items()
        for maker in makers
    },
}


class UnknownError(pickle.UnpicklingError):
    """A pickle asks for something that could run code."""


class _Arrays(pickle.Unpickler):
    """Builds plain containers, numbers, text and arrays, and nothing else.

    Whatever a pickle runs, it has to ask for by name here: see "Restricting Globals" in the documentation of `pickle`.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle asks for, if it is one of the few things that are known to do nothing.

        Raises:
            UnknownError: It is anything else.
        """
        if (module, name) not in _KNOWN:
            raise UnknownError(f"GLOBAL {module}.{name}")
        return _KNOWN[module, name]


def unpickled(path: Path) -> Any:
    """Return the first object in a file, with arrays of numbers as tensors.

    Raises:
        UnknownError: It holds something that could run code.
        ValueError: It is no pickle, or cut off; or another error that this leads the reader to.
    """
    try:
        with path.open("rb") as file:
            return _as_tensors(_Arrays(file, encoding="latin1").load())  # the encoding of Python 2
    except UnknownError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error


def _as_tensors(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {name: _as_tensors(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_as_tensors(value) for value in found]
    if isinstance(found, np.ndarray) and found.dtype.kind in "biuf":
        return torch.from_numpy(np.array(found.astype(found.dtype.newbyteorder("="))))
    return found

"""Files of named arrays, .safetensors or .npz: read without running code, written whole or not at all."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from limbeck.errors import DataError
from limbeck.ground.files import write_atomically

ENDINGS = (".safetensors", ".npz")
AT_ONCE = 2**20  # bytes that are copied at a time, of arrays that do not lie in memory as they are hashed
Shape = tuple[int, ...]


def read_shapes(file: Path) -> dict[str, Shape]:
    """Return the shape of every array in a file, from its headers alone.

    Raises:
        DataError: The file is missing, damaged or of another kind.
    """
    with _reading(file):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        with zipfile.ZipFile(file) as archive:
            return {name.removesuffix(".npy"): _npy_shape(archive, name) for name in archive.namelist()}


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the arrays of these names.

    Raises:
        DataError: The file is missing, damaged or of another kind, or has none of that name.
    """
    with _reading(file):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                return {name: tensors.get_tensor(name) for name in names}
        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in names}


def write_arrays(file: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write a .safetensors file.

    Raises:
        DataError: It could not be written.
    """
    if file.suffix != ".safetensors":
        raise DataError(f"{file}: expected a file that ends in .safetensors")
    try:
        write_atomically(file, save({name: tensor.contiguous() for name, tensor in arrays.items()}))
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror}); free space or choose another place") from error


def hash_bytes(digest: hashlib._Hash, tensor: Tensor) -> None:
    """Put the bytes of a tensor (N, ...) into a digest, in the order of its indices, without a copy of the whole."""
    scattered = not tensor.is_contiguous()
    parts = torch.split(tensor, max(1, AT_ONCE * len(tensor) // tensor.nbytes)) if scattered else (tensor,)
    for part in parts:
        digest.update(part.contiguous().flatten().view(torch.uint8).numpy().data)


def _npy_shape(archive: zipfile.ZipFile, name: str) -> Shape:
    with archive.open(name) as stream:
        old = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape: Shape = read(stream)[0]
        return shape


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    damage = (SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError)
    try:
        yield
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    except damage as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file}: damaged, or no {file.suffix} file of arrays ({reason}); write it again") from error

"""Tables of tensors that are too large for memory, written row by row into one safetensors file."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limbeck.errors import CheckpointError

CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
BLANK = "0" * 64  # where the SHA-256 of the content comes in the end


class RowsWriter:
    """Writes tensors of so many rows to a file, some rows after others; nothing but those is held in memory.

    The file is there, whole, once the context is left without an error; until then its name ends in ".part".

    Args:
        path: The file.
        rows: How many rows each tensor will have.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows, self.next = path, rows, 0
        self.beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        self.memory: mmap.mmap | None = None
        self.tensors: dict[str, Tensor] = {}

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the next rows (n, ...) of every tensor; the first ones say which tensors there are, and their shapes.

        Raises:
            CheckpointError: A row holds NaN or infinity.
        """
        if self.memory is None:
            self._lay_out(tensors)
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise CheckpointError(f"{self.path.name}: not saved, {name or 'the output'} holds NaN or infinity")
            self.tensors[name][self.next : self.next + len(tensor)] = tensor
        self.next += len(next(iter(tensors.values())))

    def _lay_out(self, first: Mapping[str, Tensor]) -> None:
        header: dict[str, object] = {"__metadata__": {"sha256": BLANK}}
        place, offsets = 0, {}
        for name, tensor in first.items():
            size = self.rows * tensor[0].numel() * tensor.element_size()
            shape = [self.rows, *tensor.shape[1:]]
            header[name] = {"dtype": CODES[tensor.dtype], "shape": shape, "data_offsets": [place, place + size]}
            offsets[name] = place
            place += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 64)  # so that numbers lie where a processor likes them
        self.start = 8 + len(text)
        with self.beside.open("w+b") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            _reserve(file.fileno(), self.start + place)
            self.memory = mmap.mmap(file.fileno(), 0)
        for name, tensor in first.items():
            count = self.rows * tensor[0].numel()
            flat = torch.frombuffer(self.memory, dtype=tensor.dtype, count=count, offset=self.start + offsets[name])
            self.tensors[name] = flat.view(self.rows, *tensor.shape[1:])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or self.memory is None:
            self.beside.unlink(missing_ok=True)
            return
        if self.next != self.rows:
            self.beside.unlink()
            raise ValueError(f"{self.path.name}: expected {self.rows} rows, found {self.next}")
        with memoryview(self.memory) as content:
            digest = hashlib.sha256(content[self.start :]).hexdigest().encode()
        place = self.memory.find(BLANK.encode(), 0, self.start)
        self.memory[place : place + len(digest)] = digest
        self.memory.flush()
        self.beside.replace(self.path)


def _reserve(file: int, size: int) -> None:
    """Give a file its size, and its place on the disk where the system can: to map what has none can end in SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def read_rows(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that a `RowsWriter` has written; their rows are read from the disk when asked for.

    Raises:
        CheckpointError: The file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            known = (file.metadata() or {}).get("sha256")
        with path.open("rb") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error
    if found != known:
        raise CheckpointError(f"{path}: its content does not match its checksum: it was altered or damaged")
    return tensors

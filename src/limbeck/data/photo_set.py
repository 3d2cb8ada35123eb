"""Whole photographs of any size, on which restored images are measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from limbeck.data.base import to_float
from limbeck.data.image_files import existing, glimpse, list_images, opened, planes
from limbeck.errors import DataError


@final
class PhotoSet:
    """The photographs of a folder, read one by one, as Set5 or BSD100.

    Args:
        path: The folder; a relative one is looked for here, then in the data root.
        degraded: Another folder that holds them degraded, whose file names begin like theirs ("baby.png" and
            "babyx4.png"); null where the task degrades them.
        name: What metrics are filed under; null for the folder's name.
        channels: 3 for RGB, 1 for grey.

    Raises:
        DataError: A folder is missing or without images, or the two do not fit; on reading, a file is damaged.
    """

    def __init__(self, path: str, degraded: str | None = None, *, name: str | None = None, channels: int = 3) -> None:
        self.path, self.degraded, self.channels = path, degraded, channels
        folder = existing(path)
        self._files = _files(folder)
        self.name = name or folder.resolve().name.lower()
        self._given = None if degraded is None else _beside(self._files, _files(existing(degraded)))

    def __repr__(self) -> str:
        # Evaluations are remembered under it, and so it has to know what the files hold.
        files = [*self._files, *(self._given or [])]
        content = hashlib.sha256(b"".join(glimpse(file.parent, Path(file.name)) for file in files)).hexdigest()[:16]
        return f"PhotoSet({self.path!r}, {self.degraded!r}, name={self.name!r}, channels={self.channels}, {content})"

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self._files)

    def photographs(self, multiple: int = 1) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield each photograph (1, C, H, W) in [-1, 1], and its degraded form where that is given.

        Args:
            multiple: Height and width are cut to a multiple of this, from the top left.
        """
        for number, file in enumerate(self._files):
            whole = _read(file, self.channels)
            height, width = (side // multiple * multiple for side in whole.shape[2:])
            given = None if self._given is None else _read(self._given[number], self.channels)
            yield whole[..., :height, :width], given


def _files(folder: Path) -> list[Path]:
    found = [folder / file for file in list_images(folder, folder)]
    if not found:
        raise DataError(f"{folder}: expected photographs, found none")
    return sorted(found)


def _beside(whole: list[Path], degraded: list[Path]) -> list[Path]:
    """Return the degraded form of each photograph."""
    found = []
    for file in whole:
        alike = [other for other in degraded if other.stem.startswith(file.stem)]
        alike = [other for other in alike if other.stem == file.stem] or alike
        if len(alike) != 1:
            raise DataError(
                f"{degraded[0].parent}: expected one file whose name begins with {file.stem!r}, found {len(alike)}"
            )
        found += alike
    return found


def _read(file: Path, channels: int) -> Tensor:
    return to_float(torch.from_numpy(np.asarray(planes(opened(file, channels), channels))))[None]

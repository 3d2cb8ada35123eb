"""Whole photographs of any size, on which restored images are measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from limbeck.data.base import to_float
from limbeck.data.image_files import existing, glimpse, list_images, opened, planes
from limbeck.data.names_alike import degraded_forms
from limbeck.data.pixels import Reading, check_depth
from limbeck.data.splits import part_of
from limbeck.errors import DataError


@final
class PhotoSet:
    """The photographs of a folder, read one by one, as Set5 or BSD100.

    Args:
        path: The folder; a relative one is looked for here, then in the data root.
        degraded: Another folder that holds them degraded, under names that are theirs or, all alike, longer
            ("baby.png" and "babyx4.png"); null where the task degrades them.
        name: What metrics are filed under; null for the folder's name.
        channels: 3 for RGB, 1 for grey.
        reading: `bits`, `bands` and `largest`: see `Reading`.

    Raises:
        DataError: A folder is missing or without images, it has those of several splits, the two do not fit, or files
            of 16 bits use fewer; on reading, a file is damaged.
        RecipeError: An argument that cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Reading,)

    def __init__(
        self, path: str, degraded: str | None = None, *, name: str | None = None, channels: int = 3, **reading: Any
    ) -> None:
        self.path, self.degraded, self.channels, self.reading = path, degraded, channels, Reading(**reading)
        self.reading.check("PhotoSet.")
        folder = existing(path)
        files = _files(folder)
        self._files = [folder / file for file in files]
        check_depth(self._files, self.reading)
        self.name = name or folder.resolve().name.lower()
        self._given = None if degraded is None else degraded_forms(files, folder, existing(degraded))

    def __repr__(self) -> str:
        # Evaluations are remembered under it, and so it has to know what the files hold.
        files = [*self._files, *(self._given or [])]
        content = hashlib.sha256(b"".join(glimpse(file.parent, Path(file.name)) for file in files)).hexdigest()[:16]
        given = f"{self.path!r}, {self.degraded!r}, name={self.name!r}, channels={self.channels}, {self.reading}"
        return f"PhotoSet({given}, {content})"

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self._files)

    def photographs(self, multiple: int = 1) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield each photograph (1, C, H, W) in [-1, 1], and its degraded form where that is given.

        Args:
            multiple: Height and width are cut to a multiple of this, from the top left.
        """
        for number, file in enumerate(self._files):
            whole = _read(file, self.channels, self.reading)
            height, width = (side // multiple * multiple for side in whole.shape[2:])
            given = None if self._given is None else _read(self._given[number], self.channels, self.reading)
            yield whole[..., :height, :width], given


def _files(folder: Path) -> list[Path]:
    """Return the photographs of a folder, relative to it, in order."""
    found = list_images(folder, folder)
    if not found:
        raise DataError(f"{folder}: expected photographs, found none")
    parts = sorted({file.parts[0] for file in found if len(file.parts) > 1 and part_of(file.parts[0])})
    if parts:
        raise DataError(
            f"{folder}: expected photographs of one split, found {', '.join(parts)}; give {folder / parts[0]}"
        )
    return found


def _read(file: Path, channels: int, reading: Reading) -> Tensor:
    return to_float(torch.from_numpy(np.asarray(planes(opened(file, channels, reading), channels))))[None]

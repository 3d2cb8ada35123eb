"""Squares of photographs, which are held as a whole: overlapping ones take no memory of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from limbeck.data.base import Images, to_float
from limbeck.data.image_files import opened, planes
from limbeck.data.pixels import PLAIN, Reading
from limbeck.errors import DataError
from limbeck.ground.arrays import hash_bytes
from limbeck.types import Batch


class Cutouts(Images):
    """All squares on a regular grid of each photograph, row by row, nothing resized.

    Args:
        files: The photographs.
        channels: 3 for RGB, 1 for grey.
        size: Height and width of a square in pixels.
        step: Pixels from one square to the next.
        reading: What the numbers of the files mean.

    Raises:
        DataError: A photograph is damaged, or smaller than a square.
    """

    def __init__(self, files: Sequence[Path], channels: int, size: int, step: int, reading: Reading = PLAIN) -> None:
        self.photographs = [_photograph(file, channels, size, reading) for file in files]
        self.size, self.step = size, step
        starts = [[range(0, side - size + 1, step) for side in photo.shape[1:]] for photo in self.photographs]
        self.places = torch.tensor(
            [(number, top, left) for number, (rows, columns) in enumerate(starts) for top in rows for left in columns]
        )

    def __len__(self) -> int:
        return len(self.places)

    def read(self, indices: Tensor) -> Batch:
        """Return the squares at `indices` (N,): images (N, channels, size, size) in [-1, 1]."""
        squares = [
            self.photographs[number][:, top : top + self.size, left : left + self.size]
            for number, top, left in self.places[indices].tolist()
        ]
        return Batch(image=to_float(torch.stack(squares)), index=indices)

    def labels(self) -> None:
        """Return None: there are none."""

    def fingerprint(self) -> str:
        """Return a hash of the photographs and of the grid."""
        digest = hashlib.sha256(repr((self.size, self.step)).encode())
        for photograph in self.photographs:
            digest.update(repr(tuple(photograph.shape)).encode())
            hash_bytes(digest, photograph)
        return digest.hexdigest()[:16]


def _photograph(file: Path, channels: int, size: int, reading: Reading) -> Tensor:
    """Return a photograph (channels, H, W), uint8."""
    photograph = torch.from_numpy(planes(opened(file, channels, reading), channels))
    height, width = photograph.shape[1:]
    if min(height, width) < size:
        raise DataError(f"{file}: expected at least {size}x{size} pixels, found {height}x{width}; remove it")
    return photograph


class PairedCutouts(Images):
    """The squares of photographs, each with the same place of the photograph's degraded form as the field `degraded`.

    Args:
        whole: The squares of the photographs.
        degraded: Those of their degraded forms, of sides and steps that are `scale` times smaller.
        files: The photographs, and their degraded forms, for messages.
        scale: How many times smaller the degraded forms are; what is left of a photograph's sides is cut off.

    Raises:
        DataError: A degraded form has another size.
    """

    def __init__(
        self, whole: Cutouts, degraded: Cutouts, files: tuple[Sequence[Path], Sequence[Path]], scale: int
    ) -> None:
        self.whole, self.degraded = whole, degraded
        for one, other, file, small in zip(whole.photographs, degraded.photographs, *files, strict=True):
            wanted, found = [side // scale for side in one.shape[1:]], [*other.shape[1:]]
            if wanted != found:
                raise DataError(
                    f"{small}: expected {wanted[0]}x{wanted[1]} pixels, those of {file} divided by {scale}, found"
                    f" {found[0]}x{found[1]}"
                )

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, indices: Tensor) -> Batch:
        """Return the squares at `indices` (N,), with their degraded forms (N, channels, size / scale, size / scale)."""
        return self.whole.read(indices).replace(degraded=self.degraded.read(indices).image)

    def labels(self) -> None:
        """Return None: there are none."""

    def fingerprint(self) -> str:
        """Return a hash of both."""
        both = self.whole.fingerprint() + self.degraded.fingerprint()
        return hashlib.sha256(both.encode()).hexdigest()[:16]

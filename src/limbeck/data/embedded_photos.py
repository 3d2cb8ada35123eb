"""Photographs that come with scikit-image (extra `classic`): cut-outs for a first run without any download."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import final

import torch

from limbeck.data.base import Data, Images, Split, Subset
from limbeck.data.cutouts import Cutouts
from limbeck.errors import MissingExtra, RecipeError

# All in the public domain or under CC0; none is in two splits.
PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": ("coffee.png", "motorcycle_left.png", "hubble_deep_field.jpg", "gravel.png", "grass.png", "retina.jpg"),
    "validation": ("rocket.jpg",),
    "test": ("astronaut.png", "chelsea.png"),
}


@final
class EmbeddedPhotos(Data):
    """Square cut-outs of photographs on a regular grid, nothing resized: a cup of coffee, a cat, an astronaut...

    Those of one single colour, at the border of a picture, are left out.

    Args:
        size: Height and width of a cut-out in pixels.
        stride: Pixels from one cut-out to the next of the training split; null for `size`: they do not overlap. Those
            of the other splits never do.
        channels: 3 for RGB, 1 for grey.

    Raises:
        MissingExtra: scikit-image is not installed.
        RecipeError: An argument that cannot be used.
    """

    name = "embedded-photos"

    def __init__(self, size: int = 64, stride: int | None = None, channels: int = 3) -> None:
        step = size if stride is None else stride
        if not (1 <= size <= 256 and step >= 1):
            raise RecipeError(
                f"EmbeddedPhotos: expected a size from 1 to 256 and a stride of at least 1, found {size} and {stride}"
            )
        if channels not in (1, 3):
            raise RecipeError(f"EmbeddedPhotos.channels: expected 1 or 3, found {channels}")
        found = importlib.util.find_spec("skimage")
        if found is None or found.origin is None:
            raise MissingExtra("scikit-image", "classic")
        self.folder = Path(found.origin).parent / "data"
        self.size, self.step, self.image_shape = size, step, (channels, size, size)
        self._splits: dict[Split, Images] = {}

    def split(self, name: Split) -> Images:
        """Return the cut-outs of a split, cut on the first call."""
        if name not in self._splits:
            step = self.step if name == "train" else max(self.step, self.size)
            files = [self.folder / file for file in PHOTOGRAPHS[name]]
            squares = Cutouts(files, self.image_shape[0], self.size, step)
            image = squares.read(torch.arange(len(squares))).image
            assert image is not None
            lively = (image.amax((2, 3)) > image.amin((2, 3))).any(1)  # else normalising it has no finite gradient
            self._splits[name] = Subset(squares, lively.nonzero()[:, 0])
        return self._splits[name]

"""A data set of which only a few training images have been labelled."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.data.base import Data, Images, Split, Subset
from limbeck.errors import DataError, RecipeError
from limbeck.ground.randomness import generator


@final
class FewImages(Data):
    """Another data set with `per_class` training images of each class; validation and test stay whole.

    Which images are kept is drawn once, whatever the seed of a run: all its arms and seeds have the same few. A set
    with more of them holds those of a set with fewer.

    Args:
        data: The whole set.
        per_class: Images of each class, at least 1.
        draw: Number of the draw: another one keeps other images.

    Raises:
        RecipeError: A number below its least.
        DataError: When the images are asked for: they have no labels, or a class has fewer images.
    """

    def __init__(self, data: Data, per_class: int, draw: int = 0) -> None:
        for name, value, least in (("per_class", per_class, 1), ("draw", draw, 0)):
            if value < least:
                raise RecipeError(f"FewImages.{name}: expected a whole number of at least {least}, found {value}")
        self.data, self.per_class, self.draw = data, per_class, draw
        self.name = f"{data.name}-{per_class}-a-class" + (f"-draw{draw}" if draw else "")
        self.image_shape, self.classes, self.reference_split = data.image_shape, data.classes, data.reference_split
        self.mask_classes, self.kinds = data.mask_classes, data.kinds
        self._train: Subset | None = None

    def gives(self) -> tuple[str, ...]:
        """Return the fields of the whole set's batches."""
        return self.data.gives()

    def split(self, name: Split) -> Images:
        """Return the samples of a split."""
        if name != "train":
            return self.data.split(name)
        if self._train is None:
            images = self.data.split("train")
            label = images.labels()
            if label is None or not self.classes:
                raise DataError(
                    f"{self.data.name}: expected images with labels, found no labels; choose a labelled set"
                )
            self._train = Subset(images, self._kept(label))
        return self._train

    def _kept(self, label: Tensor) -> Tensor:
        """Return the indices (classes · per_class,) of the images to keep, in order, given the labels (N,) of all."""
        order = torch.randperm(len(label), generator=generator(self.draw, "few images"))
        kept = []
        for number, name in enumerate(self.classes):
            found = order[label[order] == number]
            if len(found) < self.per_class:
                raise DataError(
                    f"{self.data.name}: expected {self.per_class} training images of {name!r}, found {len(found)};"
                    " lower FewImages.per_class"
                )
            kept.append(found[: self.per_class])
        return torch.cat(kept).sort().values

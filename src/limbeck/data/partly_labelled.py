"""A data set of which only a share of the training images has masks."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import final

import torch
from torch import Tensor

from limbeck.data.base import Data, Images, Split, Subset
from limbeck.errors import RecipeError
from limbeck.ground.randomness import generator
from limbeck.types import VOID, Batch


@final
class PartlyLabelled(Data):
    """Another data set of which a share of the training images keeps its masks; those of the others are all void.

    Which images keep them is drawn once, whatever the seed of a run: all its arms and seeds have the same. A larger
    share holds the images of a smaller one. Validation and test stay whole. The name says the share, as in
    "camvid-1of8-labelled"; without the others, "camvid-1of8".

    Args:
        data: The whole set.
        share: Part of the training images that keeps its masks, in (0, 1]; at least one image.
        draw: Number of the draw: another one keeps others.
        drop: Leave the images without masks out: what can be learnt without them.
        balance: Repeat the images with masks until they are about half of all, so that half of a batch has masks.

    Raises:
        RecipeError: An argument that cannot be used, or data without masks.
        DataError: When the images are asked for: they have no masks.
    """

    def __init__(self, data: Data, share: float, draw: int = 0, *, drop: bool = False, balance: bool = False) -> None:
        if not 0 < share <= 1:
            raise RecipeError(f"PartlyLabelled.share: expected a part in (0, 1], found {share}")
        if draw < 0:
            raise RecipeError(f"PartlyLabelled.draw: expected a whole number of at least 0, found {draw}")
        if not data.mask_classes:
            raise RecipeError(f"PartlyLabelled.data: expected data with masks, found {data.name}, which has none")
        self.data, self.share, self.draw, self.drop, self.balance = data, share, draw, drop, balance
        self.name = "-".join(
            [data.name, _spoken(share), *([] if drop else ["labelled"]), *([f"draw{draw}"] if draw else [])]
        )
        self.image_shape, self.classes, self.mask_classes = data.image_shape, data.classes, data.mask_classes
        self.kinds, self.reference_split = data.kinds, data.reference_split
        self._train: Images | None = None

    def gives(self) -> tuple[str, ...]:
        """Return the fields of the whole set's batches."""
        return self.data.gives()

    def split(self, name: Split) -> Images:
        """Return the samples of a split."""
        if name != "train":
            return self.data.split(name)
        if self._train is None:
            images = self.data.split("train")
            count = max(1, round(self.share * len(images)))
            order = torch.randperm(len(images), generator=generator(self.draw, "partly labelled"))
            kept = order[:count].sort().values
            repeat = max(1, round(len(images) / count) - 1) if self.balance else 1
            self._train = Subset(images, kept) if self.drop else SomeMasks(images, kept, repeat)
        return self._train


class SomeMasks(Images):
    """The samples of a split, most of them without their masks.

    Args:
        images: The split.
        kept: (M,), int64, the indices of those whose masks stay.
        repeat: How often these occur, the repetitions behind all others.
    """

    def __init__(self, images: Images, kept: Tensor, repeat: int = 1) -> None:
        self.images, self.kept, self.repeat = images, kept, repeat
        self.places = torch.cat([torch.arange(len(images)), kept.repeat(repeat - 1)])
        self.streaming = images.streaming

    def __len__(self) -> int:
        return len(self.places)

    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices`, void where the mask is not kept.

        Raises:
            DataError: There are no masks.
        """
        places = self.places[indices]
        batch = self.images.read(places)
        gone = ~torch.isin(places, self.kept)
        return batch.replace(
            mask=batch.need("mask", "PartlyLabelled").masked_fill(gone[:, None, None], VOID), index=indices
        )

    def labels(self) -> Tensor | None:
        """Return the labels of the images, or None."""
        label = self.images.labels()
        return None if label is None else label[self.places]

    def fingerprint(self) -> str:
        """Return a hash of the whole split's fingerprint and of whose masks are kept."""
        content = (self.images.fingerprint(), "masks", self.kept.tolist(), self.repeat)
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _spoken(share: float) -> str:
    """Return a share as in "1of8", or as a number where it is no simple fraction."""
    fraction = Fraction(share).limit_denominator(64)
    simple = abs(fraction - share) < 2e-4 * share
    return f"{fraction.numerator}of{fraction.denominator}" if simple else f"{share:g}"

"""Random changes of whole batches of images; what they need is drawn by the engine, one number for each image.

What changes colours or covers pixels leaves masks and targets as they are. What moves pixels is a `Warp`, or `Flip`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limbeck.data.base import Augmentation
from limbeck.errors import require
from limbeck.types import Draw, Kind

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Flip(Augmentation):
    """Mirrors images.

    Args:
        probability: How often.
        vertical: Upside down instead of left to right.
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    any_size = True

    def __init__(self, probability: float = 0.5, *, vertical: bool = False, name: str = "flip") -> None:
        require("Flip.probability", 0 <= probability <= 1, "a number in [0, 1]", probability)
        self.probability, self.vertical, self.name = probability, vertical, name

    def draws(self) -> Mapping[str, Draw]:
        """Return one uniform number: below `probability` flips."""
        return {self.name: Draw((), "uniform")}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the images, some of them mirrored."""
        return self._mirrored(image, drawn)

    def move(self, pixels: Tensor, drawn: Mapping[str, Tensor], kind: Kind) -> Tensor:
        """Return what belongs to the images, the same of it mirrored."""
        return self._mirrored(pixels, drawn)

    def _mirrored(self, pixels: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return pixels (N, ..., H, W), some of them mirrored."""
        flips = (drawn[self.name] < self.probability).reshape(-1, *[1] * (pixels.ndim - 1))
        return torch.where(flips, pixels.flip(-2 if self.vertical else -1), pixels)


class Cutout(Augmentation):
    """Covers a square with one value (DeVries and Taylor 2017, arXiv:1708.04552).

    The centre of the square is anywhere in the image, so that part of it may lie outside. Masks and targets keep what
    is covered: it has to be told from what surrounds it.

    Args:
        share: Side of the square, as a part of the image's shorter side.
        fill: What it is covered with, in [-1, 1].
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, share: float = 0.25, *, fill: float = 0.0, name: str = "cutout") -> None:
        require("Cutout.share", 0 <= share <= 1, "a part in [0, 1]", share)
        require("Cutout.fill", -1 <= fill <= 1, "a value in [-1, 1]", fill)
        self.share, self.fill, self.name = share, fill, name

    def draws(self) -> Mapping[str, Draw]:
        """Return two uniform numbers: where the centre is in x and y."""
        return {self.name: Draw((2,), "uniform")}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the covered images."""
        height, width = image.shape[2:]
        side = round(self.share * min(height, width))
        inside = (
            _span(drawn[self.name][:, 1], height, side)[:, :, None]
            & _span(drawn[self.name][:, 0], width, side)[:, None]
        )
        return image.masked_fill(inside[:, None], self.fill)


class ColourJitter(Augmentation):
    """Changes brightness, then contrast, then saturation; masks and targets stay.

    With images in [0, 1] and a factor drawn for each from [1 - amount, 1 + amount], it moves pixels away from, or
    towards, black (brightness), the image's mean luma (contrast) and the pixel's own luma (saturation, which leaves
    grey images as they are). After each, values are clamped to the range of images.

    Args:
        brightness: Largest change of the factor, in [0, 1].
        contrast: Likewise.
        saturation: Likewise.
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    any_size = True

    def __init__(
        self,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        *,
        name: str = "colour_jitter",
    ) -> None:
        self.amounts = (brightness, contrast, saturation)
        for argument, amount in zip(("brightness", "contrast", "saturation"), self.amounts, strict=True):
            require(f"ColourJitter.{argument}", 0 <= amount <= 1, "a change in [0, 1]", amount)
        self.name = name

    def draws(self) -> Mapping[str, Draw]:
        """Return three uniform numbers: the factors of brightness, contrast and saturation."""
        return {self.name: Draw((3,), "uniform")}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the images (N, C, H, W) in their changed colours."""
        uniform = drawn[self.name]
        factor = (1 + uniform.new_tensor(self.amounts) * (2 * uniform - 1)).to(image.dtype)[..., None, None, None]
        # In place from the second operation on: for large images fresh memory takes longer than the arithmetic.
        image = image.add(1).mul_(factor[:, 0]).sub_(1).clamp_(-1, 1)
        mean = luma(image).mean((2, 3), keepdim=True)
        image = image.sub(mean).mul_(factor[:, 1]).add_(mean).clamp_(-1, 1)
        grey = luma(image)
        return image.sub(grey).mul_(factor[:, 2]).add_(grey).clamp_(-1, 1)


def luma(image: Tensor) -> Tensor:
    """Return the luma (N, 1, H, W) of RGB images; of others, the mean of their channels."""
    if image.shape[1] != len(LUMA):
        return image.mean(1, keepdim=True)
    return (image * image.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


class AugmentationSequence(Augmentation):
    """Several augmentations, one after another.

    Args:
        augmentations: In the order in which they are applied; what they draw must have different names.
    """

    def __init__(self, augmentations: Sequence[Augmentation]) -> None:
        names = [name for augmentation in augmentations for name in augmentation.draws()]
        twice = sorted({name for name in names if names.count(name) > 1})
        require("AugmentationSequence", not twice, "different names (give one of them another `name`)", twice)
        self.augmentations = list(augmentations)
        self.any_size = all(augmentation.any_size for augmentation in self.augmentations)

    def draws(self) -> Mapping[str, Draw]:
        """Return what all of them draw."""
        return {name: draw for augmentation in self.augmentations for name, draw in augmentation.draws().items()}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the images after all of them."""
        for augmentation in self.augmentations:
            image = augmentation(image, drawn)
        return image

    def move(self, pixels: Tensor, drawn: Mapping[str, Tensor], kind: Kind) -> Tensor:
        """Return what belongs to the images after all of them."""
        for augmentation in self.augmentations:
            pixels = augmentation.move(pixels, drawn, kind)
        return pixels


def _span(centre: Tensor, length: int, side: int) -> Tensor:
    """Return which of `length` pixels lie in the `side` pixels about a centre (N,) in [0, 1): (N, length)."""
    first = (centre * length).floor() - side // 2
    place = torch.arange(length, device=centre.device)
    return (place >= first[:, None]) & (place < first[:, None] + side)

"""Differentiable augmentation for GANs (Zhao, Liu, Lin, Zhu and Han 2020, arXiv:2006.10738)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from limbeck.data.base import Augmentation
from limbeck.errors import RecipeError, nearest
from limbeck.types import Draw, Kind

ONE = Draw((), "uniform")
PAIR = Draw((2,), "uniform")
# What each word of a policy draws: uniform numbers in [0, 1), one for an amount, two for a place (x, y).
POLICIES: dict[str, dict[str, Draw]] = {
    "color": {"brightness": ONE, "saturation": ONE, "contrast": ONE},
    "translation": {"translation": PAIR},
    "cutout": {"cutout": PAIR},
}


class DiffAugment(Augmentation):
    """Changes real and generated images in front of a discriminator, so that few images are not learnt by heart.

    "color" changes brightness, saturation and contrast, "translation" shifts by up to 1/8 of the side, with 0 beyond
    the edge, and "cutout" sets a square of half the side to 0. As in the paper, "color" does not clamp: values may
    leave [-1, 1], because a clamp would take the generator's gradient away where the image is saturated. Masks and
    targets are shifted too, with void and 0 beyond the edge; what is cut out of an image they keep.

    Args:
        policy: Which changes, in their order, with commas: of color, translation, cutout.
        name: Prefix of what is drawn. Two instances of different names change real and generated images
            differently.

    Raises:
        RecipeError: An unknown or repeated word in the policy.
    """

    def __init__(self, policy: str = "color,translation,cutout", name: str = "diffaugment") -> None:
        self.words = [word.strip() for word in policy.split(",")]
        for word in self.words:
            if word not in POLICIES:
                raise RecipeError(
                    f"DiffAugment.policy: expected words of {', '.join(POLICIES)}, found {word!r}"
                    f"{nearest(word, POLICIES)}"
                )
        if len(set(self.words)) < len(self.words):
            raise RecipeError(f"DiffAugment.policy: expected every word once, found {policy!r}")
        self.name = name

    def draws(self) -> Mapping[str, Draw]:
        """Return the uniform numbers of every change in the policy."""
        return {f"{self.name}.{key}": draw for word in self.words for key, draw in POLICIES[word].items()}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the changed images (N, C, H, W)."""
        for word in self.words:
            for key in POLICIES[word]:
                image = CHANGES[key](image, drawn[f"{self.name}.{key}"])
        return image

    def move(self, pixels: Tensor, drawn: Mapping[str, Tensor], kind: Kind) -> Tensor:
        """Return what belongs to the images, shifted as they are."""
        if "translation" not in self.words:
            return pixels
        uniform = drawn[f"{self.name}.translation"]
        if kind.moves == "nearest":
            return translation(pixels[:, None], uniform, fill=kind.void)[:, 0]
        return translation(pixels, uniform)


def brightness(image: Tensor, uniform: Tensor) -> Tensor:
    """Return x + (u - 1/2)."""
    return image + (_column(uniform, image) - 0.5)


def saturation(image: Tensor, uniform: Tensor) -> Tensor:
    """Return m + 2u (x - m), with m the mean over channels of each pixel."""
    mean = image.mean(1, keepdim=True)
    return mean + 2 * _column(uniform, image) * (image - mean)


def contrast(image: Tensor, uniform: Tensor) -> Tensor:
    """Return m + (u + 1/2) (x - m), with m the mean of each image."""
    mean = image.mean((1, 2, 3), keepdim=True)
    return mean + (_column(uniform, image) + 0.5) * (image - mean)


def translation(image: Tensor, uniform: Tensor, fill: int = 0) -> Tensor:
    """Return images shifted by whole pixels, up to 1/8 of the side either way; `fill` comes in."""
    for axis, column in ((3, 0), (2, 1)):
        side = image.shape[axis]
        most = int(side / 8 + 0.5)
        source = torch.arange(side, device=image.device) + _whole(uniform[:, column], 2 * most + 1)[:, None] - most
        outside = (source < 0) | (source >= side)
        shape = (len(image), 1, 1, side) if axis == 3 else (len(image), 1, side, 1)
        index = source.clamp(0, side - 1).reshape(shape).expand_as(image)
        image = image.gather(axis, index).masked_fill(outside.reshape(shape), fill)
    return image


def cutout(image: Tensor, uniform: Tensor) -> Tensor:
    """Return images with a square of half their sides set to 0, its centre anywhere in the image."""
    inside = []
    for axis, column in ((3, 0), (2, 1)):
        side = image.shape[axis]
        hole = int(side / 2 + 0.5)
        first = _whole(uniform[:, column], side + 1 - hole % 2)[:, None] - hole // 2
        place = torch.arange(side, device=image.device)
        inside.append((place >= first) & (place < first + hole))
    across, down = inside
    return image.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "saturation": saturation,
    "contrast": contrast,
    "translation": translation,
    "cutout": cutout,
}


def _column(uniform: Tensor, like: Tensor) -> Tensor:
    return uniform.to(like.dtype)[:, None, None, None]


def _whole(uniform: Tensor, high: int) -> Tensor:
    """Return uniform numbers in [0, 1) as whole numbers in [0, high)."""
    return (uniform * high).long()

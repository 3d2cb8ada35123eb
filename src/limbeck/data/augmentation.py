"""Random changes of whole batches of images; what they need is drawn by the engine, one number for each image.

Those that move pixels by an affine map are a `Warp`: they say by which map, and images, masks and targets move alike.
What changes colours or covers pixels leaves masks and targets as they are.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.base import Augmentation
from limbeck.errors import require
from limbeck.types import VOID, Draw

Padding = Literal["reflection", "border", "zeros"]
Mode = Literal["bilinear", "nearest"]
UNIFORM = Draw((), "uniform")
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def resample(image: Tensor, matrix: Tensor, shift: Tensor, *, padding: Padding, mode: Mode = "bilinear") -> Tensor:
    """Return images whose pixel at offset p from the centre is the given image's at `matrix` p + `shift`.

    Args:
        image: (N, C, H, W).
        matrix: (N, 2, 2), acting on (x, y) in pixels, x to the right and y down.
        shift: (N, 2), (x, y) in pixels.
        padding: What lies outside: the mirrored image, its edge pixels, or 0 (mid-grey).
        mode: "nearest" moves whole pixels exactly.

    Returns:
        (N, C, H, W); differentiable with respect to `image`.
    """
    # affine_grid counts in halves of the image's sides: u = p / half, so matrix and shift change their units.
    half = matrix.new_tensor([image.shape[3] / 2, image.shape[2] / 2])
    theta = torch.cat([matrix * half / half[:, None], (shift / half)[..., None]], dim=2)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    moved = F.grid_sample(image.to(grid.dtype), grid, mode=mode, padding_mode=padding, align_corners=False)
    return moved.to(image.dtype)


class Warp(Augmentation):
    """Moves pixels by an affine map of each image; masks by nearest neighbour, so that no class is invented.

    Attributes:
        padding: What comes in from outside; under "zeros" it is void in masks.
        mode: How images and targets are interpolated.
    """

    padding: Padding
    mode: Mode = "bilinear"

    @abstractmethod
    def movement(self, drawn: Mapping[str, Tensor], sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the matrices (N, 2, 2) and shifts (N, 2) that `resample` takes.

        Args:
            drawn: What was drawn.
            sides: Width and height of what moves, in pixels.
        """

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the moved images."""
        matrix, shift = self.movement(drawn, (image.shape[3], image.shape[2]))
        return resample(image, matrix, shift, padding=self.padding, mode=self.mode)

    def on_mask(self, mask: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the moved masks."""
        matrix, shift = self.movement(drawn, (mask.shape[2], mask.shape[1]))
        # Counted from VOID, the zeros that come in from outside are void. Differences up to 255 are exact as floats.
        from_void = (mask[:, None] - VOID).to(matrix.dtype)
        moved = resample(from_void, matrix, shift, padding=self.padding, mode="nearest")
        return moved[:, 0].to(mask.dtype) + VOID

    def on_target(self, target: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the moved targets."""
        return self(target, drawn)


class Flip(Augmentation):
    """Mirrors images.

    Args:
        probability: How often.
        vertical: Upside down instead of left to right.
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, probability: float = 0.5, *, vertical: bool = False, name: str = "flip") -> None:
        require("Flip.probability", 0 <= probability <= 1, "a number in [0, 1]", probability)
        self.probability, self.vertical, self.name = probability, vertical, name

    def draws(self) -> Mapping[str, Draw]:
        """Return one uniform number: below `probability` flips."""
        return {self.name: UNIFORM}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the images, some of them mirrored."""
        return self._mirrored(image, drawn)

    def on_mask(self, mask: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the masks, the same of them mirrored."""
        return self._mirrored(mask, drawn)

    def on_target(self, target: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the targets, the same of them mirrored."""
        return self._mirrored(target, drawn)

    def _mirrored(self, pixels: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return pixels (N, ..., H, W), some of them mirrored."""
        flips = (drawn[self.name] < self.probability).reshape(-1, *[1] * (pixels.ndim - 1))
        return torch.where(flips, pixels.flip(-2 if self.vertical else -1), pixels)


class Rotation(Warp):
    """Rotates images about their centre.

    Args:
        degrees: Largest rotation, to either side.
        padding: What comes in from outside: "reflection", "border" (edge pixels) or "zeros" (mid-grey).
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, degrees: float = 15.0, *, padding: Padding = "reflection", name: str = "rotation") -> None:
        require("Rotation.degrees", 0 <= degrees <= 180, "degrees in [0, 180]", degrees)
        self.degrees, self.padding, self.name = degrees, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return one uniform number: the angle."""
        return {self.name: UNIFORM}

    def movement(self, drawn: Mapping[str, Tensor], sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the rotations; an angle above 0 is counter-clockwise."""
        angle = math.radians(self.degrees) * (2 * drawn[self.name] - 1)
        cosine, sine = angle.cos(), angle.sin()
        # y points down, so this matrix turns the sampled point clockwise as seen, and with it the image the other way.
        matrix = torch.stack([cosine, -sine, sine, cosine], dim=1).reshape(-1, 2, 2)
        return matrix, matrix.new_zeros(len(matrix), 2)


class Scale(Warp):
    """Zooms in and out about the centre; the zoom is uniform in its logarithm.

    Args:
        low: Smallest zoom: below 1, the image gets smaller.
        high: Largest zoom.
        padding: What comes in from outside: "reflection", "border" (edge pixels) or "zeros" (mid-grey).
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(
        self, low: float = 0.9, high: float = 1.1, *, padding: Padding = "reflection", name: str = "scale"
    ) -> None:
        require("Scale", 0 < low <= high, "0 < low <= high", (low, high))
        self.low, self.high, self.padding, self.name = low, high, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return one uniform number: the zoom."""
        return {self.name: UNIFORM}

    def movement(self, drawn: Mapping[str, Tensor], sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the zooms."""
        matrix = _zoom(drawn[self.name], self.low, self.high)
        return matrix, matrix.new_zeros(len(matrix), 2)


class RandomScaleCrop(Warp):
    """Zooms, then cuts a window of the old size out at random: how segmenters are trained (as Chen et al. 2017,
    arXiv:1706.05587, section 4.1).

    The zoom is uniform in its logarithm. Above 1 the window lies anywhere in the larger image, below 1 the smaller
    image anywhere in the window.

    Args:
        low: Smallest zoom.
        high: Largest zoom.
        padding: What surrounds a smaller image: "reflection", "border" (edge pixels) or "zeros" (mid-grey, void).
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(
        self, low: float = 0.5, high: float = 2.0, *, padding: Padding = "zeros", name: str = "scale_crop"
    ) -> None:
        require("RandomScaleCrop", 0 < low <= high, "0 < low <= high", (low, high))
        self.low, self.high, self.padding, self.name = low, high, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return three uniform numbers: the zoom, and the window's place in x and y."""
        return {self.name: Draw((3,), "uniform")}

    def movement(self, drawn: Mapping[str, Tensor], sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the zooms and the windows' places."""
        uniform = drawn[self.name]
        matrix = _zoom(uniform[:, 0], self.low, self.high)
        # The window sees 1 / zoom of the image's sides; half of what is left lies on either side of the centre.
        room = (1 - matrix[:, :1, 0]).abs() / 2
        return matrix, (2 * uniform[:, 1:] - 1) * room * uniform.new_tensor(sides)


class Translation(Warp):
    """Shifts images by any distance, also by parts of a pixel.

    Args:
        share: Largest shift, to either side, as a part of the image's side.
        padding: What comes in from outside: "reflection", "border" (edge pixels) or "zeros" (mid-grey).
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, share: float = 0.1, *, padding: Padding = "reflection", name: str = "translation") -> None:
        require("Translation.share", 0 <= share <= 1, "a part in [0, 1]", share)
        self.share, self.padding, self.name = share, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return two uniform numbers: the shifts in x and y."""
        return {self.name: Draw((2,), "uniform")}

    def movement(self, drawn: Mapping[str, Tensor], sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the shifts."""
        shift = self.share * (2 * drawn[self.name] - 1)
        return _identity(shift), shift * shift.new_tensor(sides)


class Crop(Warp):
    """Pads images, then cuts a window of the old size out at random: a shift by whole pixels, without blur.

    Args:
        pixels: Width of the padding.
        padding: What it is filled with: "reflection", "border" (edge pixels) or "zeros" (mid-grey).
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    mode = "nearest"

    def __init__(self, pixels: int = 4, *, padding: Padding = "reflection", name: str = "crop") -> None:
        require("Crop.pixels", pixels >= 0, "at least 0", pixels)
        self.pixels, self.padding, self.name = pixels, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return two whole numbers: the window's left and top edge in the padded image."""
        return {self.name: Draw((2,), "integers", 2 * self.pixels + 1)}

    def movement(self, drawn: Mapping[str, Tensor], sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the windows' shifts."""
        shift = (drawn[self.name] - self.pixels).float()
        return _identity(shift), shift


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
        image = (-1 + factor[:, 0] * (image + 1)).clamp(-1, 1)
        mean = luma(image).mean((2, 3), keepdim=True)
        image = (mean + factor[:, 1] * (image - mean)).clamp(-1, 1)
        grey = luma(image)
        return (grey + factor[:, 2] * (image - grey)).clamp(-1, 1)


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

    def draws(self) -> Mapping[str, Draw]:
        """Return what all of them draw."""
        return {name: draw for augmentation in self.augmentations for name, draw in augmentation.draws().items()}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the images after all of them."""
        for augmentation in self.augmentations:
            image = augmentation(image, drawn)
        return image

    def on_mask(self, mask: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the masks after all of them."""
        for augmentation in self.augmentations:
            mask = augmentation.on_mask(mask, drawn)
        return mask

    def on_target(self, target: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the targets after all of them."""
        for augmentation in self.augmentations:
            target = augmentation.on_target(target, drawn)
        return target


def _zoom(uniform: Tensor, low: float, high: float) -> Tensor:
    """Return the matrices (N, 2, 2) of zooms about the centre, uniform in their logarithm."""
    zoom = low * (high / low) ** uniform
    return torch.eye(2, device=zoom.device) / zoom[:, None, None]


def _identity(like: Tensor) -> Tensor:
    return torch.eye(2, device=like.device).expand(len(like), 2, 2)


def _span(centre: Tensor, length: int, side: int) -> Tensor:
    """Return which of `length` pixels lie in the `side` pixels about a centre (N,) in [0, 1): (N, length)."""
    first = (centre * length).floor() - side // 2
    place = torch.arange(length, device=centre.device)
    return (place >= first[:, None]) & (place < first[:, None] + side)

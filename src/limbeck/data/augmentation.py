"""Random changes of whole batches of images; what they need is drawn by the engine, one number for each image.

Those that move pixels by an affine map share `resample`. Only the image is changed: a task with masks or targets
of the same place has to be given data that is augmented already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.base import Augmentation
from limbeck.errors import RecipeError
from limbeck.types import Draw

Padding = Literal["reflection", "border", "zeros"]
UNIFORM = Draw((), "uniform")


def resample(
    image: Tensor, matrix: Tensor, shift: Tensor, *, padding: Padding, mode: Literal["bilinear", "nearest"] = "bilinear"
) -> Tensor:
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


class Flip(Augmentation):
    """Mirrors images.

    Args:
        probability: How often.
        vertical: Upside down instead of left to right.
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, probability: float = 0.5, *, vertical: bool = False, name: str = "flip") -> None:
        _expect(0 <= probability <= 1, "Flip.probability", "a number in [0, 1]", probability)
        self.probability, self.vertical, self.name = probability, vertical, name

    def draws(self) -> Mapping[str, Draw]:
        """Return one uniform number: below `probability` flips."""
        return {self.name: UNIFORM}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the images, some of them mirrored."""
        flips = (drawn[self.name] < self.probability)[:, None, None, None]
        return torch.where(flips, image.flip(2 if self.vertical else 3), image)


class Rotation(Augmentation):
    """Rotates images about their centre.

    Args:
        degrees: Largest rotation, to either side.
        padding: What comes in from outside: "reflection", "border" (edge pixels) or "zeros" (mid-grey).
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, degrees: float = 15.0, *, padding: Padding = "reflection", name: str = "rotation") -> None:
        _expect(0 <= degrees <= 180, "Rotation.degrees", "degrees in [0, 180]", degrees)
        self.degrees, self.padding, self.name = degrees, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return one uniform number: the angle."""
        return {self.name: UNIFORM}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the rotated images; an angle above 0 is counter-clockwise."""
        angle = math.radians(self.degrees) * (2 * drawn[self.name] - 1)
        cosine, sine = angle.cos(), angle.sin()
        # y points down, so this matrix turns the sampled point clockwise as seen, and with it the image the other way.
        matrix = torch.stack([cosine, -sine, sine, cosine], dim=1).reshape(-1, 2, 2)
        return resample(image, matrix, matrix.new_zeros(len(matrix), 2), padding=self.padding)


class Scale(Augmentation):
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
        _expect(0 < low <= high, "Scale", "0 < low <= high", (low, high))
        self.low, self.high, self.padding, self.name = low, high, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return one uniform number: the zoom."""
        return {self.name: UNIFORM}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the zoomed images."""
        zoom = self.low * (self.high / self.low) ** drawn[self.name]
        matrix = torch.eye(2, device=zoom.device) / zoom[:, None, None]
        return resample(image, matrix, matrix.new_zeros(len(matrix), 2), padding=self.padding)


class Translation(Augmentation):
    """Shifts images by any distance, also by parts of a pixel.

    Args:
        share: Largest shift, to either side, as a part of the image's side.
        padding: What comes in from outside: "reflection", "border" (edge pixels) or "zeros" (mid-grey).
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, share: float = 0.1, *, padding: Padding = "reflection", name: str = "translation") -> None:
        _expect(0 <= share <= 1, "Translation.share", "a part in [0, 1]", share)
        self.share, self.padding, self.name = share, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return two uniform numbers: the shifts in x and y."""
        return {self.name: Draw((2,), "uniform")}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the shifted images."""
        shift = self.share * (2 * drawn[self.name] - 1)
        sides = shift.new_tensor([image.shape[3], image.shape[2]])
        return resample(image, _identity(shift), shift * sides, padding=self.padding)


class Crop(Augmentation):
    """Pads images, then cuts a window of the old size out at random: a shift by whole pixels, without blur.

    Args:
        pixels: Width of the padding.
        padding: What it is filled with: "reflection", "border" (edge pixels) or "zeros" (mid-grey).
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, pixels: int = 4, *, padding: Padding = "reflection", name: str = "crop") -> None:
        _expect(pixels >= 0, "Crop.pixels", "at least 0", pixels)
        self.pixels, self.padding, self.name = pixels, padding, name

    def draws(self) -> Mapping[str, Draw]:
        """Return two whole numbers: the window's left and top edge in the padded image."""
        return {self.name: Draw((2,), "integers", 2 * self.pixels + 1)}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the windows."""
        shift = (drawn[self.name] - self.pixels).float()
        return resample(image, _identity(shift), shift, padding=self.padding, mode="nearest")


class Cutout(Augmentation):
    """Covers a square with one value (DeVries and Taylor 2017, arXiv:1708.04552).

    The centre of the square is anywhere in the image, so that part of it may lie outside.

    Args:
        share: Side of the square, as a part of the image's shorter side.
        fill: What it is covered with, in [-1, 1].
        name: Prefix of what is drawn, different for each augmentation of a sequence.
    """

    def __init__(self, share: float = 0.25, *, fill: float = 0.0, name: str = "cutout") -> None:
        _expect(0 <= share <= 1, "Cutout.share", "a part in [0, 1]", share)
        _expect(-1 <= fill <= 1, "Cutout.fill", "a value in [-1, 1]", fill)
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


class AugmentationSequence(Augmentation):
    """Several augmentations, one after another.

    Args:
        augmentations: In the order in which they are applied; what they draw must have different names.
    """

    def __init__(self, augmentations: Sequence[Augmentation]) -> None:
        names = [name for augmentation in augmentations for name in augmentation.draws()]
        twice = sorted({name for name in names if names.count(name) > 1})
        _expect(not twice, "AugmentationSequence", "different names (give one of them another `name`)", twice)
        self.augmentations = list(augmentations)

    def draws(self) -> Mapping[str, Draw]:
        """Return what all of them draw."""
        return {name: draw for augmentation in self.augmentations for name, draw in augmentation.draws().items()}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the images after all of them."""
        for augmentation in self.augmentations:
            image = augmentation(image, drawn)
        return image


def _identity(like: Tensor) -> Tensor:
    return torch.eye(2, device=like.device).expand(len(like), 2, 2)


def _span(centre: Tensor, length: int, side: int) -> Tensor:
    """Return which of `length` pixels lie in the `side` pixels about a centre (N,) in [0, 1): (N, length)."""
    first = (centre * length).floor() - side // 2
    place = torch.arange(length, device=centre.device)
    return (place >= first[:, None]) & (place < first[:, None] + side)


def _expect(holds: bool, argument: str, expected: str, found: object) -> None:
    if not holds:
        raise RecipeError(f"{argument}: expected {expected}, found {found}")

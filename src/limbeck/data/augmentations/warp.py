"""Augmentations that move pixels by an affine map: they say by which, and images, masks and targets move alike."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.base import Augmentation
from limbeck.errors import require
from limbeck.types import Draw, Kind

Padding = Literal["reflection", "border", "zeros"]
Mode = Literal["bilinear", "nearest"]


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

    def move(self, pixels: Tensor, drawn: Mapping[str, Tensor], kind: Kind) -> Tensor:
        """Return what belongs to the images, moved as they are."""
        if kind.moves != "nearest":
            return self(pixels, drawn)
        matrix, shift = self.movement(drawn, (pixels.shape[2], pixels.shape[1]))
        # Counted from void, the zeros that come in from outside are void. Small whole numbers are exact as floats.
        from_void = (pixels[:, None] - kind.void).to(matrix.dtype)
        moved = resample(from_void, matrix, shift, padding=self.padding, mode="nearest")
        return moved[:, 0].to(pixels.dtype) + kind.void


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
        return {self.name: Draw((), "uniform")}

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
        return {self.name: Draw((), "uniform")}

    def movement(self, drawn: Mapping[str, Tensor], sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the zooms."""
        matrix = _zoom(drawn[self.name], self.low, self.high)
        return matrix, matrix.new_zeros(len(matrix), 2)


class RandomScaleCrop(Warp):
    """Zooms, then cuts a window of the old size out at random (Chen et al. 2017, arXiv:1706.05587, section 4.1).

    Segmenters are trained so. The zoom is uniform in its logarithm. Above 1 the window lies anywhere in the larger
    image, below 1 the smaller image anywhere in the window.

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


def _zoom(uniform: Tensor, low: float, high: float) -> Tensor:
    """Return the matrices (N, 2, 2) of zooms about the centre, uniform in their logarithm."""
    zoom = low * (high / low) ** uniform
    return torch.eye(2, device=zoom.device) / zoom[:, None, None]


def _identity(like: Tensor) -> Tensor:
    return torch.eye(2, device=like.device).expand(len(like), 2, 2)

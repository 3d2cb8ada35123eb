"""Edges as thin, unbroken lines: the maxima of a smoothed gradient, linked from strong to weak."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.baselines.base import EdgeDetector
from limbeck.baselines.filters import blur, luminance, slopes
from limbeck.errors import RecipeError
from limbeck.losses.tensors import positive


@final
class Canny(EdgeDetector):
    """Canny's detector (1986): smooth, differentiate, keep the maxima across the edge, link them.

    A pixel is kept where no gradient is larger on either side of it, in the direction of its own gradient, between
    the neighbours by linear interpolation. Kept pixels of at least `high` are edges, and so are those of at least
    `low` that are linked to them through any of eight neighbours. The border of the image is none. It has no
    parameters.

    Args:
        sigma: σ of the Gaussian in pixels.
        low: The weakest gradient of an edge. Gradients are Sobel's sums of luminance in [0, 1], not divided by
            anything: a straight step of height h that is not smoothed has 4 h.
        high: The gradient that an edge must reach somewhere, at least `low`.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, sigma: float = 1.0, low: float = 0.1, high: float = 0.2) -> None:
        super().__init__()
        positive(sigma, "Canny.sigma")
        positive(low, "Canny.low")
        if not high >= low:
            raise RecipeError(f"Canny.high: expected at least low, which is {low}, found {high}")
        self.sigma, self.low, self.high = sigma, low, high

    def forward(self, image: Tensor) -> Tensor:
        """Return the edges (N, 1, H, W), 0 or 1, of grey or RGB images (N, C, H, W) in [-1, 1]."""
        down, right = (4 * slope for slope in slopes(blur(luminance(image), self.sigma)))
        size = (down.square() + right.square()).sqrt()
        weak = _is_maximum(size, down, right) & (size >= self.low)
        return linked(weak & (size >= self.high), weak).to(size)


def linked(strong: Tensor, weak: Tensor) -> Tensor:
    """Return the pixels of `weak` that are linked to `strong` ones through weak ones; all (N, 1, H, W), bool."""
    while True:
        grown = _dilated(strong) & weak
        if torch.equal(grown, strong):
            return strong
        strong = grown


def _dilated(mask: Tensor) -> Tensor:
    """Return where a pixel, or one of its eight neighbours, is in the mask (N, 1, H, W)."""
    padded = F.pad(mask, (1, 1, 1, 1))
    rows = padded[..., :-2, :] | padded[..., 1:-1, :] | padded[..., 2:, :]
    return rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]


def _is_maximum(size: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Return where no gradient (N, 1, H, W) across the edge is larger; never at the border of the image."""
    height, width = size.shape[2:]
    padded = F.pad(size, (1, 1, 1, 1))

    def at(row: int, column: int) -> Tensor:
        return padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]

    steep, falling = down.abs() > right.abs(), down * right >= 0  # the gradient points to the lower right, or back
    major, minor = torch.maximum(down.abs(), right.abs()), torch.minimum(down.abs(), right.abs())
    share = minor / major.clamp(min=torch.finfo(size.dtype).tiny)
    found = torch.zeros_like(size, dtype=torch.bool)
    found[..., 1:-1, 1:-1] = True
    for side in (1, -1):
        diagonal = torch.where(falling, at(side, side), at(side, -side))
        straight = torch.where(steep, at(side, 0), torch.where(falling, at(0, side), at(0, -side)))
        found &= diagonal * share + straight * (1 - share) <= size
    return found

"""New edge-directed interpolation (Li & Orchard 2001): along edges, not across them."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer

REACH = 2  # pixels on each side of the window that the covariance is taken from
RIDGE = 1e-3  # in the units of the covariance: flat windows have no direction, and get the mean of the neighbours
HALF = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)  # Keys' cubic kernel at half a pixel


@final
class EdgeDirected(Restorer):
    """Doubles images: a new pixel is a weighted mean of its four neighbours, with weights that fit the pixels around.

    α = (CᵀC)⁻¹ Cᵀ y (their eq. 4): y are the pixels of a window, C their neighbours in the same four directions, twice
    as far away (geometric duality). Pixels between four others come first, those between two old and two of these after
    them. What comes out has the old pixels on every second place; it is moved by half a pixel, so that it covers the
    same area as the image. Scale 4 doubles twice. It has no parameters.

    Args:
        scale: How many times larger images become: 2 or 4.
        channels: Channels C of the image, each by itself.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(self, scale: int = 4, channels: int = 3) -> None:
        super().__init__()
        check_sizes(self, scale=scale, channels=channels)
        if scale not in (2, 4):
            raise RecipeError(f"EdgeDirected.scale: expected 2 or 4, as it can only double, found {scale}")
        self.channels = self.inputs = channels
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        planes = image.flatten(0, 1)[:, None]
        for _ in range(self.scale // 2):
            planes = _moved(_doubled(planes))
        return planes.view(*image.shape[:2], *planes.shape[2:]).clamp(-1, 1)


DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
STRAIGHT = ((-1, 0), (1, 0), (0, -1), (0, 1))


def _doubled(image: Tensor) -> Tensor:
    """Return images (N, 1, 2H, 2W) whose pixels at even places are those of images (N, 1, H, W)."""
    count, _, height, width = image.shape
    grid = image.new_zeros(count, 1, 2 * height, 2 * width)
    grid[..., ::2, ::2] = image
    # Between four old pixels: those at ±1 on the new grid are half as far away as the old pixels' own neighbours.
    grid[..., 1::2, 1::2] = _mean(grid, DIAGONAL, step=2)[..., 1::2, 1::2]
    between = _mean(grid, STRAIGHT, step=1)
    grid[..., ::2, 1::2], grid[..., 1::2, ::2] = between[..., ::2, 1::2], between[..., 1::2, ::2]
    return grid


def _mean(grid: Tensor, directions: tuple[tuple[int, int], ...], step: int) -> Tensor:
    """Return the weighted mean of the four neighbours of every place (N, 1, 2H, 2W), of use where they are known.

    Args:
        grid: (N, 1, 2H, 2W).
        directions: Where the neighbours are.
        step: Places from one known pixel of a window to the next, along rows and columns or, if 1, along diagonals.
    """
    height, width = grid.shape[2:]
    reach = 2 * REACH + 4  # even, so that mirroring keeps even places even
    padded = (
        F.pad(grid, (reach, reach, reach, reach), mode="replicate")
        if min(height, width) <= reach
        else F.pad(grid, (reach, reach, reach, reach), mode="reflect")
    )

    def at(row: int, column: int) -> Tensor:
        return padded[..., reach + row : reach + row + height, reach + column : reach + column + width]

    covariance = grid.new_zeros(*grid.shape, 4, 4)
    cross = grid.new_zeros(*grid.shape, 4)
    for row, column in _window(step):
        centre = at(row, column)
        around = torch.stack([at(row + 2 * r, column + 2 * c) for r, c in directions], -1)
        covariance += around[..., :, None] * around[..., None, :]
        cross += around * centre[..., None]
    ridge = RIDGE * (1 + covariance.diagonal(dim1=-2, dim2=-1).mean(-1))[..., None, None] * torch.eye(4).to(grid)
    weight = torch.linalg.solve(covariance + ridge, cross + ridge.diagonal(dim1=-2, dim2=-1) / 4)
    near = torch.stack([at(r, c) for r, c in directions], -1)
    return torch.where(_sane(weight)[..., None], weight, 0.25).mul(near).sum(-1)


def _window(step: int) -> list[tuple[int, int]]:
    """Return where the known pixels around a place are: around one between four, or around one between two and two."""
    span = range(-2 * REACH, 2 * REACH + 1)
    if step == 2:
        return [(r, c) for r in span for c in span if r % 2 and c % 2]
    return [(r, c) for r in span for c in span if (r + c) % 2 and abs(r) + abs(c) <= 2 * REACH]


def _sane(weight: Tensor) -> Tensor:
    """Return where weights (..., 4) are those of a mean, and not of an extrapolation that happens to fit."""
    return ((weight.sum(-1) - 1).abs() < 0.2) & (weight.abs().amax(-1) < 1.5)


def _moved(image: Tensor) -> Tensor:
    """Return images whose pixel k is what lay between k - 1 and k."""
    kernel = torch.tensor(HALF).to(image)
    padded = F.pad(image, (2, 1, 2, 1), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))

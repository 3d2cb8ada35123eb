"""Regions by k-means: pixels of alike colour that are not too far from each other."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.baselines.base import Regions
from limbeck.baselines.filters import lab
from limbeck.baselines.regions.region_maps import numbered
from limbeck.losses.tensors import not_negative
from limbeck.networks.blocks.building import check_sizes


@final
class KMeansRegions(Regions):
    """Lloyd's algorithm (1982) on the colour (L*a*b*) and the position of pixels, all images of a batch at once.

    It starts from the pixel nearest to the mean, and adds the one farthest from those chosen so far (Gonzalez 1985),
    so nothing is random. A centre without pixels stays where it is. Regions need not be connected. It has no
    parameters.

    Args:
        regions: The most regions of an image.
        position: How much place counts: the whole height or width of an image is as far as this much of L*a*b*, where
            black and white are 100 apart. 0 leaves colour alone.
        steps: The most times that centres move; fewer when no pixel changes its region.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, regions: int = 16, position: float = 50.0, steps: int = 20) -> None:
        super().__init__()
        check_sizes(self, regions=regions, steps=steps)
        not_negative(position, "KMeansRegions.position")
        self.regions, self.position, self.steps = regions, position, steps

    def forward(self, image: Tensor) -> Tensor:
        """Return the regions (N, H, W), numbered from 0, of grey or RGB images (N, C, H, W) in [-1, 1]."""
        height, width = image.shape[2:]
        colour = lab(image.detach())
        down, right = (torch.linspace(0, self.position, side).to(colour) for side in (height, width))
        place = torch.stack(torch.meshgrid(down, right, indexing="ij")).expand(len(image), -1, -1, -1)
        points = torch.cat([colour, place], 1).flatten(2)  # (N, D, P)
        nearest = clustered(points, min(self.regions, points.shape[2]), self.steps)
        return numbered(nearest.view(len(image), height, width))


def clustered(points: Tensor, count: int, steps: int) -> Tensor:
    """Return the nearest centre (N, P) of every point (N, D, P) after at most `steps` of Lloyd's steps."""
    centres = _spread_out(points, count)
    nearest = _nearest(points, centres)
    for _ in range(steps):
        share = torch.zeros(len(points), count, dtype=points.dtype, device=points.device)
        share.scatter_add_(1, nearest, torch.ones_like(points[:, 0]))
        index = nearest[:, None].expand_as(points)
        total = torch.zeros_like(centres).scatter_add_(2, index, points)
        centres = torch.where(share[:, None] > 0, total / share[:, None].clamp(min=1), centres)
        before, nearest = nearest, _nearest(points, centres)
        if torch.equal(before, nearest):
            break
    return nearest


def _spread_out(points: Tensor, count: int) -> Tensor:
    """Return `count` points (N, D, count): one in the middle, then always the farthest from those before."""
    chosen = _distances(points, points.mean(2, keepdim=True)).argmin(1)
    far = torch.full_like(points[:, 0], torch.inf)
    centres = []
    for _ in range(count):
        centres.append(points.gather(2, chosen[:, None, None].expand(-1, points.shape[1], 1)))
        far = torch.minimum(far, _distances(points, centres[-1]))
        chosen = far.argmax(1)
    return torch.cat(centres, 2)


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest centre (N, P), by |c|² - 2 c·p; a dimension at a time, so that a batch changes no rounding."""
    found = centres.square().sum(1)[:, :, None].repeat(1, 1, points.shape[2])
    for d in range(points.shape[1]):
        found.addcmul_(centres[:, d, :, None], points[:, d, None], value=-2)
    return found.argmin(1)


def _distances(points: Tensor, centre: Tensor) -> Tensor:
    """Return the square distances (N, P) of points (N, D, P) to one centre (N, D, 1)."""
    return (points - centre).square().sum(1)

"""Regions by mode seeking: small regions join that climb to the same peak of the density of colour and place."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from limbeck.baselines.base import Regions
from limbeck.baselines.filters import lab
from limbeck.baselines.regions.region_maps import areas, numbered, pooled
from limbeck.losses.tensors import positive
from limbeck.networks.blocks.building import check_choice

STEPS = 200  # the most moves of a point
STILL = 1e-3  # bandwidths; a point that moves less has arrived


@final
class MeanShift(Regions):
    """Mean shift in the joint domain of colour and position (Comaniciu and Meer 2002), on small regions for speed.

    Every region is a point, its mean colour (L*a*b*) by the bandwidth of colour and its centre by that of place, and
    weighs as much as it has pixels. A point moves to the weighted mean of the points around it until it rests at a
    mode. Regions whose modes are less than half a bandwidth apart are one. It has no parameters.

    Args:
        regions: Makes the small regions, e.g. `Slic`.
        colour: Bandwidth of colour, in units of L*a*b*, where black and white are 100 apart.
        place: Bandwidth of position, as a part of the image's longer side.
        kernel: "gaussian", exp(-d² / 2), or "flat", the points less than a bandwidth away.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        regions: Regions,
        *,
        colour: float = 4.0,
        place: float = 0.08,
        kernel: Literal["gaussian", "flat"] = "gaussian",
    ) -> None:
        super().__init__()
        positive(colour, "MeanShift.colour")
        positive(place, "MeanShift.place")
        check_choice(self, ("gaussian", "flat"), kernel=kernel)
        self.regions, self.colour, self.place, self.kernel = regions, colour, place, kernel

    def forward(self, image: Tensor) -> Tensor:
        """Return the regions (N, H, W), numbered from 0, of grey or RGB images (N, C, H, W) in [-1, 1]."""
        small, colours = self.regions(image), lab(image.detach()) / self.colour
        joined = [self._joined(*pair) for pair in zip(small, colours, strict=True)]
        return numbered(torch.stack([one[part] for one, part in zip(joined, small, strict=True)]))

    def _joined(self, regions: Tensor, colour: Tensor) -> Tensor:
        """Return the number of the mode (R,) of each of the small regions (H, W)."""
        from scipy.sparse import csr_array  # noqa: PLC0415 (heavy, and only needed here)
        from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

        height, width = regions.shape
        down, right = (torch.arange(side).to(colour) / (max(height, width) * self.place) for side in (height, width))
        place = torch.stack(torch.meshgrid(down, right, indexing="ij"))
        points = pooled(torch.cat([colour, place]), regions).cpu().double()
        mode = modes(points, areas(regions).cpu().double(), self.kernel)
        close = csr_array((torch.cdist(mode, mode) < 0.5).numpy())
        return torch.from_numpy(connected_components(close, directed=False)[1]).long().to(regions.device)


def modes(points: Tensor, weight: Tensor, kernel: Literal["gaussian", "flat"]) -> Tensor:
    """Return where points (R, D) come to rest that move as x ← Σ w K(x - p) p / Σ w K(x - p), with a bandwidth of 1.

    Args:
        points: p (R, D); they are also where x starts.
        weight: w (R,).
        kernel: K.
    """
    found = points
    for _ in range(STEPS):
        square = (found[:, None] - points[None]).square().sum(2)
        near = ((-square / 2).exp() if kernel == "gaussian" else (square < 1).double()) * weight
        # A point that has left all others behind, which a flat kernel can, stays.
        total = near.sum(1, keepdim=True)
        before, found = found, torch.where(total > 0, near @ points / total.clamp(min=1e-300), found)
        if (found - before).square().sum(1).max() < STILL**2:
            break
    return found

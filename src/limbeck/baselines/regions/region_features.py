"""What a region looks like in numbers: its colours, its texture, its place, its size, and what is around it."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.baselines.filters import blur, lab, slopes
from limbeck.baselines.regions.region_maps import areas, pooled

ORIENTATIONS = 8
FEATURES = 25 + ORIENTATIONS
AROUND, AWAY = 0.05, 0.15  # σ of the surroundings, and how far above and below they are seen, by the image's height


def region_features(image: Tensor, regions: Tensor) -> Tensor:
    """Return 33 features (R, 33) of each region (H, W) of one grey or RGB image (C, H, W) in [-1, 1].

    Mean and standard deviation of the colour (L*a*b* / 100), of the steepness of L, and of the place (0 to 1 downwards
    and to the right); the shares of the orientations of its gradient over 180 degrees, weighted by their strength;
    the logarithm of its part of the image; and colour and steepness of its surroundings, of those above and below.
    """
    colour = lab(image[None]) / 100
    down, right = slopes(colour[:, :1])
    steep = torch.hypot(down, right)
    seen = torch.cat([colour, steep], 1)
    values = torch.cat([seen[0], _place(*regions.shape).to(seen)])
    mean = pooled(values, regions)
    spread = pooled((values - mean.T[:, regions]).square(), regions).sqrt()
    turned = pooled(_oriented(down[0], right[0], steep[0]), regions)
    share = turned / turned.sum(1, keepdim=True).clamp(min=1e-3)  # next to nothing where it is flat
    size = (areas(regions).to(seen) / regions.numel()).log()
    return torch.cat([mean, spread, share, size[:, None], pooled(_surroundings(seen), regions)], 1)


def _place(height: int, width: int) -> Tensor:
    """Return how far down and to the right each pixel is, (2, H, W), 0 to 1."""
    return torch.stack(torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"))


def _oriented(down: Tensor, right: Tensor, steep: Tensor) -> Tensor:
    """Return the steepness (1, H, W) at the place of its orientation, and 0 at the others, (ORIENTATIONS, H, W)."""
    turn = torch.atan2(down, right) / torch.pi % 1  # 0 to 1 over 180 degrees
    index = (turn * ORIENTATIONS).long().clamp(max=ORIENTATIONS - 1)
    return torch.zeros(ORIENTATIONS, *steep.shape[1:]).to(steep).scatter_(0, index, steep)


def _surroundings(seen: Tensor) -> Tensor:
    """Return what is blurred of (1, D, H, W), here, above and below, (3 D, H, W); the image's edge goes on."""
    height = seen.shape[2]
    wide = blur(seen, AROUND * height)[0]
    row = torch.arange(height, device=seen.device)
    away = round(AWAY * height)
    return torch.cat([wide, *(wide[:, (row + step).clamp(0, height - 1)] for step in (-away, away))])

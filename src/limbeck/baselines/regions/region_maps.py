"""What regions share: they are numbered without gaps, often found image by image, and have neighbours and means."""

from __future__ import annotations

from abc import abstractmethod
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.baselines.base import Regions
from limbeck.errors import MissingExtra
from limbeck.losses.tensors import precise
from limbeck.types import VOID


class RegionsByImage(Regions):
    """Regions that scikit-image finds, one image after the other, on the CPU.

    Raises:
        MissingExtra: scikit-image is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        if find_spec("skimage") is None:
            raise MissingExtra("scikit-image", "classic")

    @abstractmethod
    def divide(self, image: NDArray[np.float64]) -> NDArray[np.integer]:
        """Return the regions (H, W), whole numbers of any kind, of an image (H, W, C) in [0, 1]."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the regions (N, H, W), numbered from 0, of images (N, C, H, W) in [-1, 1]."""
        seen = ((image.detach().cpu().double() + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).contiguous()
        found = [torch.from_numpy(self.divide(one).astype(np.int64)) for one in seen.numpy()]
        return numbered(torch.stack(found).to(image.device))


def numbered(regions: Tensor) -> Tensor:
    """Return regions (N, H, W), int64, with those of each image numbered from 0 without a gap, in their order."""
    return torch.stack([torch.unique(one, return_inverse=True)[1] for one in regions])


def pooled(values: Tensor, regions: Tensor) -> Tensor:
    """Return the mean (R, D) of the values (D, H, W) in each of R regions (H, W) numbered from 0 without a gap."""
    flat = precise(values).flatten(1).T
    total = flat.new_zeros(int(regions.max()) + 1, flat.shape[1]).index_add_(0, regions.flatten(), flat)
    return total / areas(regions).to(flat)[:, None]


def areas(regions: Tensor) -> Tensor:
    """Return the number of pixels (R,) of the regions (H, W)."""
    return regions.flatten().bincount()


def neighbours(regions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs of regions (H, W) that touch, (E, 2), the lower first, and the length of their border (E,)."""
    sides = [
        torch.stack([one.flatten(), other.flatten()])
        for one, other in ((regions[1:], regions[:-1]), (regions[:, 1:], regions[:, :-1]))
    ]
    touching = torch.cat(sides, 1).sort(0).values
    touching = touching[:, touching[0] != touching[1]]
    pairs, length = torch.unique(touching, dim=1, return_counts=True)
    return pairs.T, length


def votes(regions: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Return how many pixels (R, K) of each region (H, W) have which class in the mask (H, W); void has no vote."""
    known = mask != VOID
    count = int(regions.max()) + 1
    return (regions[known] * classes + mask[known]).bincount(minlength=count * classes).view(count, classes)

"""How good a segmentation could be whose classes are right, and whose regions are what they are."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from limbeck.baselines.base import Regions
from limbeck.baselines.regions.region_maps import votes
from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Segmenter
from limbeck.types import VOID

LEAST = 1e-6  # the least probability, so that logits are finite


@final
class OracleRegions(Segmenter):
    """Gives every region the class that most of its pixels have in the true mask: the upper bound for its regions.

    It is no technique, since it is shown the truth. What it loses is lost where regions cross the borders between
    classes (the achievable segmentation accuracy of Liu et al. 2011). It has no parameters.

    Attributes:
        oracle: It is called with the true mask.

    Args:
        regions: Makes the regions, e.g. `Slic`.
        classes: Number of classes K, at least 2.
        channels: Channels C of the image.

    Raises:
        RecipeError: An argument cannot be used.
    """

    oracle: ClassVar[bool] = True

    def __init__(self, regions: Regions, classes: int = 2, channels: int = 3) -> None:
        super().__init__()
        check_sizes(self, channels=channels)
        check_sizes(self, at_least=2, classes=classes)
        self.regions, self.classes, self.channels = regions, classes, channels

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the logarithm of the share of each class among a region's pixels, (N, K, H, W), at least log 1e-6.

        Void pixels have no vote, and a region of nothing else is of class 0.

        Args:
            image: (N, C, H, W) in [-1, 1].
            mask: The true classes (N, H, W). Without them all is void, which is of use only for measuring what a
                call costs.

        Raises:
            RecipeError: The mask has another shape, or classes that are too high.
        """
        regions: Tensor = self.regions(image)
        truth = torch.full_like(regions, VOID) if mask is None else mask
        if truth.shape != regions.shape:
            raise RecipeError(
                f"OracleRegions: expected a mask {tuple(regions.shape)}, found {tuple(truth.shape)}; give the mask of"
                " the same images"
            )
        known = truth[truth != VOID]
        if len(known) and int(known.max()) >= self.classes:
            raise RecipeError(f"OracleRegions.classes: expected more than {int(known.max())}, found {self.classes}")
        return torch.stack([self._told(*pair) for pair in zip(regions, truth, strict=True)])

    def _told(self, regions: Tensor, mask: Tensor) -> Tensor:
        """Return the log shares (K, H, W) of one image's regions (H, W)."""
        count = votes(regions, mask, self.classes).float()
        count[:, 0] += (count.sum(1) == 0).to(count)
        return (count / count.sum(1, keepdim=True)).clamp(min=LEAST).log().T[:, regions]

"""Regions by normalised cuts: small regions are divided where they are alike within, and unlike between."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.baselines.base import Regions
from limbeck.baselines.regions.region_maps import RegionsByImage
from limbeck.losses.tensors import positive
from limbeck.networks.blocks.building import check_sizes


@final
class NormalizedCutRegions(RegionsByImage):
    """Normalised cuts (Shi and Malik 2000) of the graph of neighbouring small regions, by scikit-image.

    An edge weighs exp(-d² / σ), d the distance of the mean colours in [0, 255]. The graph is cut in two by the second
    eigenvector of its Laplacian, and each part again, as long as the cut costs less than the threshold.

    Args:
        regions: Makes the small regions, e.g. `Slic`.
        threshold: The most that a cut may cost, above 0: each of its two parts adds the share of its edges that is cut.
        sigma: σ of the weights.
        cuts: Places at which the eigenvector is tried to be divided.

    Raises:
        RecipeError: An argument cannot be used.
        MissingExtra: scikit-image is not installed.
    """

    def __init__(self, regions: Regions, *, threshold: float = 0.1, sigma: float = 255.0, cuts: int = 10) -> None:
        super().__init__()
        positive(threshold, "NormalizedCutRegions.threshold")
        positive(sigma, "NormalizedCutRegions.sigma")
        check_sizes(self, at_least=2, cuts=cuts)
        self.regions, self.threshold, self.sigma, self.cuts = regions, threshold, sigma, cuts

    def divide(self, image: NDArray[np.float64]) -> NDArray[np.integer]:
        """Return the regions (H, W) of an image (H, W, C) in [0, 1]."""
        from skimage.graph import cut_normalized, rag_mean_color  # noqa: PLC0415 (heavy, and an extra)

        small = self.regions(torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1)[0].numpy()
        if small.max() == 0:
            return np.asarray(small)
        graph = rag_mean_color(image * 255, small, mode="similarity", sigma=self.sigma)  # type: ignore[no-untyped-call]
        # The eigenvectors are found from a random start, which is the same for every image.
        cut = cut_normalized(small, graph, self.threshold, self.cuts, rng=0)  # type: ignore[no-untyped-call]
        return np.asarray(cut)

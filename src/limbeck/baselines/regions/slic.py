"""Regions as superpixels: small, compact, about equally large, and true to edges."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from limbeck.baselines.regions.region_maps import RegionsByImage
from limbeck.losses.tensors import not_negative, positive
from limbeck.networks.blocks.building import check_sizes


@final
class Slic(RegionsByImage):
    """Simple linear iterative clustering (Achanta et al. 2012): k-means in colour and position, each centre nearby.

    scikit-image's `slic`, in L*a*b* for grey images, too; every superpixel is connected.

    Args:
        regions: About how many superpixels an image gets.
        compactness: How much position counts against colour; large makes squares.
        sigma: σ in pixels of a Gaussian that smoothes the image first; 0 for none.

    Raises:
        RecipeError: An argument cannot be used.
        MissingExtra: scikit-image is not installed.
    """

    def __init__(self, regions: int = 300, compactness: float = 10.0, sigma: float = 0.0) -> None:
        super().__init__()
        check_sizes(self, regions=regions)
        positive(compactness, "Slic.compactness")
        not_negative(sigma, "Slic.sigma")
        self.regions, self.compactness, self.sigma = regions, compactness, sigma

    def divide(self, image: NDArray[np.float64]) -> NDArray[np.integer]:
        """Return the superpixels (H, W) of an image (H, W, C) in [0, 1]."""
        from skimage.segmentation import slic  # noqa: PLC0415 (heavy, and an extra)

        options = {"compactness": self.compactness, "sigma": self.sigma, "start_label": 0, "channel_axis": -1}
        coloured = image.repeat(3, axis=2) if image.shape[2] == 1 else image  # so that compactness means the same
        return np.asarray(slic(coloured, self.regions, **options))

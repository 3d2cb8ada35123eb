"""Regions by a minimum spanning tree: parts join where the edge between them is weak for what they are."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from limbeck.baselines.regions.region_maps import RegionsByImage
from limbeck.losses.tensors import not_negative, positive
from limbeck.networks.blocks.building import check_sizes


@final
class Felzenszwalb(RegionsByImage):
    """The graph-based segmentation of Felzenszwalb and Huttenlocher (2004), by scikit-image.

    Two parts join when the weakest edge between them is no stronger than the strongest in either one's spanning tree
    plus scale / its number of pixels (their eq. 4 and 5).

    Args:
        scale: k of their eq. 5; large prefers large regions. Colours are in [0, 255].
        sigma: σ in pixels of a Gaussian that smoothes the image first; 0 for none.
        least: Pixels of the smallest region: smaller ones join a neighbour.

    Raises:
        RecipeError: An argument cannot be used.
        MissingExtra: scikit-image is not installed.
    """

    def __init__(self, scale: float = 100.0, sigma: float = 0.8, least: int = 20) -> None:
        super().__init__()
        positive(scale, "Felzenszwalb.scale")
        not_negative(sigma, "Felzenszwalb.sigma")
        check_sizes(self, least=least)
        self.scale, self.sigma, self.least = scale, sigma, least

    def divide(self, image: NDArray[np.float64]) -> NDArray[np.integer]:
        """Return the regions (H, W) of an image (H, W, C) in [0, 1]."""
        from skimage.segmentation import felzenszwalb  # noqa: PLC0415 (heavy, and an extra)

        return np.asarray(felzenszwalb(image, self.scale, self.sigma, self.least, channel_axis=-1))

"""Regions as catchment basins: where water runs to on the landscape of an image's gradient."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.baselines.filters import blur, luminance, slopes
from limbeck.baselines.regions.region_maps import RegionsByImage
from limbeck.losses.tensors import positive


@final
class Watershed(RegionsByImage):
    """Floods the gradient of the smoothed luminance from its local minima (Vincent and Soille 1991).

    The flooding is scikit-image's; Sobel's operator gives the gradient. Every pixel belongs to a basin: no line is
    left between them.

    Args:
        sigma: σ in pixels of the Gaussian before the gradient; the larger, the fewer regions.

    Raises:
        RecipeError: σ is not above 0.
        MissingExtra: scikit-image is not installed.
    """

    def __init__(self, sigma: float = 2.0) -> None:
        super().__init__()
        positive(sigma, "Watershed.sigma")
        self.sigma = sigma

    def divide(self, image: NDArray[np.float64]) -> NDArray[np.integer]:
        """Return the basins (H, W) of an image (H, W, C) in [0, 1]."""
        from skimage.segmentation import watershed  # noqa: PLC0415 (heavy, and an extra)

        seen = luminance(torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1)
        down, right = slopes(blur(seen, self.sigma))
        height = torch.hypot(down, right)[0, 0].numpy()
        return np.asarray(watershed(height, markers(height)))  # type: ignore[no-untyped-call]


def markers(height: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the local minima (H, W) of a landscape, each connected one with a number from 1; a plain is one."""
    from skimage.measure import label  # noqa: PLC0415 (heavy, and an extra)
    from skimage.morphology import local_minima  # noqa: PLC0415

    found = local_minima(height)  # type: ignore[no-untyped-call]
    plains = found if found.any() else np.ones_like(found)
    return np.asarray(label(plains, connectivity=2), dtype=np.int64)  # type: ignore[no-untyped-call]

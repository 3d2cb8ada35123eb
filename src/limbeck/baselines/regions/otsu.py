"""Regions by brightness: thresholds where they divide the histogram best."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.baselines.filters import luminance
from limbeck.baselines.regions.region_maps import RegionsByImage
from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes

MOST = 5  # levels; every combination of thresholds is tried


@final
class Otsu(RegionsByImage):
    """The thresholds of luminance with the largest variance between levels (Otsu 1979; several: Liao et al. 2001).

    scikit-image's `threshold_multiotsu`, on a histogram of 256 bins. An image with fewer different values than levels
    has a level for each value.

    Args:
        levels: Levels of brightness, 2 to 5.
        connected: Each connected part of a level is a region; else a level is one, wherever it is.

    Raises:
        RecipeError: The number of levels cannot be used.
        MissingExtra: scikit-image is not installed.
    """

    def __init__(self, levels: int = 2, connected: bool = False) -> None:
        super().__init__()
        check_sizes(self, at_least=2, levels=levels)
        if levels > MOST:
            raise RecipeError(f"Otsu.levels: expected at most {MOST}, found {levels}")
        self.levels, self.connected = levels, connected

    def divide(self, image: NDArray[np.float64]) -> NDArray[np.integer]:
        """Return the levels, or their connected parts, (H, W) of an image (H, W, C) in [0, 1]."""
        from skimage.filters import threshold_multiotsu  # noqa: PLC0415 (heavy, and an extra)
        from skimage.measure import label  # noqa: PLC0415

        seen = luminance(torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1)[0, 0].numpy()
        values = np.unique(seen)
        if len(values) <= self.levels:
            found = np.searchsorted(values, seen)
        else:
            found = np.digitize(seen, threshold_multiotsu(seen, self.levels))  # type: ignore[no-untyped-call]
        if self.connected:
            found = label(found, connectivity=1, background=-1)  # type: ignore[no-untyped-call]
        return np.asarray(found)

"""Edges where the second derivative of a smoothed image changes its sign."""

from __future__ import annotations

import math
from typing import final

from torch import Tensor

from limbeck.baselines.base import EdgeDetector
from limbeck.baselines.filters import along, gaussian, luminance, slopes
from limbeck.losses.tensors import positive


@final
class LaplacianOfGaussian(EdgeDetector):
    """Zero crossings of ∇²(G_σ * image), as strong as they are steep (Marr and Hildreth 1980).

    Edges are closed curves, one pixel wide: of two neighbours of different sign, the one that is nearer to zero. The
    slope of the response at a straight step of height h is h / (σ³ sqrt(2π)); it is divided by the same for h = 1. So
    an edge's strength is about the height of its step, and cut off at 1. It has no parameters.

    Args:
        sigma: σ of the Gaussian in pixels.
        threshold: From where on a pixel counts as an edge.

    Raises:
        RecipeError: An argument is not above 0.
    """

    def __init__(self, sigma: float = 2.0, threshold: float = 0.1) -> None:
        super().__init__()
        positive(sigma, "LaplacianOfGaussian.sigma")
        positive(threshold, "LaplacianOfGaussian.threshold")
        self.sigma, self.threshold = sigma, threshold

    def response(self, image: Tensor) -> Tensor:
        """Return ∇²(G_σ * luminance), (N, 1, H, W), of grey or RGB images (N, C, H, W) in [-1, 1]."""
        seen, smooth = luminance(image), gaussian(self.sigma)
        reach, variance = len(smooth) // 2, self.sigma**2
        curved = [w * ((i - reach) ** 2 / variance - 1) / variance for i, w in enumerate(smooth)]
        return along(along(seen, curved, 2), smooth, 3) + along(along(seen, smooth, 2), curved, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Return the edges (N, 1, H, W) in [0, 1] of grey or RGB images (N, C, H, W) in [-1, 1]."""
        response = self.response(image)
        down, right = (0.5 * slope for slope in slopes(response, (1.0,)))
        strength = (down.square() + right.square()).sqrt() * self.sigma**3 * math.sqrt(2 * math.pi)
        return strength.clamp(max=1) * _crosses(response)


def _crosses(response: Tensor) -> Tensor:
    """Return where a neighbour has the other sign and is farther from zero; of two as far, the positive one counts."""
    positive_here, size = response >= 0, response.abs()
    found = response.new_zeros(response.shape).bool()
    for dim in (2, 3):
        for shift in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)):  # the neighbour before, the neighbour after
            other = along(response, shift, dim)
            nearer = (size < other.abs()) | ((size == other.abs()) & positive_here)
            found |= (positive_here != (other >= 0)) & nearer
    return found

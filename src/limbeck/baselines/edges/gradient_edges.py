"""Edges where an image is steep: the magnitude of its gradient, by two operators of 3x3 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from limbeck.baselines.base import EdgeDetector
from limbeck.baselines.filters import luminance, slopes
from limbeck.losses.tensors import positive


@final
class Sobel(EdgeDetector):
    """Sobel's operator: central differences, smoothed across by (1, 2, 1) / 4 (Sobel and Feldman 1968).

    sqrt((g_x² + g_y²) / 2) of the luminance in [0, 1], which is 1 at most: where it rises by 1 in both directions. A
    straight step of height h gives about 0.7 h. It has no parameters.

    Args:
        threshold: From where on a pixel counts as an edge.

    Raises:
        RecipeError: The threshold is not above 0.
    """

    def __init__(self, threshold: float = 0.1) -> None:
        super().__init__()
        positive(threshold, "Sobel.threshold")
        self.threshold = threshold

    def forward(self, image: Tensor) -> Tensor:
        """Return how steep grey or RGB images (N, C, H, W) in [-1, 1] are, (N, 1, H, W) in [0, 1]."""
        return _steepness(image, (0.25, 0.5, 0.25))


@final
class Scharr(EdgeDetector):
    """Sobel's operator with the weights (3, 10, 3) / 16, nearly the same for edges of any direction (Scharr 2000).

    Its numbers mean what `Sobel`'s do. It has no parameters.

    Args:
        threshold: From where on a pixel counts as an edge.

    Raises:
        RecipeError: The threshold is not above 0.
    """

    def __init__(self, threshold: float = 0.1) -> None:
        super().__init__()
        positive(threshold, "Scharr.threshold")
        self.threshold = threshold

    def forward(self, image: Tensor) -> Tensor:
        """Return how steep grey or RGB images (N, C, H, W) in [-1, 1] are, (N, 1, H, W) in [0, 1]."""
        return _steepness(image, (3 / 16, 10 / 16, 3 / 16))


def _steepness(image: Tensor, smooth: Sequence[float]) -> Tensor:
    down, right = slopes(luminance(image), smooth)
    return ((down.square() + right.square()) / 2).sqrt().clamp(max=1)

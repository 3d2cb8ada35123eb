"""The degradation of deblurring: a Gaussian blur."""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.base import Degradation, to_levels
from limbeck.errors import RecipeError


@final
class Blur(Degradation):
    """Blurs with a Gaussian, mirrored at the borders, and rounds to 256 levels.

    Args:
        sigma: Its standard deviation in pixels, above 0.

    Raises:
        RecipeError: `sigma` is not above 0.
    """

    def __init__(self, sigma: float = 1.6) -> None:
        if not sigma > 0:
            raise RecipeError(f"Blur.sigma: expected a number of pixels above 0, found {sigma}")
        self.sigma = sigma

    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """Return images of the same shape; nothing is drawn."""
        reach = min(math.ceil(3 * self.sigma), *(side - 1 for side in image.shape[2:]))
        taps = torch.arange(-reach, reach + 1, dtype=image.dtype)
        kernel = torch.softmax(-(taps**2) / (2 * self.sigma**2), 0)
        planes = F.pad(image, (reach, reach, reach, reach), mode="reflect").flatten(0, 1)[:, None]
        planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
        return to_levels(planes.view_as(image))

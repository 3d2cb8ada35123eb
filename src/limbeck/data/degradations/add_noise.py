"""The degradation of denoising: Gaussian noise."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.data.base import Degradation
from limbeck.errors import RecipeError


@final
class AddNoise(Degradation):
    """Adds white Gaussian noise; values are neither rounded nor clamped, as the field does it (Zhang et al. 2017).

    Args:
        sigma: Its standard deviation in grey levels of 255, above 0.
        most: Where given, every image has a standard deviation of its own, uniform from `sigma` to `most`.

    Raises:
        RecipeError: `sigma` is not above 0, or `most` is below it.
    """

    def __init__(self, sigma: float = 25.0, most: float | None = None) -> None:
        if not sigma > 0 or (most is not None and most < sigma):
            raise RecipeError(f"AddNoise: expected sigma above 0, and most not below it, found {sigma} and {most}")
        self.sigma, self.most = sigma, most

    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """Return images of the same shape, which leave [-1, 1]."""
        return torch.stack([self._noisy(one, int(s)) for one, s in zip(image, seed, strict=True)])

    def _noisy(self, image: Tensor, seed: int) -> Tensor:
        draw = torch.Generator().manual_seed(seed)
        share = float(torch.rand((), generator=draw))
        sigma = self.sigma if self.most is None else self.sigma + share * (self.most - self.sigma)
        return image + torch.randn(image.shape, generator=draw) * sigma / 127.5

"""The contract of a sampler: the way from noise to an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from limbeck.ground.described import Described
from limbeck.networks.roles import Denoiser


class Sampler(Described, ABC):
    """Makes images of noise by asking a denoiser again and again, from time 1 down to 0.

    It decides at which times it asks, what it makes of the answers, and so what an image costs. It draws nothing
    itself: the same noise gives the same image.
    """

    room: ClassVar[str] = "samplers"

    @abstractmethod
    def __call__(self, denoiser: Denoiser, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W), about [-1, 1]; differentiable with respect to noise and denoiser.

        Args:
            denoiser: Whatever it `predicts`, if the sampler does not refuse that.
            noise: (N, C, H, W), standard normal: x_1.
            label: Classes (N,) for a denoiser that is conditioned on them.

        Raises:
            RecipeError: The sampler cannot use what the denoiser predicts.
        """

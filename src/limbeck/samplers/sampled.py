"""A denoiser that is called like any other generator."""

from __future__ import annotations

from typing import final

from torch import Tensor

from limbeck.networks.roles import Denoiser, Generator
from limbeck.samplers.base import Sampler


@final
class Sampled(Generator):
    """A generator made of a denoiser and a sampler: its latent is the noise.

    Tasks, costs (every step counts) and methods need to know nothing of denoising: they call it once.

    Args:
        denoiser: The network; the only part that can be trained.
        sampler: Makes images of noise with it.
    """

    def __init__(self, denoiser: Denoiser, sampler: Sampler) -> None:
        super().__init__()
        self.denoiser, self.sampler = denoiser, sampler
        self.latent_shape = self.image_shape = denoiser.image_shape
        self.classes = denoiser.classes

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W), about [-1, 1], from noise (N, C, H, W) and labels (N,)."""
        return self.sampler(self.denoiser, latent, label)

"""Wiener deconvolution: a known blur is undone as far as the noise allows."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.ground.resampling import resize
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer

TAIL = 8  # how far an impulse response is followed, in pixels of the small image


@final
class Wiener(Restorer):
    """F⁻¹[ H* / (|H|² + κ) · F(y) ], H the transfer function of the blur (Wiener 1949; Gonzalez & Woods, eq. 5.8-6).

    At scale 1 the blur is a Gaussian. Above 1 an image is enlarged bicubically first, and H is that of making small and
    enlarging together: what it does on average to a single bright pixel, wherever that lies (aliasing is left to κ).
    Images are mirrored at their borders. It has no parameters.

    Args:
        scale: How many times larger images become.
        channels: Channels C of the image.
        noise: κ, the power of the noise by that of the image, above 0.
        sigma: Standard deviation of the blur in pixels, at scale 1.

    Raises:
        RecipeError: An argument cannot be used.
    """

    response: Tensor

    def __init__(self, scale: int = 4, channels: int = 3, *, noise: float = 0.01, sigma: float = 1.6) -> None:
        super().__init__()
        check_sizes(self, scale=scale, channels=channels)
        for name, value in (("noise", noise), ("sigma", sigma)):
            if not value > 0:
                raise RecipeError(f"Wiener.{name}: expected a number above 0, found {value}")
        self.channels = self.inputs = channels
        self.scale, self.noise = scale, noise
        self.register_buffer("response", _gaussian(sigma) if scale == 1 else _resampled(scale), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        size = (image.shape[2] * self.scale, image.shape[3] * self.scale)
        found = image if self.scale == 1 else resize(image, size)
        for dim in (2, 3):
            found = self._along(found, dim)
        return found[..., : size[0], : size[1]].clamp(-1, 1)

    def _along(self, image: Tensor, dim: int) -> Tensor:
        """Return images deconvolved along one dimension, twice as long there: blurs are separable."""
        mirrored = torch.cat([image, image.flip(dim)], dim).movedim(dim, -1).contiguous()
        count, reach = mirrored.shape[-1], len(self.response) // 2
        kernel = self.response.new_zeros(count)
        kernel.index_add_(0, (torch.arange(len(self.response), device=image.device) - reach) % count, self.response)
        transfer = torch.fft.rfft(kernel.to(image))
        inverse = transfer.conj() / (transfer.abs().square() + self.noise) * (1 + self.noise)  # so that greys stay
        found: Tensor = torch.fft.irfft(torch.fft.rfft(mirrored) * inverse, count).movedim(-1, dim)
        return found


def _gaussian(sigma: float) -> Tensor:
    """Return a Gaussian (2 r + 1,) that sums to 1."""
    at = torch.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    return torch.softmax(-at.square() / (2 * sigma**2), 0)


def _resampled(scale: int) -> Tensor:
    """Return the mean impulse response (2 r + 1,) of making small and large again, over the phases of the impulse."""
    reach = TAIL * scale
    count = 4 * reach
    middle = torch.arange(scale) + count // 2
    impulses = torch.zeros(scale, 1, 1, count)
    impulses[torch.arange(scale), 0, 0, middle] = 1
    seen = resize(resize(impulses, (1, count // scale)), (1, count))[:, 0, 0]
    return torch.stack([line[m - reach : m + reach + 1] for line, m in zip(seen, middle.tolist(), strict=True)]).mean(0)

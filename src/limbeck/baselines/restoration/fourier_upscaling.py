"""Enlarging images in the frequency domain: the spectrum is padded with zeros."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer


@final
class FourierUpscaling(Restorer):
    """Zero-padding of the spectrum, exact for band-limited images; it has no parameters.

    An image of n pixels is taken for a trigonometric polynomial, which is read at the centres of s n pixels: at
    k = -n/2 ... n/2 the padded spectrum is multiplied by exp(2πi k δ / n), δ = (1/s - 1)/2 the shift between the first
    centres; the Nyquist frequency is split between +n/2 and -n/2 (Oppenheim & Schafer, Discrete-Time Signal Processing,
    section 4.6).

    Args:
        scale: How many times larger images become.
        channels: Channels C of the image.
        mirrored: Mirror the image at its borders first, so that it is periodic without a jump; without, opposite
            borders ring into each other.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(self, scale: int = 4, channels: int = 3, *, mirrored: bool = True) -> None:
        super().__init__()
        check_sizes(self, scale=scale, channels=channels)
        self.channels = self.inputs = channels
        self.scale, self.mirrored = scale, mirrored

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        found = image
        for dim in (2, 3):
            found = self._along(found, dim)
        return found.clamp(-1, 1)

    def _along(self, image: Tensor, dim: int) -> Tensor:
        count = image.shape[dim]
        if self.mirrored:
            image = torch.cat([image, image.flip(dim)], dim)
        found = _enlarged(image.movedim(dim, -1).contiguous(), self.scale).movedim(-1, dim)
        return found.narrow(dim, 0, count * self.scale)


def _enlarged(signal: Tensor, scale: int) -> Tensor:
    """Return the periodic signals (..., n) at scale n points."""
    if scale == 1:
        return signal
    count = signal.shape[-1]
    spectrum = torch.fft.rfft(signal)
    frequency = torch.arange(spectrum.shape[-1], device=signal.device)
    turn = torch.exp(1j * (2 * math.pi * frequency / count * ((1 / scale - 1) / 2)))
    spectrum = spectrum * turn.to(spectrum.dtype)
    if count % 2 == 0:  # half of it belongs to the negative frequency, which rfft leaves out
        spectrum = torch.cat([spectrum[..., :-1], spectrum[..., -1:] / 2], -1)
    found: Tensor = torch.fft.irfft(spectrum, count * scale) * scale
    return found

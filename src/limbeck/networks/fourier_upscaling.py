"""Classical super-resolution by frequencies: the spectrum of the larger image is that of the smaller one, and zeros."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor

from limbeck.networks.building import check_choice, check_sizes
from limbeck.networks.roles import Restorer


@final
class FourierUpscaling(Restorer):
    """Pads the spectrum with zeros: exact for what has no frequency that the small image cannot carry.

    It is the interpolation by sinc functions of the sampling theorem (Shannon 1949, theorem 1), of an image that goes
    on for ever: "fourier" repeats it, so that opposite borders ring where they differ; "cosine" mirrors it at its
    borders first. The spectrum of the mirrored image is the discrete cosine transform (DCT-II, Ahmed et al. 1974), so
    that this is the same as padding those coefficients with zeros. Without parameters, and differentiable.

    Args:
        scale: How many times larger images become.
        channels: Channels C of the image.
        transform: "fourier" (periodic borders) or "cosine" (mirrored borders).

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, scale: int = 4, channels: int = 3, transform: Literal["fourier", "cosine"] = "cosine") -> None:
        super().__init__()
        check_sizes(self, scale=scale, channels=channels)
        check_choice(self, ("fourier", "cosine"), transform=transform)
        self.scale, self.channels, self.inputs = scale, channels, channels
        self.transform = transform

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        rows = self._longer(image).transpose(2, 3)
        return self._longer(rows).transpose(2, 3).clamp(-1, 1)

    def _longer(self, signal: Tensor) -> Tensor:
        """Return signals (..., W) at `scale` times as many points."""
        if self.transform == "fourier":
            return upscaled(signal, self.scale)
        mirrored = torch.cat([signal, signal.flip(-1)], -1)
        return upscaled(mirrored, self.scale)[..., : self.scale * signal.shape[-1]]


def upscaled(signal: Tensor, scale: int) -> Tensor:
    """Return periodic signals (..., W) at `scale` times as many points, (..., scale W).

    Points are centres of pixels: new pixel m lies at m / scale + shift among the old, with the shift
    (1 - scale) / (2 scale), which multiplies coefficient k by exp(2πi k shift / W).
    """
    count = signal.shape[-1]
    if scale == 1:
        return signal
    spectrum = torch.fft.rfft(signal)
    shift = (1 - scale) / (2 * scale)
    angle = 2 * math.pi * shift / count * torch.arange(count // 2 + 1, device=signal.device, dtype=signal.dtype)
    spectrum = spectrum * torch.polar(torch.ones_like(angle), angle)
    if count % 2 == 0:
        # The highest frequency is its own mirror image; in the longer spectrum it stands at +W/2 and at -W/2, half each.
        spectrum = torch.cat([spectrum[..., :-1], spectrum[..., -1:] / 2], -1)
    return scale * torch.fft.irfft(spectrum, scale * count)

"""Classical restoration by frequencies: Wiener's filter undoes a known blur as far as noise lets it."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.networks.building import check_sizes
from limbeck.networks.roles import Restorer
from limbeck.resampling import KERNELS, resize


@final
class Wiener(Restorer):
    """The linear filter of least mean square error against a known blur and noise (Wiener 1949, chapter 3).

    With H the frequency response of the blur, real here since blurs are symmetric, the spectrum of the image is
    multiplied by H / (H² + S_n / S_f) (Gonzalez and Woods 2018, section 5.8). The power S_f of photographs falls with
    the square of the frequency f (Field 1987, figure 5) and that of noise, S_n, is the same everywhere, so
    S_n / S_f = noise · (2 |f|)² for f in cycles a pixel.

    Where `scale` is above 1, images are first interpolated (bicubic); then H is what bicubic downscaling and bicubic
    interpolation do together, on the average over where pixels lie. The image is mirrored at its borders. Without
    parameters, and differentiable.

    Args:
        scale: How many times larger images become.
        channels: Channels C of the image.
        blur: Standard deviation, in pixels of the output, of a Gaussian blur that the image also has; null for none.
        noise: Power of the noise over that of the image at half a cycle a pixel.

    Raises:
        RecipeError: An argument cannot be used, or there is neither a scale above 1 nor a blur.
    """

    def __init__(self, scale: int = 4, channels: int = 3, *, blur: float | None = None, noise: float = 0.05) -> None:
        super().__init__()
        check_sizes(self, scale=scale, channels=channels)
        if blur is None and scale == 1:
            raise RecipeError("Wiener.blur: expected a number of pixels above 0 where the scale is 1, found null")
        if blur is not None and not 0 < blur < math.inf:
            raise RecipeError(f"Wiener.blur: expected a number of pixels above 0, or null, found {blur}")
        if not 0 < noise < math.inf:
            raise RecipeError(f"Wiener.noise: expected a number above 0, found {noise}")
        self.scale, self.channels, self.inputs = scale, channels, channels
        self.blur, self.noise = blur, noise

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        height, width = (self.scale * side for side in image.shape[2:])
        image = resize(image, (height, width)) if self.scale > 1 else image
        mirrored = torch.cat([image, image.flip(2)], 2)
        mirrored = torch.cat([mirrored, mirrored.flip(3)], 3)
        rows = torch.fft.fftfreq(2 * height, device=image.device, dtype=image.dtype)[:, None]
        columns = torch.fft.rfftfreq(2 * width, device=image.device, dtype=image.dtype)
        spectrum = torch.fft.rfft2(mirrored) * self._filter(rows, columns)
        return torch.fft.irfft2(spectrum, mirrored.shape[2:])[..., :height, :width].clamp(-1, 1)

    def _filter(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the filter (2H, W + 1) at frequencies (2H, 1) and (W + 1,) in cycles a pixel."""
        response = self._response(rows) * self._response(columns)
        return response / (response.square() + self.noise * 4 * (rows.square() + columns.square()))

    def _response(self, frequency: Tensor) -> Tensor:
        """Return H along one axis: 1 at frequency 0, of the shape of `frequency`."""
        response = torch.ones_like(frequency)
        if self.blur is not None:
            response = torch.exp(-2 * (math.pi * self.blur * frequency) ** 2)
        return response * resizing(frequency, self.scale).square() if self.scale > 1 else response


def resizing(frequency: Tensor, scale: int) -> Tensor:
    """Return the frequency response of bicubic downscaling, and as well of bicubic interpolation, along one axis.

    Both weigh pixels of the large image by the cubic kernel, `scale` times as wide, around the centre of a pixel of the
    small one, which lies on a pixel of the large one where `scale` is odd and between two where it is even.
    """
    function, support = KERNELS["cubic"]
    place = torch.arange(-support * scale, support * scale + 1, dtype=torch.float64)
    place = place + 0.5 * (scale % 2 == 0)
    weight = function(place / scale)
    waves = torch.cos(2 * math.pi * frequency[..., None] * place.to(frequency))
    return waves @ (weight / weight.sum()).to(frequency)

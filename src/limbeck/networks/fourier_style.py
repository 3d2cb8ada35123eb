"""Style transfer in the frequency domain (Yang & Soatto 2020, arXiv:2004.05498): the style's low amplitudes."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.networks.roles import Stylizer, style_images
from limbeck.resampling import resize


@final
class FourierStyle(Stylizer):
    """The amplitudes of low frequencies are the style's, the phases stay the image's (FDA, their eq. 1 to 3).

    Phases hold what is where; low amplitudes hold colour and light. It has no parameters.

    Args:
        beta: Half the side of the square of frequencies that is exchanged, as a part of all, in (0, 0.5].
        strength: How much of the style's amplitude is taken, in [0, 1].

    Raises:
        RecipeError: An argument is out of its range.
    """

    def __init__(self, beta: float = 0.01, strength: float = 1.0) -> None:
        super().__init__()
        if not 0 < beta <= 0.5:
            raise RecipeError(f"FourierStyle.beta: expected a number in (0, 0.5], found {beta}")
        if not 0 <= strength <= 1:
            raise RecipeError(f"FourierStyle.strength: expected a number in [0, 1], found {strength}")
        self.styles, self.beta, self.strength = 0, beta, strength

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return images (N, 3, H, W) in [-1, 1] with the low amplitudes of `style` (N, 3, h, w)."""
        style = style_images(self, image, style)
        height, width = image.shape[2:]
        spectrum, other = torch.fft.fft2(image), torch.fft.fft2(resize(style, (height, width)))
        rows, columns = (torch.fft.fftfreq(side, device=image.device).abs() for side in (height, width))
        low = (rows[:, None] <= self.beta) & (columns <= self.beta)
        amplitude = torch.lerp(spectrum.abs(), other.abs(), self.strength)
        mixed = torch.where(low, torch.polar(amplitude, spectrum.angle()), spectrum)
        found: Tensor = torch.fft.ifft2(mixed).real.clamp(-1, 1)
        return found

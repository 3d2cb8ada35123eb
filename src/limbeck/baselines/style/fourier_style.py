"""Style transfer in the frequency domain (Yang & Soatto 2020, arXiv:2004.05498): the style's low amplitudes."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.ground.resampling import resize
from limbeck.networks.roles import Stylizer, style_images


@final
class FourierStyle(Stylizer):
    """The amplitudes of low frequencies are the style's, the phases stay the image's (FDA, their eq. 1 to 3).

    Phases hold what is where; low amplitudes hold colour and light. Pixels are counted from black, as in the paper: the
    amplitude of the mean is then the mean itself, whose sign would be lost around mid grey. It has no parameters.

    Args:
        beta: Half the side of the square of frequencies that is exchanged, as a part of all, in (0, 0.5]. Mean and
            first ring always are: of fewer than 1 / beta pixels the square would hold nothing but the mean.
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
        spectrum, other = torch.fft.fft2(image + 1), torch.fft.fft2(resize(style, (height, width)) + 1)
        rows, columns = (self._low(side, image.device) for side in (height, width))
        low = rows[:, None] & columns
        amplitude = torch.lerp(spectrum.abs(), other.abs(), self.strength)
        mixed = torch.where(low, torch.polar(amplitude, spectrum.angle()), spectrum)
        found: Tensor = (torch.fft.ifft2(mixed).real - 1).clamp(-1, 1)
        return found

    def _low(self, side: int, device: torch.device) -> Tensor:
        """Return which frequencies along a side are exchanged (side,), bool; a frequency is a number of waves."""
        waves = torch.arange(side, device=device)
        waves = torch.minimum(waves, side - waves)
        return waves <= max(1, self.beta * side)

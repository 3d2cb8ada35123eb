"""Colour transfer by statistics (Reinhard et al. 2001): mean and spread of every opponent colour are the style's."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.networks.roles import Stylizer, style_images

# Their eq. 4: linear RGB to the responses of the cones; eq. 6: the logarithms of these to achromatic, yellow-blue and
# red-green.
CONES = ((0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444))
OPPONENT = ((1.0, 1.0, 1.0), (1.0, 1.0, -2.0), (1.0, -1.0, 0.0))
SCALE = (3**-0.5, 6**-0.5, 2**-0.5)
LEAST = 1 / 255


@final
class Reinhard(Stylizer):
    """lαβ, where the colours of natural images are hardly correlated, is moved and stretched to the style's statistics.

    (x - μ_c) σ_s / σ_c + μ_s in each of the three (their eq. 10 and 11). It has no parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.styles = 0

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return images (N, 3, H, W) in [-1, 1] with the colours of `style` (N, 3, h, w)."""
        style = style_images(self, image, style)
        content, painted = (_opponent(t).flatten(2) for t in (image, style))
        ratio = painted.std(2, correction=0, keepdim=True) / content.std(2, correction=0, keepdim=True).clamp(min=1e-4)
        moved = (content - content.mean(2, keepdim=True)) * ratio + painted.mean(2, keepdim=True)
        return _colours(moved.view_as(image)).clamp(-1, 1)


def _opponent(image: Tensor) -> Tensor:
    cones, opponent = _matrices(image)
    seen = torch.einsum("ij,njhw->nihw", cones, ((image + 1) / 2).clamp(min=LEAST)).clamp(min=LEAST / 10)
    return torch.einsum("ij,njhw->nihw", opponent, seen.log10())


def _colours(opponent: Tensor) -> Tensor:
    cones, matrix = _matrices(opponent)
    seen = 10 ** torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), opponent).clamp(max=2)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(cones), seen) * 2 - 1


def _matrices(like: Tensor) -> tuple[Tensor, Tensor]:
    scale = torch.tensor(SCALE).to(like)[:, None]
    return torch.tensor(CONES).to(like), torch.tensor(OPPONENT).to(like) * scale

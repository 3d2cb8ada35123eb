"""Colour transfer by optimal transport (Pitié & Kokaram 2007): the cheapest linear map from colours to colours."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.networks.roles import Stylizer, style_images

RIDGE = 1e-5


@final
class OptimalTransportColour(Stylizer):
    """x ↦ T (x - μ_c) + μ_s, T = Σ_c^-½ (Σ_c^½ Σ_s Σ_c^½)^½ Σ_c^-½: the Monge-Kantorovich map of Gaussians.

    It is the closed form of Pitié & Kokaram 2007, section 4. Means and covariances of the colours become those of the
    style, with the least change. It has no parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.styles = 0

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return images (N, 3, H, W) in [-1, 1] with the colours of `style` (N, 3, h, w)."""
        style = style_images(self, image, style)
        (mean, spread), (goal, wanted) = _moments(image), _moments(style)
        root = _power(spread, 0.5)
        inverse = _power(spread, -0.5)
        transport = inverse @ _power(root @ wanted @ root, 0.5) @ inverse
        moved = transport @ (image.double().flatten(2) - mean) + goal
        return moved.to(image).view_as(image).clamp(-1, 1)


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (N, 3, 1) and covariance (N, 3, 3) of the colours."""
    flat = image.double().flatten(2)
    mean = flat.mean(2, keepdim=True)
    spread = (flat - mean) @ (flat - mean).transpose(1, 2) / flat.shape[2]
    return mean, spread + RIDGE * torch.eye(3).to(spread)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a power of symmetric positive matrices (N, 3, 3)."""
    values, vectors = torch.linalg.eigh(matrix)
    found: Tensor = vectors * values.clamp(min=0).pow(exponent)[:, None] @ vectors.transpose(1, 2)
    return found

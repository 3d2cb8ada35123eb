"""ESPCN (Shi et al. 2016, arXiv:1609.05158): three convolutions and a pixel shuffle."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from limbeck.ground.resampling import resize
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer


@final
class Espcn(Restorer):
    """A 5x5 and two 3x3 convolutions, all at the size of the input, with tanh between (section 3.2).

    Args:
        width: Channels of the first layer, 64 in the paper; the second has half of them.
        scale: How many times larger images become.
        channels: Channels C of the image.
        residual: What the layers give is added to the image enlarged bicubically, which they need not learn then; the
            paper's network makes the whole image.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(self, width: int = 64, scale: int = 4, channels: int = 3, *, residual: bool = True) -> None:
        super().__init__()
        check_sizes(self, width=width, scale=scale, channels=channels)
        self.channels = self.inputs = channels
        self.scale, self.residual = scale, residual
        half = max(1, width // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(width, half, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(half, channels * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W), about [-1, 1], of images (N, C, H, W) in [-1, 1]."""
        found: Tensor = self.layers(image)
        if self.residual:
            found = found + resize(image, (image.shape[2] * self.scale, image.shape[3] * self.scale))
        return found

"""EDSR (Lim et al. 2017, arXiv:1707.02921): residual blocks without normalisation, enlarged at the end."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from limbeck.ground.resampling import resize
from limbeck.networks.blocks.building import check_choice, check_sizes
from limbeck.networks.roles import Restorer


@final
class Edsr(Restorer):
    """Residual blocks of two convolutions at the size of the input, then pixel shuffles; by two twice for four.

    The paper's baseline has width 64 and 16 blocks, its large model 256, 32 and a residual scale of 0.1. blocks.{i} are
    tap paths.

    Args:
        width: Channels.
        blocks: Residual blocks.
        scale: How many times larger images become: 1, 2, 3 or 4.
        channels: Channels C of the image.
        residual_scale: What a block's change is multiplied by, which keeps wide networks stable (section 3.3).
        residual: What the layers give is added to the image enlarged bicubically (Kim et al. 2016, arXiv:1511.04587):
            short trainings begin where interpolation ends. The paper's network makes the whole image.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 16,
        scale: int = 4,
        channels: int = 3,
        *,
        residual_scale: float = 1.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, blocks=blocks, channels=channels)
        check_choice(self, (1, 2, 3, 4), scale=scale)
        self.channels = self.inputs = channels
        self.scale, self.residual = scale, residual
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(PlainResidual(width, residual_scale) for _ in range(blocks))
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.upscale = nn.Sequential(*(_shuffled(width, factor) for factor in FACTORS[scale]))
        self.tail = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W), about [-1, 1], of images (N, C, H, W) in [-1, 1]."""
        hidden = start = self.head(image)
        for block in self.blocks:
            hidden = block(hidden)
        found: Tensor = self.tail(self.upscale(start + self.body(hidden)))
        if self.residual:
            found = found + resize(image, (image.shape[2] * self.scale, image.shape[3] * self.scale))
        return found


FACTORS: dict[int, tuple[int, ...]] = {1: (), 2: (2,), 3: (3,), 4: (2, 2)}
"""The pixel shuffles of each scale."""


class PlainResidual(nn.Module):
    """Two convolutions around a ReLU, added to the input (the paper's figure 2c)."""

    def __init__(self, width: int, residual_scale: float) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, width, H, W)."""
        found: Tensor = hidden + self.residual_scale * self.layers(hidden)
        return found


def _shuffled(width: int, factor: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width * factor**2, 3, padding=1), nn.PixelShuffle(factor))

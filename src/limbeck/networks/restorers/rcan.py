"""RCAN (Zhang et al. 2018, arXiv:1807.02758): residual groups whose channels are weighed by attention."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from limbeck.networks.blocks.building import check_choice, check_sizes
from limbeck.networks.roles import Restorer

FACTORS: dict[int, tuple[int, ...]] = {1: (), 2: (2,), 3: (3,), 4: (2, 2)}
"""The pixel shuffles of each scale."""


@final
class Rcan(Restorer):
    """Residual groups of blocks with channel attention; short and long skips let the low frequencies by.

    The paper has 10 groups of 20 blocks, width 64 and a reduction of 16. groups.{i} are tap paths. Attention looks at
    the whole image, so tiles are not restored exactly as the whole is.

    Args:
        width: Channels.
        groups: Residual groups.
        blocks: Blocks in a group.
        scale: How many times larger images become: 1, 2, 3 or 4.
        channels: Channels C of the image.
        reduction: How many times narrower the attention is inside.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 64,
        groups: int = 5,
        blocks: int = 6,
        scale: int = 4,
        channels: int = 3,
        *,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, groups=groups, blocks=blocks, channels=channels, reduction=reduction)
        check_choice(self, (1, 2, 3, 4), scale=scale)
        self.channels = self.inputs = channels
        self.scale = scale
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.groups = nn.ModuleList(ResidualGroup(width, blocks, reduction) for _ in range(groups))
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.upscale = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(width, width * factor**2, 3, padding=1), nn.PixelShuffle(factor))
                for factor in FACTORS[scale]
            )
        )
        self.tail = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W), about [-1, 1], of images (N, C, H, W) in [-1, 1]."""
        hidden = start = self.head(image)
        for group in self.groups:
            hidden = group(hidden)
        found: Tensor = self.tail(self.upscale(start + self.body(hidden)))
        return found


class ResidualGroup(nn.Module):
    """Blocks and a convolution, added to the input (section 3.2)."""

    def __init__(self, width: int, blocks: int, reduction: int) -> None:
        super().__init__()
        layers = [AttentionBlock(width, reduction) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, width, H, W)."""
        found: Tensor = hidden + self.layers(hidden)
        return found


class AttentionBlock(nn.Module):
    """Two convolutions whose channels are multiplied by weights read from their means (section 3.3, eq. 7 to 9)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, width // reduction)
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.attention = nn.Sequential(nn.Conv2d(width, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1), nn.Sigmoid())

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, width, H, W)."""
        change = self.layers(hidden)
        found: Tensor = hidden + change * self.attention(change.mean((2, 3), keepdim=True))
        return found

"""DnCNN (Zhang et al. 2017, arXiv:1608.03981): a network that finds the noise, which is then taken away."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer


@final
class DnCnn(Restorer):
    """3x3 convolutions whose output is subtracted from the image (section III-A); for noise, blur and JPEG alike.

    layers.{i} are tap paths.

    Args:
        width: Channels, 64 in the paper.
        depth: Convolutions, at least 2; 17 in the paper.
        channels: Channels C of the image.
        normalized: Batch normalisation after all but the first and last convolution, as in the paper.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(self, width: int = 64, depth: int = 17, channels: int = 3, *, normalized: bool = True) -> None:
        super().__init__()
        check_sizes(self, width=width, channels=channels)
        check_sizes(self, at_least=2, depth=depth)
        self.channels = self.inputs = channels
        self.scale = 1
        inner = (_inner(width, normalized) for _ in range(depth - 2))
        self.layers = nn.Sequential(
            nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()),
            *inner,
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, H, W), about [-1, 1], of noisy ones (N, C, H, W)."""
        found: Tensor = image - self.layers(image)
        return found


def _inner(width: int, normalized: bool) -> nn.Sequential:
    convolution = nn.Conv2d(width, width, 3, padding=1, bias=not normalized)
    return nn.Sequential(convolution, nn.BatchNorm2d(width) if normalized else nn.Identity(), nn.ReLU())

"""A small convolutional classifier, whose pooled features also serve the distribution metrics."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Classifier


@final
class SmallCnn(Classifier):
    """Four blocks of 3x3 convolution, batch normalisation and ReLU (Ioffe & Szegedy 2015), then the mean over space.

    Max-pooling halves height and width after the first three; the tap paths are blocks.0 (width) to blocks.3
    (4 width). It has about 12 million MACs on a grey 32x32 image with width 32.

    Args:
        width: Channels of the first block; the features have D = 4 width.
        channels: Channels C of the image.
        size: Height and width of the image, at least 8.
        classes: Number of classes K, at least 1.
        dropout: Probability in [0, 1) that a feature is left out before the last layer while training.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self, width: int = 32, channels: int = 1, size: int = 32, classes: int = 10, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, channels=channels, classes=classes)
        check_sizes(self, at_least=8, size=size)
        if not 0 <= dropout < 1:
            raise RecipeError(f"SmallCnn.dropout: expected a number in [0, 1), found {dropout}")
        self.image_shape = (channels, size, size)
        self.classes = classes
        widths = [channels, width, 2 * width, 4 * width, 4 * width]
        self.blocks = nn.ModuleList(_ConvBlock(widths[i], widths[i + 1], halve=i < 3) for i in range(4))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(widths[-1], classes)

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, 4 width) before the last layer, from images (N, C, H, W) in [-1, 1]."""
        hidden = image
        for block in self.blocks:
            hidden = block(hidden)
        return hidden.mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.output(self.dropout(self.features(image)))
        return logits


class _ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU, and max-pooling where asked for."""

    def __init__(self, inputs: int, outputs: int, *, halve: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.halve = halve

    def forward(self, hidden: Tensor) -> Tensor:
        new = F.relu(self.norm(self.conv(hidden)))
        return F.max_pool2d(new, 2) if self.halve else new

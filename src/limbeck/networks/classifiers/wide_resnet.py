"""Wide residual networks for small images (Zagoruyko & Komodakis 2016, "Wide Residual Networks")."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import (
    Standardize,
    Statistics,
    check_dropout,
    check_sizes,
    initialise_convolutions,
)
from limbeck.networks.roles import Classifier


@final
class WideResNet(Classifier):
    """WRN-d-k (table 1): three groups of n pre-activated blocks, depth 6 n + 4; `block1` to `block3` are tap paths.

    Parameters have the names that most published weights use, those of xternalz' WideResNet-pytorch.

    Args:
        depth: Layers d with weights: 6 n + 4, such as 10, 16, 22, 28 or 40.
        width: Widening factor k: the groups have 16 k, 32 k and 64 k channels.
        channels: Channels C of the image.
        size: Height and width of the image, at least 8.
        classes: Number of classes K.
        dropout: Probability with which a value between the two convolutions of a block is left out in training.
        statistics: `mean` and `std` of the images that the weights were trained with: see `Statistics`.

    Raises:
        RecipeError: An argument cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Statistics,)

    def __init__(
        self,
        depth: int = 16,
        width: int = 2,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        *,
        dropout: float = 0.0,
        **statistics: Any,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, channels=channels, classes=classes)
        check_sizes(self, at_least=10, depth=depth)
        check_sizes(self, at_least=8, size=size)
        check_dropout(self, dropout)
        if depth % 6 != 4:
            raise RecipeError(f"WideResNet.depth: expected 6 n + 4, such as 10, 16, 22, 28 or 40, found {depth}")
        self.image_shape = (channels, size, size)
        self.classes = classes
        self.standardize = Standardize(self, channels, Statistics(**statistics))
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = _Group(16, 16 * width, blocks, 1, dropout)
        self.block2 = _Group(16 * width, 32 * width, blocks, 2, dropout)
        self.block3 = _Group(32 * width, 64 * width, blocks, 2, dropout)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)
        initialise_convolutions(self)

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, 64 width) before the last layer, from images (N, C, H, W) in [-1, 1]."""
        hidden = self.block3(self.block2(self.block1(self.conv1(self.standardize(image)))))
        return F.relu(self.bn1(hidden)).mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.fc(self.features(image))
        return logits


class _Group(nn.Module):
    """Blocks of the same number of channels; the first may halve height and width."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int, dropout: float) -> None:
        super().__init__()
        rest = (_WideBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1))
        self.layer = nn.Sequential(_WideBlock(inputs, outputs, stride, dropout), *rest)

    def forward(self, hidden: Tensor) -> Tensor:
        new: Tensor = self.layer(hidden)
        return new


class _WideBlock(nn.Module):
    """Normalisation and ReLU before each of two convolutions, dropout after the second ReLU (figure 1d), a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        same = inputs == outputs and stride == 1
        self.convShortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        active = F.relu(self.bn1(hidden))
        # A shortcut that projects begins after the activation, as in the authors' code.
        kept = hidden if self.convShortcut is None else self.convShortcut(active)
        new: Tensor = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(active)))))
        return new + kept

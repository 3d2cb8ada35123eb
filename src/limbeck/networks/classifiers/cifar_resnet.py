"""Thin residual networks for CIFAR (He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import Standardize, Statistics, check_choice, check_sizes, initialise_convolutions
from limbeck.networks.roles import Classifier

Shortcut = Literal["A", "B"]


@final
class CifarResNet(Classifier):
    """Three stages of n blocks of two 3x3 convolutions, depth 6 n + 2; `layer1` to `layer3` are tap paths.

    Parameters have the names of akamaster's pytorch_resnet_cifar10, whose published weights load with their depth and
    `mean` [0.485, 0.456, 0.406], `std` [0.229, 0.224, 0.225]. What the distillation literature calls ResNet-8x4 and
    32x4 (Tian et al. 2020) is `width=64, stem_width=32, shortcut="B"`.

    Args:
        depth: Layers with weights: 6 n + 2, such as 8, 20, 32, 56 or 110.
        width: Channels of the first stage; the next two have 2 and 4 times as many. 16 is the paper's.
        channels: Channels C of the image.
        size: Height and width of the image, at least 8.
        classes: Number of classes K.
        stem_width: Channels of the first convolution; null for `width`.
        shortcut: Where a stage has more channels than the one before: "A" pads with zeros, without parameters; "B"
            is a 1x1 convolution with batch normalisation.
        statistics: `mean` and `std` of the images that the weights were trained with: see `Statistics`.

    Raises:
        RecipeError: An argument cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Statistics,)

    def __init__(
        self,
        depth: int = 20,
        width: int = 16,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        *,
        stem_width: int | None = None,
        shortcut: Shortcut = "A",
        **statistics: Any,
    ) -> None:
        super().__init__()
        stem_width = width if stem_width is None else stem_width
        check_sizes(self, width=width, stem_width=stem_width, channels=channels, classes=classes)
        check_sizes(self, at_least=8, depth=depth, size=size)
        check_choice(self, ("A", "B"), shortcut=shortcut)
        if depth % 6 != 2:
            raise RecipeError(f"CifarResNet.depth: expected 6 n + 2, such as 8, 20, 32, 56 or 110, found {depth}")
        if shortcut == "A" and stem_width > width:
            raise RecipeError(
                f"CifarResNet.stem_width: expected at most the width {width} with shortcut 'A', which only adds"
                f" channels, found {stem_width}"
            )
        self.image_shape = (channels, size, size)
        self.classes = classes
        self.standardize = Standardize(self, channels, Statistics(**statistics))
        self.conv1 = nn.Conv2d(channels, stem_width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        blocks = (depth - 2) // 6
        self.layer1 = _stage(stem_width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, classes)
        initialise_convolutions(self)

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, 4 width) before the last layer, from images (N, C, H, W) in [-1, 1]."""
        hidden = F.relu(self.bn1(self.conv1(self.standardize(image))))
        features: Tensor = self.layer3(self.layer2(self.layer1(hidden))).mean((2, 3))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.linear(self.features(image))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    rest = (_ThinBlock(outputs, outputs, 1, shortcut) for _ in range(blocks - 1))
    return nn.Sequential(_ThinBlock(inputs, outputs, stride, shortcut), *rest)


class _ThinBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride, shortcut)

    def forward(self, hidden: Tensor) -> Tensor:
        new = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(hidden)))))
        return F.relu(new + self.shortcut(hidden))


def _shortcut(inputs: int, outputs: int, stride: int, kind: Shortcut) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "A":
        return _PaddingShortcut(outputs - inputs, stride)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class _PaddingShortcut(nn.Module):
    """Option A of section 3.3: every `stride`-th pixel, with channels of zeros, half of them before and half after."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.before, self.after = more // 2, more - more // 2
        self.stride = stride

    def forward(self, hidden: Tensor) -> Tensor:
        kept = hidden[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.before, self.after))

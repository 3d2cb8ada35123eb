"""Residual networks (He et al. 2016, "Deep Residual Learning for Image Recognition"), by torchvision's names."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.networks.blocks.building import Standardize, Statistics, check_choice, check_sizes, initialise_convolutions
from limbeck.networks.roles import Classifier

Depth = Literal[18, 34, 50]
Stem = Literal["imagenet", "small"]
_BLOCKS: dict[Depth, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


@final
class ResNet(Classifier):
    """ResNet-18, 34 and 50 (table 1), whose `layer1` to `layer4` are tap paths.

    Parameters have torchvision's names, so its published weights load with depth as published, `stem="imagenet"`,
    `classes=1000`, and ImageNet's `mean` [0.485, 0.456, 0.406] and `std` [0.229, 0.224, 0.225]. As there, a bottleneck
    halves the image in its 3x3 convolution, not in the first 1x1 as the paper does ("ResNet v1.5").

    Args:
        depth: 18 or 34, of two 3x3 convolutions a block; 50, of three a block (a bottleneck).
        width: Channels of the first layer; the four stages have 1, 2, 4 and 8 times as many, ResNet-50's 4 times that.
        channels: Channels C of the image.
        size: Height and width of the image, at least 8.
        classes: Number of classes K.
        stem: "imagenet" begins with a 7x7 convolution of stride 2 and a max-pool of stride 2; "small", for images of
            some 32 pixels, with a 3x3 convolution of stride 1 and no pooling.
        statistics: `mean` and `std` of the images that the weights were trained with: see `Statistics`.

    Raises:
        RecipeError: An argument cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Statistics,)

    def __init__(
        self,
        depth: Depth = 18,
        width: int = 64,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        *,
        stem: Stem = "small",
        **statistics: Any,
    ) -> None:
        super().__init__()
        check_choice(self, get_args(Depth), depth=depth)
        check_choice(self, get_args(Stem), stem=stem)
        check_sizes(self, width=width, channels=channels, classes=classes)
        check_sizes(self, at_least=8, size=size)
        self.image_shape = (channels, size, size)
        self.classes = classes
        self.standardize = Standardize(self, channels, Statistics(**statistics))
        large = stem == "imagenet"
        self.conv1 = nn.Conv2d(channels, width, *((7, 2, 3) if large else (3, 1, 1)), bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        block = _Bottleneck if depth == 50 else _BasicBlock
        widths = [width, *(width * block.expansion << stage for stage in range(4))]
        layers = [
            _stage(block, widths[stage], widths[stage + 1], blocks, stride=1 if stage == 0 else 2)
            for stage, blocks in enumerate(_BLOCKS[depth])
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.fc = nn.Linear(widths[-1], classes)
        initialise_convolutions(self)

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, D) before the last layer, from images (N, C, H, W) in [-1, 1]."""
        hidden = self.maxpool(F.relu(self.bn1(self.conv1(self.standardize(image)))))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(hidden)))).mean((2, 3))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.fc(self.features(image))
        return logits


def _stage(
    block: type[_BasicBlock] | type[_Bottleneck], inputs: int, outputs: int, blocks: int, stride: int
) -> nn.Sequential:
    return nn.Sequential(block(inputs, outputs, stride), *(block(outputs, outputs, 1) for _ in range(blocks - 1)))


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Return the projection shortcut, or None where the identity fits (option B of the paper)."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left)."""

    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, hidden: Tensor) -> Tensor:
        new = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(hidden)))))
        return F.relu(new + (hidden if self.downsample is None else self.downsample(hidden)))


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the first two with a quarter of the channels (figure 5, right)."""

    expansion = 4

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // self.expansion
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, hidden: Tensor) -> Tensor:
        new = F.relu(self.bn1(self.conv1(hidden)))
        new = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(new)))))
        return F.relu(new + (hidden if self.downsample is None else self.downsample(hidden)))

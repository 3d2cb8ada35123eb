"""ShuffleNet V2 (Ma et al. 2018, "Practical Guidelines for Efficient CNN Architecture Design"), torchvision's names."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final, get_args

import torch
from torch import Tensor, nn

from limbeck.networks.blocks.building import Standardize, Statistics, check_choice, check_sizes, initialise_convolutions
from limbeck.networks.roles import Classifier

Stem = Literal["imagenet", "small"]
# Table 5: channels of the stages 2 to 4 and of the last convolution.
_WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


@final
class ShuffleNetV2(Classifier):
    """Units that convolve half of the channels, keep the rest, and shuffle both; `stage2` to `stage4` are tap paths.

    Parameters have torchvision's names, so its published weights load with `stem="imagenet"`, `classes=1000`, and
    ImageNet's `mean` [0.485, 0.456, 0.406] and `std` [0.229, 0.224, 0.225].

    Args:
        width: Width multiplier: 0.5, 1.0, 1.5 or 2.0.
        channels: Channels C of the image.
        size: Height and width of the image, at least 8.
        classes: Number of classes K.
        stem: "imagenet" begins with a convolution and a max-pool of stride 2 each; "small", for images of some 32
            pixels, with a convolution of stride 1 and no pooling.
        statistics: `mean` and `std` of the images that the weights were trained with: see `Statistics`.

    Raises:
        RecipeError: An argument cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Statistics,)

    def __init__(
        self,
        width: float = 1.0,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        *,
        stem: Stem = "small",
        **statistics: Any,
    ) -> None:
        super().__init__()
        check_choice(self, _WIDTHS, width=width)
        check_choice(self, get_args(Stem), stem=stem)
        check_sizes(self, channels=channels, classes=classes)
        check_sizes(self, at_least=8, size=size)
        self.image_shape = (channels, size, size)
        self.classes = classes
        self.standardize = Standardize(self, channels, Statistics(**statistics))
        large = stem == "imagenet"
        second, third, fourth, last = _WIDTHS[width]
        self.conv1 = _conv(channels, 24, 3, stride=2 if large else 1)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stage2 = _stage(24, second, 4)
        self.stage3 = _stage(second, third, 8)
        self.stage4 = _stage(third, fourth, 4)
        self.conv5 = _conv(fourth, last, 1)
        self.fc = nn.Linear(last, classes)
        initialise_convolutions(self)

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, D) before the last layer, from images (N, C, H, W) in [-1, 1]."""
        hidden = self.maxpool(self.conv1(self.standardize(image)))
        features: Tensor = self.conv5(self.stage4(self.stage3(self.stage2(hidden)))).mean((2, 3))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.fc(self.features(image))
        return logits


def _stage(inputs: int, outputs: int, units: int) -> nn.Sequential:
    return nn.Sequential(_HalvingUnit(inputs, outputs), *(_ShuffleUnit(outputs) for _ in range(units - 1)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _by_channel(channels: int, stride: int) -> nn.Sequential:
    """Return a 3x3 convolution of every channel by itself, without an activation."""
    conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


def _branch2(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*_conv(inputs, outputs, 1), *_by_channel(outputs, stride), *_conv(outputs, outputs, 1))


def _shuffled(first: Tensor, second: Tensor) -> Tensor:
    """Return the channels (N, C, H, W) of two halves in turn: first, second, first, second, ..."""
    return torch.stack([first, second], 2).flatten(1, 2)


class _ShuffleUnit(nn.Module):
    """One half of the channels passes, the other is convolved (figure 3c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch2 = _branch2(channels // 2, channels // 2, stride=1)

    def forward(self, hidden: Tensor) -> Tensor:
        kept, used = hidden.chunk(2, 1)
        return _shuffled(kept, self.branch2(used))


class _HalvingUnit(nn.Module):
    """Both branches see all channels and halve height and width (figure 3d)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.branch1 = nn.Sequential(*_by_channel(inputs, 2), *_conv(inputs, half, 1))
        self.branch2 = _branch2(inputs, half, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        return _shuffled(self.branch1(hidden), self.branch2(hidden))

"""MobileNetV2 (Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks"), by torchvision's names."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, ClassVar, Literal, cast, final, get_args

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import (
    Standardize,
    Statistics,
    check_choice,
    check_dropout,
    check_sizes,
    initialise_convolutions,
)
from limbeck.networks.roles import Classifier

Stem = Literal["imagenet", "small"]
# Table 2: expansion t, channels c, repetitions n, stride s.
_STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


@final
class MobileNetV2(Classifier):
    """Blocks that widen, convolve each channel by itself, and narrow again, with the shortcut between the narrow ends.

    Parameters have torchvision's names, so its published weights load with `stem="imagenet"`, `classes=1000`, and
    ImageNet's `mean` [0.485, 0.456, 0.406] and `std` [0.229, 0.224, 0.225]. `features.0` to `features.18` are tap
    paths.

    Args:
        width: Width multiplier: channels are the paper's times this, rounded to a multiple of 8.
        channels: Channels C of the image.
        size: Height and width of the image, at least 8.
        classes: Number of classes K.
        stem: "imagenet" divides height and width by 32; "small", for images of some 32 pixels, by 8: the first
            convolution and the first block of 24 channels have stride 1.
        dropout: Probability with which a feature is left out in training; torchvision trains with 0.2.
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
        dropout: float = 0.0,
        **statistics: Any,
    ) -> None:
        super().__init__()
        if not (width > 0 and math.isfinite(width)):
            raise RecipeError(f"MobileNetV2.width: expected a multiplier above 0, found {width!r}")
        check_sizes(self, channels=channels, classes=classes)
        check_sizes(self, at_least=8, size=size)
        check_choice(self, get_args(Stem), stem=stem)
        check_dropout(self, dropout)
        self.image_shape = (channels, size, size)
        self.classes = classes
        last = _eights(1280 * max(1.0, width))
        layers = _layers(channels, width, last, small=stem == "small")
        # Set past the property below, through which everybody reads it.
        self._modules["features"] = _Features(Standardize(self, channels, Statistics(**statistics)), layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
        initialise_convolutions(self)

    @property
    def features(self) -> _Features:
        """The layers before the last: a module, so that their published names are `features.0` and so on.

        Called with images (N, C, H, W) in [-1, 1], it returns the features (N, D), as the role promises.
        """
        return cast(_Features, self._modules["features"])

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.classifier(self.features(image))
        return logits


class _Features(nn.Sequential):
    """Standardisation, the layers 0, 1, ..., and the mean over rows and columns."""

    def __init__(self, standardize: Standardize, layers: list[nn.Module]) -> None:
        named = {str(number): layer for number, layer in enumerate(layers)}
        super().__init__(OrderedDict({"standardize": standardize} | named))

    def forward(self, image: Tensor) -> Tensor:
        hidden: Tensor = super().forward(image)  # type: ignore[no-untyped-call]
        return hidden.mean((2, 3))


def _layers(channels: int, width: float, last: int, small: bool) -> list[nn.Module]:
    inputs = _eights(32 * width)
    layers: list[nn.Module] = [_conv(channels, inputs, 3, stride=1 if small else 2)]
    for expansion, unscaled, count, stride in _STAGES:
        outputs = _eights(unscaled * width)
        first = 1 if small and unscaled == 24 else stride
        for number in range(count):
            layers.append(_InvertedResidual(inputs, outputs, first if number == 0 else 1, expansion))
            inputs = outputs
    return [*layers, _conv(inputs, last, 1)]


def _eights(channels: float) -> int:
    """Return the nearest multiple of 8 that is at least 8 and loses no more than a tenth, as the authors' code does."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class _InvertedResidual(nn.Module):
    """A 1x1 convolution that widens (figure 4), one 3x3 a channel, and a 1x1 that narrows, without an activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        wider = [_conv(inputs, inner, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *wider,
            _conv(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, hidden: Tensor) -> Tensor:
        new: Tensor = self.conv(hidden)
        return hidden + new if self.shortcut else new

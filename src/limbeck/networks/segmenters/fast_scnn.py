"""Fast-SCNN (Poudel et al. 2019, arXiv:1902.04502): segmentation in real time, from an eighth of the image's size."""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_dropout, check_sizes, initialise_convolutions
from limbeck.networks.blocks.convolutional import convolution
from limbeck.networks.roles import Segmenter

POOLED = (1, 2, 3, 6)  # sides of the grids that the pyramid averages over (Zhao et al. 2017, section 3.2)


@final
class FastScnn(Segmenter):
    """Three cheap halvings, of which one branch goes on to a 32nd and comes back to meet the other (table 1).

    1.1 M parameters at width 1. The logits are made at an eighth of the size and enlarged bilinearly to that of the
    image, which may be any. `downsample.0` to `downsample.2` (1/2, 1/4, 1/8 of the size),
    `extract.0` to `extract.8` (1/16, then 1/32), `pyramid`, `fusion`, `classifier.0`, `classifier.1` and `head` are
    tap paths. It trains with two images a batch or more, as the pyramid normalises a single pixel of each.

    Args:
        width: Width multiplier: channels are the paper's times this, rounded to a multiple of 8.
        channels: Channels C of the image.
        classes: Number of classes K.
        dropout: Probability with which a feature is left out before the last layer, in training.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, width: float = 1.0, channels: int = 3, classes: int = 10, *, dropout: float = 0.0) -> None:
        super().__init__()
        if isinstance(width, bool) or not (width > 0 and math.isfinite(width)):
            raise RecipeError(f"FastScnn.width: expected a multiplier above 0, found {width!r}")
        check_sizes(self, channels=channels, classes=classes)
        check_dropout(self, dropout)
        self.channels, self.classes = channels, classes
        c32, c48, c64, c96, c128 = (max(8, int(count * width + 4) // 8 * 8) for count in (32, 48, 64, 96, 128))
        self.downsample = nn.Sequential(
            _layer(channels, c32, 3, stride=2), _separable(c32, c48, stride=2), _separable(c48, c64, stride=2)
        )
        self.extract = nn.Sequential(
            *_stage(c64, c64, stride=2), *_stage(c64, c96, stride=2), *_stage(c96, c128, stride=1)
        )
        self.pyramid = _Pyramid(c128)
        self.fusion = _Fusion(c64, c128)
        self.classifier = nn.Sequential(_separable(c128, c128), _separable(c128, c128), nn.Dropout(dropout))
        self.head = nn.Conv2d(c128, classes, 1)
        initialise_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, H, W) from images (N, C, H, W) in [-1, 1].

        Raises:
            RecipeError: It trains, and there is but one image.
        """
        if self.training and len(image) == 1:
            raise RecipeError("FastScnn: expected two images a batch or more to train with, found 1; raise `batch`")
        fine = self.downsample(image)
        coarse = self.pyramid(self.extract(fine))
        logits = self.head(self.classifier(self.fusion(fine, coarse)))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


class _Bottleneck(nn.Module):
    """A 1x1 convolution that widens six times, one 3x3 a channel, and a 1x1 that narrows, without ReLU (table 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = 6 * inputs
        self.conv = nn.Sequential(
            _layer(inputs, inner, 1),
            _layer(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, hidden: Tensor) -> Tensor:
        new: Tensor = self.conv(hidden)
        return hidden + new if self.shortcut else new


class _Pyramid(nn.Module):
    """Means over 1, 4, 9 and 36 parts of the image beside the map itself (Zhao et al. 2017, figure 3c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), _layer(width, width // 4, 1)) for side in POOLED
        )
        self.mix = _layer(width + len(POOLED) * (width // 4), width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        size = hidden.shape[2:]
        parts = [F.interpolate(part(hidden), size, mode="bilinear", align_corners=False) for part in self.parts]
        mixed: Tensor = self.mix(torch.cat([hidden, *parts], 1))
        return mixed


class _Fusion(nn.Module):
    """The sum of both branches, the coarse one enlarged four times to the size of the fine one (table 3)."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(fine, coarse, 1, bias=False), nn.BatchNorm2d(coarse))
        self.coarse = nn.Sequential(
            _layer(coarse, coarse, 3, groups=coarse, dilation=4),
            nn.Conv2d(coarse, coarse, 1, bias=False),
            nn.BatchNorm2d(coarse),
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        coarse = F.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=False)
        return F.relu(self.fine(fine) + self.coarse(coarse))


def _stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [_Bottleneck(inputs, outputs, stride), *(_Bottleneck(outputs, outputs, 1) for _ in range(2))]


def _layer(
    inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    padding = side // 2 * dilation
    layer = nn.Conv2d(inputs, outputs, side, stride, padding, dilation, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def _separable(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """Return one 3x3 a channel and a 1x1, without anything in between (section 3.2.1)."""
    layer = convolution(nn.Conv2d, inputs, outputs, 3, separable=True, bias=False, stride=stride, padding=1)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())

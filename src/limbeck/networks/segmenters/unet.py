"""The U-Net (Ronneberger et al. 2015, arXiv:1505.04597): the class of every pixel, seen at every size of the image."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.networks.blocks.building import check_dropout, check_sizes, initialise_convolutions
from limbeck.networks.blocks.convolutional import convolution
from limbeck.networks.roles import Segmenter


@final
class UNet(Segmenter):
    """Halves an image `depth` times and doubles it again, joined at every size (figure 1).

    Each stage is two 3x3 convolutions with batch normalisation and ReLU. Two things are not the paper's: convolutions
    are padded, so that there is a logit for every pixel, and maps are doubled bilinearly rather than by a transposed
    convolution, which leaves a checkerboard. Odd sides are halved upwards and doubled to what they were, so every map
    covers the image and nothing else, whatever its size. `encoder.0` (the whole size) to `encoder.{depth}`, `decoder.0`
    (the smallest it makes) to `decoder.{depth-1}` (the whole size) and `head` are tap paths.

    Args:
        width: Channels at the whole size, 64 in the paper; twice as many after every halving.
        depth: Halvings, 4 in the paper.
        channels: Channels C of the image.
        classes: Number of classes K.
        separable: Each 3x3 convolution is one for each channel and a 1x1 (Howard et al. 2017, figure 3b); the very
            first is whole.
        dropout: Probability with which a value of the smallest maps is left out in training (section 3.1).

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 4,
        channels: int = 3,
        classes: int = 10,
        *,
        separable: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, depth=depth, channels=channels, classes=classes)
        check_dropout(self, dropout)
        self.channels, self.classes = channels, classes
        counts = [width << stage for stage in range(depth + 1)]
        first = nn.Sequential(*_layer(channels, width, False), *_layer(width, width, separable))
        self.encoder = nn.ModuleList(
            [
                first,
                *(
                    nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *_twice(*pair, separable))
                    for pair in pairwise(counts)
                ),
            ]
        )
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.ModuleList(
            nn.Sequential(*_twice(below + beside, beside, separable)) for below, beside in pairwise(counts[::-1])
        )
        self.head = nn.Conv2d(width, classes, 1)
        initialise_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, H, W) from images (N, C, H, W) in [-1, 1]."""
        hidden = image
        passed: list[Tensor] = []
        for stage in self.encoder:
            hidden = stage(hidden)
            passed.append(hidden)
        hidden = self.dropout(passed.pop())
        for stage in self.decoder:
            beside = passed.pop()
            hidden = F.interpolate(hidden, beside.shape[2:], mode="bilinear", align_corners=False)
            hidden = stage(torch.cat([hidden, beside], 1))
        logits: Tensor = self.head(hidden)
        return logits


def _twice(inputs: int, outputs: int, separable: bool) -> list[nn.Module]:
    return [*_layer(inputs, outputs, separable), *_layer(outputs, outputs, separable)]


def _layer(inputs: int, outputs: int, separable: bool) -> list[nn.Module]:
    between = (nn.BatchNorm2d(inputs), nn.ReLU()) if separable else ()
    layer = convolution(nn.Conv2d, inputs, outputs, 3, *between, separable=separable, bias=False, padding=1)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]

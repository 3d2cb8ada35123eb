"""Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision"), torchvision's names.

The features of FID come from another network of this family, with other poolings: see `metrics.inception`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, final, get_args

import torch
import torch.nn.functional as F
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
Scale = Callable[[int], int]
"""From the published number of channels to this network's."""
_SMALLEST = {"imagenet": 75, "small": 8}


@final
class InceptionV3Classifier(Classifier):
    """Blocks of parallel convolutions of different reach; `Mixed_5b` to `Mixed_7c` are tap paths.

    Parameters have torchvision's names. Its published weights load with `stem="imagenet"`, `size=299`,
    `classes=1000` and `aux_logits=true`; they were trained on images in [-1, 1], so without `mean` and `std`.

    Args:
        width: Channels of the first convolution, 32 as published; all others are scaled with it.
        channels: Channels C of the image.
        size: Height and width of the image: at least 75 with the stem "imagenet", 8 with "small".
        classes: Number of classes K.
        stem: "imagenet" brings 299 pixels to 35 by strides, pools and borders left out; "small", for images of some 32
            pixels, has the same convolutions with stride 1 and padding, and no pools.
        aux_logits: Build the auxiliary classifier (section 4), which only `auxiliary_logits` uses. `forward` is the
            same without it; published weights hold it, so they load with it alone.
        dropout: Probability with which a feature is left out in training; torchvision trains with 0.5.
        statistics: `mean` and `std` of the images that the weights were trained with: see `Statistics`.

    Raises:
        RecipeError: An argument cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Statistics,)

    def __init__(
        self,
        width: int = 32,
        channels: int = 3,
        size: int = 32,
        classes: int = 10,
        *,
        stem: Stem = "small",
        aux_logits: bool = False,
        dropout: float = 0.0,
        **statistics: Any,
    ) -> None:
        super().__init__()
        check_choice(self, get_args(Stem), stem=stem)
        check_sizes(self, width=width, channels=channels, classes=classes)
        check_sizes(self, at_least=_SMALLEST[stem], size=size)
        check_dropout(self, dropout)
        self.image_shape = (channels, size, size)
        self.classes = classes
        self.standardize = Standardize(self, channels, Statistics(**statistics))
        self.large = stem == "imagenet"

        def scale(published: int) -> int:
            return max(1, published * width // 32)

        stride, padding = (2, 0) if self.large else (1, 1)
        self.Conv2d_1a_3x3 = _ConvNorm(channels, width, 3, stride=stride, padding=padding)
        self.Conv2d_2a_3x3 = _ConvNorm(width, width, 3, padding=padding)
        self.Conv2d_2b_3x3 = _ConvNorm(width, scale(64), 3, padding=1)
        self.Conv2d_3b_1x1 = _ConvNorm(scale(64), scale(80), 1)
        self.Conv2d_4a_3x3 = _ConvNorm(scale(80), scale(192), 3, padding=padding)
        self.Mixed_5b = _Grid35(scale(192), scale(32), scale)
        self.Mixed_5c = _Grid35(self.Mixed_5b.outputs, scale(64), scale)
        self.Mixed_5d = _Grid35(self.Mixed_5c.outputs, scale(64), scale)
        self.Mixed_6a = _To17(self.Mixed_5d.outputs, scale)
        self.Mixed_6b = _Grid17(self.Mixed_6a.outputs, scale(128), scale)
        self.Mixed_6c = _Grid17(self.Mixed_6b.outputs, scale(160), scale)
        self.Mixed_6d = _Grid17(self.Mixed_6c.outputs, scale(160), scale)
        self.Mixed_6e = _Grid17(self.Mixed_6d.outputs, scale(192), scale)
        self.AuxLogits = _Auxiliary(self.Mixed_6e.outputs, classes, scale) if aux_logits else None
        self.Mixed_7a = _To8(self.Mixed_6e.outputs, scale)
        self.Mixed_7b = _Grid8(self.Mixed_7a.outputs, scale)
        self.Mixed_7c = _Grid8(self.Mixed_7b.outputs, scale)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.Mixed_7c.outputs, classes)
        initialise_convolutions(self)

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, D) before the last layer, from images (N, C, H, W) in [-1, 1]."""
        features: Tensor = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(self._to_6e(image)))).mean((2, 3))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.fc(self.dropout(self.features(image)))
        return logits

    def auxiliary_logits(self, image: Tensor) -> Tensor:
        """Return the auxiliary classifier's logits (N, K) from images (N, C, H, W) in [-1, 1].

        Raises:
            RecipeError: The network was built without it.
        """
        if self.AuxLogits is None:
            raise RecipeError("InceptionV3Classifier.aux_logits: expected true for auxiliary logits, found false")
        logits: Tensor = self.AuxLogits(self._to_6e(image))
        return logits

    def _to_6e(self, image: Tensor) -> Tensor:
        hidden = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(self.standardize(image))))
        hidden = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self._pooled(hidden)))
        hidden = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(self._pooled(hidden))))
        hidden = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(hidden)))))
        new: Tensor = hidden
        return new

    def _pooled(self, hidden: Tensor) -> Tensor:
        return F.max_pool2d(hidden, 3, stride=2) if self.large else hidden


class _ConvNorm(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(hidden)))


def _row(inputs: int, outputs: int, length: int) -> _ConvNorm:
    return _ConvNorm(inputs, outputs, (1, length), padding=(0, length // 2))


def _column(inputs: int, outputs: int, length: int) -> _ConvNorm:
    return _ConvNorm(inputs, outputs, (length, 1), padding=(length // 2, 0))


def _smoothed(hidden: Tensor) -> Tensor:
    return F.avg_pool2d(hidden, 3, stride=1, padding=1)


class _Grid35(nn.Module):
    """On 35x35 (figure 5)."""

    def __init__(self, inputs: int, pool: int, scale: Scale) -> None:
        super().__init__()
        self.branch1x1 = _ConvNorm(inputs, scale(64), 1)
        self.branch5x5_1 = _ConvNorm(inputs, scale(48), 1)
        self.branch5x5_2 = _ConvNorm(scale(48), scale(64), 5, padding=2)
        self.branch3x3dbl_1 = _ConvNorm(inputs, scale(64), 1)
        self.branch3x3dbl_2 = _ConvNorm(scale(64), scale(96), 3, padding=1)
        self.branch3x3dbl_3 = _ConvNorm(scale(96), scale(96), 3, padding=1)
        self.branch_pool = _ConvNorm(inputs, pool, 1)
        self.outputs = 2 * scale(64) + scale(96) + pool

    def forward(self, hidden: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(hidden))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(hidden)))
        return torch.cat([self.branch1x1(hidden), five, double, self.branch_pool(_smoothed(hidden))], 1)


class _To17(nn.Module):
    """From 35x35 to 17x17 (figure 10)."""

    def __init__(self, inputs: int, scale: Scale) -> None:
        super().__init__()
        self.branch3x3 = _ConvNorm(inputs, scale(384), 3, stride=2)
        self.branch3x3dbl_1 = _ConvNorm(inputs, scale(64), 1)
        self.branch3x3dbl_2 = _ConvNorm(scale(64), scale(96), 3, padding=1)
        self.branch3x3dbl_3 = _ConvNorm(scale(96), scale(96), 3, stride=2)
        self.outputs = scale(384) + scale(96) + inputs

    def forward(self, hidden: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(hidden)))
        return torch.cat([self.branch3x3(hidden), double, F.max_pool2d(hidden, 3, stride=2)], 1)


class _Grid17(nn.Module):
    """On 17x17 (figure 6, n = 7)."""

    def __init__(self, inputs: int, inner: int, scale: Scale) -> None:
        super().__init__()
        self.branch1x1 = _ConvNorm(inputs, scale(192), 1)
        self.branch7x7_1 = _ConvNorm(inputs, inner, 1)
        self.branch7x7_2 = _row(inner, inner, 7)
        self.branch7x7_3 = _column(inner, scale(192), 7)
        self.branch7x7dbl_1 = _ConvNorm(inputs, inner, 1)
        self.branch7x7dbl_2 = _column(inner, inner, 7)
        self.branch7x7dbl_3 = _row(inner, inner, 7)
        self.branch7x7dbl_4 = _column(inner, inner, 7)
        self.branch7x7dbl_5 = _row(inner, scale(192), 7)
        self.branch_pool = _ConvNorm(inputs, scale(192), 1)
        self.outputs = 4 * scale(192)

    def forward(self, hidden: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(hidden)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(hidden)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(hidden), seven, double, self.branch_pool(_smoothed(hidden))], 1)


class _To8(nn.Module):
    """From 17x17 to 8x8."""

    def __init__(self, inputs: int, scale: Scale) -> None:
        super().__init__()
        self.branch3x3_1 = _ConvNorm(inputs, scale(192), 1)
        self.branch3x3_2 = _ConvNorm(scale(192), scale(320), 3, stride=2)
        self.branch7x7x3_1 = _ConvNorm(inputs, scale(192), 1)
        self.branch7x7x3_2 = _row(scale(192), scale(192), 7)
        self.branch7x7x3_3 = _column(scale(192), scale(192), 7)
        self.branch7x7x3_4 = _ConvNorm(scale(192), scale(192), 3, stride=2)
        self.outputs = scale(320) + scale(192) + inputs

    def forward(self, hidden: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(hidden))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(hidden))))
        return torch.cat([three, seven, F.max_pool2d(hidden, 3, stride=2)], 1)


class _Grid8(nn.Module):
    """On 8x8 (figure 7)."""

    def __init__(self, inputs: int, scale: Scale) -> None:
        super().__init__()
        self.branch1x1 = _ConvNorm(inputs, scale(320), 1)
        self.branch3x3_1 = _ConvNorm(inputs, scale(384), 1)
        self.branch3x3_2a = _row(scale(384), scale(384), 3)
        self.branch3x3_2b = _column(scale(384), scale(384), 3)
        self.branch3x3dbl_1 = _ConvNorm(inputs, scale(448), 1)
        self.branch3x3dbl_2 = _ConvNorm(scale(448), scale(384), 3, padding=1)
        self.branch3x3dbl_3a = _row(scale(384), scale(384), 3)
        self.branch3x3dbl_3b = _column(scale(384), scale(384), 3)
        self.branch_pool = _ConvNorm(inputs, scale(192), 1)
        self.outputs = scale(320) + 4 * scale(384) + scale(192)

    def forward(self, hidden: Tensor) -> Tensor:
        three, double = self.branch3x3_1(hidden), self.branch3x3dbl_2(self.branch3x3dbl_1(hidden))
        parts = [self.branch1x1(hidden), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(_smoothed(hidden))]
        return torch.cat(parts, 1)


class _Auxiliary(nn.Module):
    """The auxiliary classifier on Mixed_6e (figure 8)."""

    def __init__(self, inputs: int, classes: int, scale: Scale) -> None:
        super().__init__()
        self.conv0 = _ConvNorm(inputs, scale(128), 1)
        self.conv1 = _ConvNorm(scale(128), scale(768), 5)
        self.fc = nn.Linear(scale(768), classes)

    def forward(self, hidden: Tensor) -> Tensor:
        # 17x17 becomes 5x5 as published; what small images leave is brought to 5x5 as well.
        wide = min(hidden.shape[-2:]) >= 17
        pooled = F.avg_pool2d(hidden, 5, stride=3) if wide else F.adaptive_avg_pool2d(hidden, 5)
        logits: Tensor = self.fc(self.conv1(self.conv0(pooled)).mean((2, 3)))
        return logits

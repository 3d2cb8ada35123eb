"""SN-GAN's residual networks (Miyato et al. 2018, tables 3 and 4), with SAGAN's self-attention as an option.

The class-conditional variants follow Miyato & Koyama 2018: conditional batch normalisation in the generator, a
projection in the discriminator.
"""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_sizes, doublings, normalise_spectrum
from limbeck.networks.blocks.conditional import ConditionalBatchNorm2d, LabelProjection
from limbeck.networks.roles import Discriminator, Generator

_ATTENDED = 16  # rows and columns of the features that attend to each other


@final
class ResnetGenerator(Generator):
    """A linear layer to 4x4, residual blocks that double the size, batch normalisation, convolution, tanh.

    blocks.0, blocks.1, ... (tap paths) have `width` channels at 8x8, 16x16, ... With width 256 and latent 128 it
    has 4,274,435 parameters for colour 32x32 images: 2,304 less than the authors' network, whose convolutions
    inside the blocks carry biases that the next batch normalisation takes away again.

    Args:
        width: Channels of every block.
        latent: Length L of the latent.
        channels: Channels C of the image.
        size: Height and width of the image: a power of two of at least 16.
        classes: Number of classes K; 0 is unconditional.
        attention: Self-attention at 16x16 (Zhang et al. 2019); needs a size of at least 32.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 256,
        latent: int = 128,
        channels: int = 3,
        size: int = 32,
        classes: int = 0,
        *,
        attention: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, latent=latent, channels=channels)
        check_sizes(self, at_least=0, classes=classes)
        stages = doublings(self, size, at_least=32 if attention else 16)
        self.latent_shape = (latent,)
        self.image_shape = (channels, size, size)
        self.classes = classes
        self.width = width
        self.project = nn.Linear(latent, 16 * width)
        self.blocks = nn.ModuleList(_UpResidual(width, classes) for _ in range(stages))
        self.attention = SelfAttention(width) if attention else None
        self.norm = nn.BatchNorm2d(width)
        self.output = nn.Conv2d(width, channels, 3, padding=1)
        _initialise(self)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] from latents (N, L); `label` (N,) is unused without classes."""
        hidden: Tensor = self.project(latent).view(-1, self.width, 4, 4)
        for block in self.blocks:
            hidden = block(hidden, label)
            if self.attention is not None and hidden.shape[-1] == _ATTENDED:
                hidden = self.attention(hidden)
        image: Tensor = precise(self.output(F.relu(self.norm(hidden)))).tanh()
        return image


@final
class ResnetDiscriminator(Discriminator):
    """Residual blocks down to 8x8, two more there, and a linear score of the summed features.

    For 32x32, blocks.0 (16x16) to blocks.3 (8x8) are tap paths, each of `width` channels; with width 128 it has
    1,053,825 parameters for colour images.

    Args:
        width: Channels of every block.
        channels: Channels C of the image.
        size: Height and width of the image: a power of two of at least 16.
        classes: Number of classes K; 0 is unconditional.
        spectral_norm: Normalise every weight spectrally.
        attention: Self-attention at 16x16 (Zhang et al. 2019); needs a size of at least 32.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 128,
        channels: int = 3,
        size: int = 32,
        classes: int = 0,
        *,
        spectral_norm: bool = True,
        attention: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, channels=channels)
        check_sizes(self, at_least=0, classes=classes)
        halvings = doublings(self, size, start=8, at_least=32 if attention else 16)
        self.image_shape = (channels, size, size)
        self.classes = classes
        first: list[nn.Module] = [_FirstResidual(channels, width)]
        smaller = [_Residual(width, halve=True) for _ in range(halvings - 1)]
        self.blocks = nn.ModuleList(first + smaller + [_Residual(width, halve=False) for _ in range(2)])
        self.attention = SelfAttention(width) if attention else None
        self.score = nn.Linear(width, 1)
        self.projection = LabelProjection(width, classes) if classes else None
        _initialise(self)
        if spectral_norm:
            normalise_spectrum(self)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Return scores (N,) of images (N, C, H, W); `label` (N,) is unused without classes."""
        hidden = image
        for block in self.blocks:
            hidden = block(hidden)
            if self.attention is not None and hidden.shape[-1] == _ATTENDED:
                hidden = self.attention(hidden)
        features = F.relu(hidden).sum((2, 3))
        score: Tensor = self.score(features).flatten()
        if self.projection is not None:
            score = score + self.projection(features, label)
        return score


@final
class SelfAttention(nn.Module):
    """Lets every position look at every other (Zhang et al. 2019, "Self-Attention GANs", eqs. 1-3).

    y = x + gain * out(softmax(query(x)^T key(x)) value(x)), gain 0 at the start. Keys and values are max-pooled
    over 2x2, as in the authors' code. It is written out in matrix products, which can be differentiated twice.

    Args:
        features: Number of channels C; a multiple of 8 uses the paper's C/8 query and C/2 value channels exactly.

    Raises:
        RecipeError: `features` is less than 2.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        if features < 2:
            raise RecipeError(f"attention: expected a width of at least 2, found {features}")
        self.query = nn.Conv2d(features, max(features // 8, 1), 1, bias=False)
        self.key = nn.Conv2d(features, max(features // 8, 1), 1, bias=False)
        self.value = nn.Conv2d(features, features // 2, 1, bias=False)
        self.out = nn.Conv2d(features // 2, features, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, C, H, W) from (N, C, H, W), H and W even."""
        query = self.query(hidden).flatten(2)
        key = F.max_pool2d(self.key(hidden), 2).flatten(2)
        value = F.max_pool2d(self.value(hidden), 2).flatten(2)
        weight = (query.transpose(1, 2) @ key).softmax(-1)  # (N, HW, HW/4): rows sum to 1
        seen = (value @ weight.transpose(1, 2)).unflatten(2, hidden.shape[2:])
        mixed: Tensor = hidden + self.gain * self.out(seen)
        return mixed


class _UpResidual(nn.Module):
    """Doubles height and width: norm, ReLU, enlarge, convolve, norm, ReLU, convolve, plus a 1x1 shortcut.

    No bias: what it would add to every position, this or a later batch normalisation takes away.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(width, classes)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = ConditionalBatchNorm2d(width, classes)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, hidden: Tensor, label: Tensor | None) -> Tensor:
        new = F.interpolate(F.relu(self.norm1(hidden, label)), scale_factor=2)
        new = self.conv2(F.relu(self.norm2(self.conv1(new), label)))
        # A 1x1 convolution and nearest enlargement commute; this order costs a quarter.
        sum_: Tensor = new + F.interpolate(self.shortcut(hidden), scale_factor=2)
        return sum_


class _FirstResidual(nn.Module):
    """The discriminator's first block: no ReLU on the image itself; halves height and width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, width, 1)

    def forward(self, image: Tensor) -> Tensor:
        new = F.avg_pool2d(self.conv2(F.relu(self.conv1(image))), 2)
        sum_: Tensor = new + self.shortcut(F.avg_pool2d(image, 2))
        return sum_


class _Residual(nn.Module):
    """ReLU, convolve, ReLU, convolve, plus the input; or both halved, with a 1x1 shortcut."""

    def __init__(self, width: int, *, halve: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width, width, 1) if halve else None

    def forward(self, hidden: Tensor) -> Tensor:
        new: Tensor = self.conv2(F.relu(self.conv1(F.relu(hidden))))
        if self.shortcut is None:
            return new + hidden
        # A 1x1 convolution and average pooling commute; this order costs a quarter.
        sum_: Tensor = F.avg_pool2d(new, 2) + self.shortcut(F.avg_pool2d(hidden, 2))
        return sum_


def _initialise(network: nn.Module) -> None:
    """Glorot's uniform weights, times sqrt(2) inside the residual blocks, as in the authors' code; biases 0."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, math.sqrt(2) if name.endswith(("conv1", "conv2")) else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, LabelProjection):
            nn.init.xavier_uniform_(layer.embedding.weight)

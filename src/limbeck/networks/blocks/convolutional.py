"""What convolutional networks are made of: residual encoders and decoders of any number of halvings, cheap layers."""

from __future__ import annotations

from math import gcd
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes

MOST = 4  # maps of half the size have twice the channels, up to this many times


def latent_side(owner: object, size: int, halvings: int) -> int:
    """Return the height of a map that is `size` pixels high after `halvings` halvings.

    Raises:
        RecipeError: The size cannot be halved so often, or a number is none.
    """
    check_sizes(owner, size=size, halvings=halvings)
    if size % (1 << halvings):
        raise RecipeError(
            f"{type(owner).__name__}.size: expected a multiple of {1 << halvings} for {halvings} halvings, found {size}"
        )
    return size >> halvings


def widths(width: int, halvings: int, most: int = MOST) -> list[int]:
    """Return the channels at each size, the largest maps first: doubled each time up to `most` times `width`."""
    return [width * min(1 << stage, most) for stage in range(halvings + 1)]


class Encoder(nn.Module):
    """Residual blocks at each size, strided convolutions between them.

    Args:
        width: Channels at the whole size.
        outputs: Channels of what it returns.
        channels: Channels C of the image.
        halvings: How often the size is halved.
        blocks: Residual blocks at each size.
    """

    def __init__(self, width: int, outputs: int, channels: int, halvings: int, blocks: int) -> None:
        super().__init__()
        counts = widths(width, halvings)
        self.input = nn.Conv2d(channels, width, 3, padding=1)
        self.stages = nn.ModuleList()
        for before, count in zip([width, *counts], counts, strict=False):
            down = nn.Conv2d(before, count, 3, stride=2, padding=1) if len(self.stages) else nn.Identity()
            self.stages.append(nn.Sequential(down, *(ResidualBlock(count) for _ in range(blocks))))
        self.output = nn.Sequential(
            normalization_of(counts[-1]), nn.SiLU(), nn.Conv2d(counts[-1], outputs, 3, padding=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return (N, outputs, H / 2^halvings, W / 2^halvings) of images (N, C, H, W)."""
        hidden = self.input(image)
        for stage in self.stages:
            hidden = stage(hidden)
        found: Tensor = self.output(hidden)
        return found


class Decoder(nn.Module):
    """Residual blocks at each size, doubled between them by repeating pixels.

    Args:
        width: Channels at the whole size.
        inputs: Channels of what it takes.
        channels: Channels C of the image.
        halvings: How often the size is doubled.
        blocks: Residual blocks at each size.
    """

    def __init__(self, width: int, inputs: int, channels: int, halvings: int, blocks: int) -> None:
        super().__init__()
        counts = widths(width, halvings)[::-1]
        self.input = nn.Conv2d(inputs, counts[0], 3, padding=1)
        self.stages = nn.ModuleList()
        for before, count in zip([counts[0], *counts], counts, strict=False):
            up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(before, count, 3, padding=1))
            start = up if len(self.stages) else nn.Identity()
            self.stages.append(nn.Sequential(start, *(ResidualBlock(count) for _ in range(blocks))))
        self.output = nn.Sequential(normalization_of(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, latent: Tensor) -> Tensor:
        """Return (N, C, h 2^halvings, w 2^halvings) of maps (N, inputs, h, w)."""
        hidden = self.input(latent)
        for stage in self.stages:
            hidden = stage(hidden)
        found: Tensor = self.output(hidden)
        return found


class ResidualBlock(nn.Module):
    """Twice group normalisation, SiLU and a 3x3 convolution, around which the input passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = normalization_of(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = normalization_of(channels), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, C, H, W)."""
        inner = self.conv1(F.silu(self.norm1(hidden)))
        inner = self.conv2(F.silu(self.norm2(inner)))
        found: Tensor = hidden + inner
        return found


def normalization_of(channels: int) -> nn.Module:
    """Return a group normalisation (Wu & He 2018) of up to eight groups, as many as divide the channels."""
    return nn.GroupNorm(gcd(channels, 8), channels)


def convolution(
    kind: type[nn.Conv2d | nn.ConvTranspose2d],
    inputs: int,
    outputs: int,
    side: int,
    *between: nn.Module,
    separable: bool,
    bias: bool = True,
    **options: Any,
) -> nn.Module:
    """Return a convolution, or one for each channel and then a 1x1 that mixes them (Howard et al. 2017, section 3.1).

    The second costs 1 / outputs + 1 / side² of the first.

    Args:
        kind: A convolution, or a transposed one.
        inputs: Channels of what it takes.
        outputs: Channels of what it returns.
        side: Height and width of the kernel.
        between: What stands between the two, such as a normalisation.
        separable: Whether there are two.
        bias: Whether they have one; before a normalisation it would be of no use.
        options: Stride, padding and the like.
    """
    if not separable:
        return kind(inputs, outputs, side, bias=bias, **options)
    each: nn.Module = kind(inputs, inputs, side, groups=inputs, bias=bias, **options)
    return nn.Sequential(each, *between, nn.Conv2d(inputs, outputs, 1, bias=bias))


def draw_weights(network: nn.Module, spread: float = 0.02) -> None:
    """Draw every convolution's weights from a normal distribution (Isola et al. 2017, section 6.2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=spread)

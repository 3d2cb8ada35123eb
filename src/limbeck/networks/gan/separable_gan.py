"""A small generator: depthwise separable convolutions (Howard et al. 2017, arXiv:1704.04861) in DCGAN's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_blocks, check_sizes, doublings
from limbeck.networks.blocks.conditional import ConditionalBatchNorm2d
from limbeck.networks.blocks.convolutional import convolution
from limbeck.networks.roles import Generator

START = 4  # height and width of the first map


@final
class SeparableGenerator(Generator):
    """From a latent to 4x4, then twice as large in every block by repeating pixels; ReLU inside, tanh at the end.

    A 4x4 convolution of DCGAN has 16 weights for each pair of channels, a separable one little more than 1: for the
    same number of parameters this has more channels and layers, and takes about twice as many operations. blocks.0
    (4x4), blocks.1 (8x8) and so on are tap paths; the last transposed convolution doubles once more. With width 54 and
    latent 64 it has 27,291 parameters for grey 32x32 images.

    Args:
        width: Channels of every block.
        latent: Length L of the latent.
        channels: Channels C of the image.
        size: Height and width of the image: a power of two of at least 8.
        classes: Number of classes K; 0 is unconditional.
        first: Channels of the map that the latent is projected to, which a 1x1 convolution makes the first block's: the
            projection would otherwise take most of the parameters.
        widths: Channels of each block from the first to the last, instead of `width` for all of them: fewer towards
            the end, where the maps are large, are fewer operations for as many parameters.
        depths: Convolutions of each block, from the first to the last; null for one at 4x4 and two in all others.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 54,
        latent: int = 64,
        channels: int = 1,
        size: int = 32,
        classes: int = 0,
        *,
        first: int = 8,
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, latent=latent, channels=channels, first=first)
        check_sizes(self, at_least=0, classes=classes)
        stages = doublings(self, size)
        widths = [width] * stages if widths is None else widths
        depths = [1] + [2] * (stages - 1) if depths is None else depths
        check_blocks(self, size, stages, widths=widths, depths=depths)
        self.latent_shape = (latent,)
        self.image_shape = (channels, size, size)
        self.classes = classes
        self.project = nn.Sequential(nn.Linear(latent, first * START * START), nn.Unflatten(1, (first, START, START)))
        self.expand = nn.Sequential(
            nn.BatchNorm2d(first), nn.ReLU(), nn.Conv2d(first, widths[0], 1, bias=False), nn.BatchNorm2d(widths[0])
        )
        inputs = [widths[0], *widths]
        self.blocks = nn.ModuleList(_Block(inputs[i], widths[i], depths[i], classes) for i in range(stages))
        self.output = nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] from latents (N, L); `label` (N,) is unused without classes."""
        hidden: Tensor = self.expand(self.project(latent))
        for number, block in enumerate(self.blocks):
            hidden = block(F.interpolate(hidden, scale_factor=2) if number else hidden, label)
        image: Tensor = precise(self.output(hidden)).tanh()
        return image


class _Block(nn.Module):
    """Separable convolutions, each normalised between its two halves and behind them, then ReLU."""

    def __init__(self, inputs: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            # A gain and a bias between the halves would say nothing that the second, and the norm behind it, cannot.
            convolution(
                nn.Conv2d, taken, width, 3, nn.BatchNorm2d(taken, affine=False), separable=True, bias=False, padding=1
            )
            for taken in [inputs] + [width] * (depth - 1)
        )
        self.norms = nn.ModuleList(ConditionalBatchNorm2d(width, classes) for _ in range(depth))

    def forward(self, hidden: Tensor, label: Tensor | None) -> Tensor:
        for conv, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = F.relu(norm(conv(hidden), label))
        return hidden

"""IMDN (Hui et al. 2019, arXiv:1909.11856): a light network for super-resolution, by splitting off what is done."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer

SLOPE = 0.05  # of the leaky ReLU
KEPT = 4  # a quarter of the channels is kept at every step of the distillation


@final
class Imdn(Restorer):
    """Information multi-distillation blocks between two convolutions, and a pixel shuffle at the end.

    This is the form without channel attention that the AIM and NTIRE challenges took as their baseline; module names
    are those of its weights (8 blocks of width 64, scale 4). These were made for images in [0, 1], which is what the
    convolutions here see. model.1.sub.{i} are the blocks, and tap paths.

    Args:
        width: Channels, a multiple of 4.
        blocks: Number of blocks.
        scale: How many times larger images become.
        channels: Channels C of the image.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(self, width: int = 64, blocks: int = 8, scale: int = 4, channels: int = 3) -> None:
        super().__init__()
        check_sizes(self, width=width, blocks=blocks, scale=scale, channels=channels)
        if width % KEPT:
            raise RecipeError(f"Imdn.width: expected a multiple of {KEPT}, found {width}")
        self.channels = self.inputs = channels
        self.scale = scale
        body = [MultiDistillation(width) for _ in range(blocks)]
        self.model = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            Shortcut(nn.Sequential(*body, nn.Conv2d(width, width, 3, padding=1))),
            nn.Conv2d(width, channels * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W), about [-1, 1], of images (N, C, H, W) in [-1, 1]."""
        found: Tensor = self.model((image + 1) / 2) * 2 - 1
        return found


class Shortcut(nn.Module):
    """x + sub(x)."""

    def __init__(self, sub: nn.Module) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, width, H, W)."""
        found: Tensor = hidden + self.sub(hidden)
        return found


class MultiDistillation(nn.Module):
    """Three times a part of the channels is kept and the rest refined; all parts are joined (section 3.2, table 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kept, self.rest = width // KEPT, width - width // KEPT
        self.conv1, self.conv2, self.conv3 = (_refining(inputs, width) for inputs in (width, self.rest, self.rest))
        self.conv4 = nn.Conv2d(self.rest, self.kept, 3, padding=1)
        self.conv1x1 = nn.Conv2d(KEPT * self.kept, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, width, H, W)."""
        parts, rest = [], hidden
        for refine in (self.conv1, self.conv2, self.conv3):
            kept, rest = refine(rest).split((self.kept, self.rest), 1)
            parts.append(kept)
        found: Tensor = hidden + self.conv1x1(torch.cat([*parts, self.conv4(rest)], 1))
        return found


def _refining(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE))

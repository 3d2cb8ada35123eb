"""RLFN (Kong et al. 2022, arXiv:2205.07514): residual local features, the fastest light network of its year."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer

SLOPE = 0.05  # of the leaky ReLU


@final
class Rlfn(Restorer):
    """Blocks of three convolutions with enhanced spatial attention, and a pixel shuffle at the end.

    Module names are those of the weights that its authors entered into NTIRE 2022 (four blocks, width 46, inner width
    48, scale 4), which were made for images in 0..255: that is what the convolutions here see. B1, B2... are tap paths.
    Attention looks far around a pixel, so tiles are not restored exactly as the whole is.

    Args:
        width: Channels between the blocks.
        inner: Channels inside them.
        blocks: Number of blocks.
        scale: How many times larger images become.
        channels: Channels C of the image.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(self, width: int = 46, inner: int = 48, blocks: int = 4, scale: int = 4, channels: int = 3) -> None:
        super().__init__()
        check_sizes(self, width=width, inner=inner, blocks=blocks, scale=scale, channels=channels)
        self.channels = self.inputs = channels
        self.scale, self.count = scale, blocks
        self.fea_conv = nn.Conv2d(channels, width, 3, padding=1)
        for number in range(1, blocks + 1):
            self.add_module(f"B{number}", LocalFeatures(width, inner))
        self.LR_conv = nn.Conv2d(width, width, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(width, channels * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W), about [-1, 1], of images (N, C, H, W) in [-1, 1]."""
        hidden = start = self.fea_conv((image + 1) * 127.5)
        for number in range(1, self.count + 1):
            hidden = self.get_submodule(f"B{number}")(hidden)
        found: Tensor = self.upsampler(start + self.LR_conv(hidden)) / 127.5 - 1
        return found


class LocalFeatures(nn.Module):
    """Three convolutions added to the input, a 1x1 convolution, and attention (figure 2c)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(width, inner, 3, padding=1)
        self.c2_r = nn.Conv2d(inner, inner, 3, padding=1)
        self.c3_r = nn.Conv2d(inner, width, 3, padding=1)
        self.c5 = nn.Conv2d(width, width, 1)
        self.esa = SpatialAttention(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, width, H, W)."""
        inner = hidden
        for layer in (self.c1_r, self.c2_r, self.c3_r):
            inner = F.leaky_relu(layer(inner), SLOPE)
        found: Tensor = self.esa(self.c5(hidden + inner))
        return found


class SpatialAttention(nn.Module):
    """A weight for every value, read from pooled surroundings (ESA, Liu et al. 2020, arXiv:2009.11551)."""

    def __init__(self, width: int, inner: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2)
        self.conv3 = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv4 = nn.Conv2d(inner, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (N, width, H, W); H and W are at least 3."""
        narrow = self.conv1(hidden)
        pooled = self.conv2(narrow)
        window = (min(7, pooled.shape[2]), min(7, pooled.shape[3]))  # small images have no room for the paper's 7x7
        pooled = self.conv3(F.max_pool2d(pooled, window, stride=3))
        pooled = F.interpolate(pooled, hidden.shape[2:], mode="bilinear", align_corners=False)
        found: Tensor = hidden * self.conv4(pooled + self.conv_f(narrow)).sigmoid()
        return found

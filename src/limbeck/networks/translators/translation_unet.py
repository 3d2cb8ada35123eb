"""The U-Net of pix2pix (Isola et al. 2017, arXiv:1611.07004, section 6.1.1): it turns images into others."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_choice, check_dropout, check_sizes
from limbeck.networks.blocks.convolutional import convolution, draw_weights, widths
from limbeck.networks.roles import Restorer

MOST = 8  # maps of half the size have twice the channels, up to this many times
DROPPED = 3  # layers of the decoder that have dropout


@final
class TranslationUnet(Restorer):
    """Halves an image `depth` times and doubles it again, joined at every size; ends in tanh.

    4x4 convolutions of stride 2, leaky ReLU on the way down and ReLU on the way up. The first layer has no
    normalisation, nor has the innermost, where an image may be a single pixel. Images are padded to a multiple of
    2^depth. down.{i} and up.{i} are tap paths; up.{i} is what it makes before the way down joins it.

    Args:
        width: Channels of the first layer, doubled with every halving up to eight times; 64 in the paper.
        depth: Halvings; 8 in the paper, whose images have 256 pixels.
        channels: Channels C of both images.
        normalization: "batch" or "instance". At a batch of one image, as in the paper, they are the same.
        dropout: Probability in the first three layers of the way up while it trains, 0.5 in the paper, where it is the
            only noise and stays on in tests too; here an evaluation draws nothing.
        separable: Each convolution is one for each channel and a 1x1; first and last are whole.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 8,
        channels: int = 3,
        *,
        normalization: Literal["batch", "instance"] = "batch",
        dropout: float = 0.0,
        separable: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, depth=depth, channels=channels)
        check_choice(self, tuple(NORMALIZATIONS), normalization=normalization)
        check_dropout(self, dropout)
        self.channels = self.inputs = channels
        self.scale = 1
        normalize = NORMALIZATIONS[normalization]
        counts = widths(width, depth - 1, MOST)
        halve: dict[str, Any] = {"side": 4, "stride": 2, "padding": 1, "separable": separable}
        self.down = nn.ModuleList([nn.Conv2d(channels, width, 4, stride=2, padding=1)])
        for stage, (before, after) in enumerate(pairwise(counts), 1):
            innermost = stage == depth - 1
            layer = convolution(nn.Conv2d, before, after, **halve, bias=innermost)
            norm = nn.Identity() if innermost else normalize(after)
            self.down.append(nn.Sequential(nn.LeakyReLU(0.2), layer, norm))
        self.up = nn.ModuleList()
        for stage, (below, after) in enumerate(pairwise(counts[::-1])):
            layer = convolution(nn.ConvTranspose2d, below * (2 if stage else 1), after, **halve, bias=False)
            noise = nn.Dropout(dropout if stage < DROPPED else 0.0)
            self.up.append(nn.Sequential(nn.ReLU(), layer, normalize(after), noise))
        last = nn.ConvTranspose2d(width * (2 if depth > 1 else 1), channels, 4, stride=2, padding=1)
        self.up.append(nn.Sequential(nn.ReLU(), last, _Tanh()))
        draw_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] of images (N, C, H, W)."""
        height, width = image.shape[2:]
        step = 1 << len(self.down)
        found = F.pad(image, (0, -width % step, 0, -height % step), mode="replicate")
        passed: list[Tensor] = []
        for layer in self.down:
            found = layer(found)
            passed.append(found)
        hidden: Tensor = self.up[0](passed.pop())
        for layer in self.up[1:]:
            hidden = layer(torch.cat([hidden, passed.pop()], 1))
        return hidden[..., :height, :width]


def _instance(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "instance": _instance}


class _Tanh(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return precise(image).tanh()  # in bf16 it is 1 from 3.5 on, and has no slope there

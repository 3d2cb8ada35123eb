"""The ResNet generator of image translation (Johnson et al. 2016; Zhu et al. 2017, arXiv:1703.10593, section 7.2)."""

from __future__ import annotations

from typing import Any, final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.blocks.convolutional import convolution, draw_weights
from limbeck.networks.roles import Restorer


@final
class TranslationResnet(Restorer):
    """Two halvings, residual blocks, two doublings by transposed convolutions; instance normalisation, ends in tanh.

    down.{i}, blocks.{i} and up.{i} are tap paths. Images are padded to a multiple of 4.

    Args:
        width: Channels at the whole size; 64 in the paper.
        blocks: Residual blocks; 9 in the paper for images of 256 pixels, 6 for 128.
        channels: Channels C of both images.
        separable: The convolutions of the residual blocks, where nearly all of the cost is, are one for each channel,
            a normalisation and a 1x1: the MobileResNet of GAN compression (Li et al. 2020, arXiv:2003.08936).

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, width: int = 64, blocks: int = 9, channels: int = 3, *, separable: bool = False) -> None:
        super().__init__()
        check_sizes(self, width=width, blocks=blocks, channels=channels)
        self.channels = self.inputs = channels
        self.scale = 1
        self.input = _layer(nn.Conv2d(channels, width, 7, padding=3, padding_mode="reflect", bias=False))
        self.down = nn.ModuleList(
            _layer(nn.Conv2d(width * wide, width * wide * 2, 3, stride=2, padding=1, bias=False)) for wide in (1, 2)
        )
        self.blocks = nn.ModuleList(_Block(4 * width, separable) for _ in range(blocks))
        self.up = nn.ModuleList(_layer(_doubling(width * wide, width * wide // 2)) for wide in (4, 2))
        self.output = nn.Conv2d(width, channels, 7, padding=3, padding_mode="reflect")
        draw_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] of images (N, C, H, W); H and W are at least 5."""
        height, width = image.shape[2:]
        hidden = F.pad(image, (0, -width % 4, 0, -height % 4), mode="replicate")
        for layer in (self.input, *self.down, *self.blocks, *self.up):
            hidden = layer(hidden)
        found: Tensor = precise(self.output(hidden)).tanh()
        return found[..., :height, :width]


class _Block(nn.Module):
    """Two convolutions, around which the input passes."""

    def __init__(self, width: int, separable: bool) -> None:
        super().__init__()
        self.first, self.second = _inner(width, separable), _inner(width, separable)

    def forward(self, hidden: Tensor) -> Tensor:
        found: Tensor = hidden + self.second(self.first(hidden).relu())
        return found


def _inner(width: int, separable: bool) -> nn.Sequential:
    options: dict[str, Any] = {"padding": 1, "padding_mode": "reflect", "separable": separable, "bias": False}
    return nn.Sequential(convolution(nn.Conv2d, width, width, 3, _norm(width), **options), _norm(width))


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)


def _layer(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(layer, _norm(layer.out_channels), nn.ReLU())


def _norm(width: int) -> nn.Module:
    return nn.InstanceNorm2d(width, affine=True)

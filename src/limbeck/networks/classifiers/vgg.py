"""VGG-16 up to relu3_3 (Simonyan & Zisserman 2015): the features that style transfer is defined by."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.given.weights import load_npz

MEAN = (103.939, 116.779, 123.68)  # of the blue, green and red of ImageNet, in 0..255
CONVOLUTIONS = (2, 2, 3)  # of each stage
LAYERS = tuple(f"relu{stage}_{number}" for stage, n in enumerate(CONVOLUTIONS, 1) for number in range(1, n + 1))


@final
class Vgg16(nn.Module):
    """The first seven convolutions in their Caffe form: BGR, 0..255, less the mean of ImageNet.

    relu1_1, relu1_2, relu2_1, relu2_2, relu3_1, relu3_2 and relu3_3 are tap paths. Enough of it for Gram matrices, and
    as `encoder` of an `AdaptiveStylizer`.

    Args:
        weights: A .npz file with block1_conv1.weight (64, 3, 3, 3), block1_conv1.bias and so on to block3_conv3, as
            Keras names them; relative to the working directory. Null for random ones (He et al. 2015, drawn with a
            fixed seed): their Gram matrices tell textures apart as well, less like people do (Ustyuzhaninov et al.
            2016, arXiv:1606.00021).
        width: Channels of the first stage; 64 in the paper.
        until: The last layer.
        trained: Whether it learns; else it stays as it is.

    Raises:
        RecipeError: No such layer.
        WeightsError: The file cannot be read, or holds other weights.
    """

    mean: Tensor

    def __init__(
        self, weights: str | None = None, width: int = 64, *, until: str = "relu3_3", trained: bool = False
    ) -> None:
        super().__init__()
        check_sizes(self, width=width)
        if until not in LAYERS:
            raise RecipeError(f"Vgg16.until: expected one of {', '.join(LAYERS)}, found {until!r}")
        self.layers = LAYERS[: LAYERS.index(until) + 1]
        before = 3
        for layer in self.layers:
            after = width * 2 ** (int(layer[4]) - 1)
            self.add_module(layer.replace("relu", "conv"), nn.Conv2d(before, after, 3, padding=1))
            self.add_module(layer, nn.ReLU())
            before = after
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        load_npz(self, weights, _published) if weights is not None else _draw(self)
        self.requires_grad_(trained)

    def forward(self, image: Tensor) -> Tensor:
        """Return the last layer's (N, C, H / s, W / s) of RGB images (N, 3, H, W) in [-1, 1]; 256 and 4 by default."""
        hidden = (image.flip(1) + 1) * 127.5 - self.mean
        for layer in self.layers:
            if layer in ("relu2_1", "relu3_1"):
                hidden = nn.functional.max_pool2d(hidden, 2)
            hidden = self.get_submodule(layer)(self.get_submodule(layer.replace("relu", "conv"))(hidden))
        return hidden


def _published(name: str) -> str:
    """Return Keras' name of a parameter: conv1_2.bias is block1_conv2.bias there."""
    return name.replace("conv", "block", 1).replace("_", "_conv", 1)


def _draw(network: Vgg16) -> None:
    draw = torch.Generator().manual_seed(16)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=draw)
        else:
            nn.init.zeros_(parameter)

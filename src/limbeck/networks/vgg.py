"""VGG-16 up to relu3_3 (Simonyan & Zisserman 2015): the features that style transfer is defined by."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.errors import WeightsError

MEAN = (103.939, 116.779, 123.68)  # of the blue, green and red of ImageNet, in 0..255
STAGES = ((3, 64, 2), (64, 128, 2), (128, 256, 3))  # channels before and after, and convolutions


@final
class Vgg16(nn.Module):
    """The first seven convolutions in their Caffe form: BGR, 0..255, less the mean of ImageNet. None is trained.

    relu1_1, relu1_2, relu2_1, relu2_2, relu3_1, relu3_2 and relu3_3 are tap paths.

    Args:
        weights: A .npz file with block1_conv1.weight (64, 3, 3, 3), block1_conv1.bias and so on to block3_conv3, as
            Keras names them; relative to the working directory. Null for random ones (He et al. 2015, drawn with a
            fixed seed): their Gram matrices tell textures apart as well, less like people do (Ustyuzhaninov et al.
            2016, arXiv:1606.00021).

    Raises:
        WeightsError: The file cannot be read, or holds other weights.
    """

    mean: Tensor

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        for stage, (before, after, count) in enumerate(STAGES, 1):
            for number in range(1, count + 1):
                convolution = nn.Conv2d(before if number == 1 else after, after, 3, padding=1)
                self.add_module(f"conv{stage}_{number}", convolution)
                self.add_module(f"relu{stage}_{number}", nn.ReLU())
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        _load(self, Path(weights)) if weights is not None else _draw(self)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Return relu3_3 (N, 256, H / 4, W / 4) of RGB images (N, 3, H, W) in [-1, 1]."""
        hidden = (image.flip(1) + 1) * 127.5 - self.mean
        for stage, (_, _, count) in enumerate(STAGES, 1):
            if stage > 1:
                hidden = nn.functional.max_pool2d(hidden, 2)
            for number in range(1, count + 1):
                hidden = self.get_submodule(f"conv{stage}_{number}")(hidden)
                hidden = self.get_submodule(f"relu{stage}_{number}")(hidden)
        return hidden


def _load(network: Vgg16, path: Path) -> None:
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: expected the weights of VGG-16 as a .npz file, found none ({error})") from error
    for name, parameter in network.named_parameters():
        key = name.replace("conv", "block", 1).replace("_", "_conv", 1)  # conv1_2.bias is block1_conv2.bias there
        found = held.get(key)
        if found is None or found.shape != tuple(parameter.shape):
            shape = "none" if found is None else found.shape
            raise WeightsError(f"{path}: expected {key} {tuple(parameter.shape)}, found {shape}")
        parameter.data.copy_(torch.from_numpy(found.astype(np.float32)))


def _draw(network: Vgg16) -> None:
    draw = torch.Generator().manual_seed(16)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=draw)
        else:
            nn.init.zeros_(parameter)

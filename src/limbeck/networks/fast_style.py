"""Trained painters of others: the network and file layout of the widely used TensorFlow form of Johnson's."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import WeightsError
from limbeck.networks.roles import Stylizer

LAYERS = ("conv1", "conv2", "conv3", *(f"res{n}_{i}" for n in range(1, 6) for i in (1, 2)), "up1", "up2", "out")
EPSILON = 1e-3  # in the variance of an instance


@final
class FastStyle(Stylizer):
    """Johnson's network at width 32 with 5 blocks, zero padding, transposed convolutions and a normalised output.

    It is for weights that exist; `JohnsonStylizer` is the one to train. conv1, conv2, conv3, res1_1 to res5_2, up1, up2
    and out are tap paths.

    Args:
        weights: A .npz file that holds {layer}.weight (outputs, inputs, h, w; for up1 and up2 inputs, outputs, h, w),
            {layer}.scale and {layer}.shift (outputs,) of each; relative to the working directory. Null for random ones.

    Raises:
        WeightsError: The file cannot be read, or holds other weights.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.styles = 1
        self.conv1 = _Layer(3, 32, 9)
        self.conv2 = _Layer(32, 64, 3, stride=2)
        self.conv3 = _Layer(64, 128, 3, stride=2)
        for name in LAYERS[3:-3]:
            self.add_module(name, _Layer(128, 128, 3))
        self.up1 = _Layer(128, 64, 3, enlarge=True)
        self.up2 = _Layer(64, 32, 3, enlarge=True)
        self.out = _Layer(32, 3, 9)
        if weights is not None:
            _load(self, Path(weights))

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return stylized images (N, 3, H, W) in [-1, 1] of images (N, 3, H, W); there is one style."""
        height, width = image.shape[2:]
        hidden = F.pad((image + 1) * 127.5, (0, -width % 4, 0, -height % 4), mode="replicate")
        for layer in (self.conv1, self.conv2, self.conv3):
            hidden = layer(hidden).relu()
        for number in range(1, 6):
            first, second = (self.get_submodule(f"res{number}_{i}") for i in (1, 2))
            hidden = hidden + second(first(hidden).relu())
        for layer in (self.up1, self.up2):
            hidden = layer(hidden).relu()
        found: Tensor = (self.out(hidden).tanh() * (150 / 127.5)).clamp(-1, 1)
        return found[..., :height, :width]


class _Layer(nn.Module):
    """A convolution with TensorFlow's "SAME" padding, and instance normalisation."""

    def __init__(self, inputs: int, outputs: int, side: int, *, stride: int = 1, enlarge: bool = False) -> None:
        super().__init__()
        shape = (inputs, outputs) if enlarge else (outputs, inputs)
        self.weight = nn.Parameter(torch.empty(*shape, side, side))
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")
        self.scale, self.shift = nn.Parameter(torch.ones(outputs)), nn.Parameter(torch.zeros(outputs))
        self.stride, self.enlarge = stride, enlarge

    def forward(self, hidden: Tensor) -> Tensor:
        if self.enlarge:
            hidden = F.conv_transpose2d(hidden, self.weight, stride=2)[..., :-1, :-1]
        else:
            around = self.weight.shape[2] - self.stride  # of an even side; the odd pixel lies at the end
            before, after = around // 2, around - around // 2
            hidden = F.conv2d(F.pad(hidden, (before, after) * 2), self.weight, stride=self.stride)
        return F.instance_norm(hidden, weight=self.scale, bias=self.shift, eps=EPSILON)


def _load(network: FastStyle, path: Path) -> None:
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: expected the weights of a painter as a .npz file, found none ({error})") from error
    for name, parameter in network.named_parameters():
        found = held.get(name)
        if found is None or found.shape != tuple(parameter.shape):
            shape = "none" if found is None else found.shape
            raise WeightsError(f"{path}: expected {name} {tuple(parameter.shape)}, found {shape}")
        parameter.data.copy_(torch.from_numpy(found.astype(np.float32)))

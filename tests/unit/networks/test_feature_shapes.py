"""networks/handling/feature_shapes.py: looking at a network leaves it as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.networks.gan.dcgan import DcganGenerator
from limbeck.networks.handling.feature_shapes import feature_shapes


def test_looking_leaves_the_network_as_it_was() -> None:
    network = DcganGenerator(width=2, latent=4, size=16)
    network.blocks[0].eval()
    before, modes = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]
    assert feature_shapes(network, ["blocks.0", "output"], torch.randn(2, 4)) == [(4, 4, 4), (1, 16, 16)]
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


class Odd(nn.Module):
    latent_shape = (4,)

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.LSTM(4, 4), nn.Linear(4, 4)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.used(latent)[0]
        return output


@pytest.mark.parametrize(
    ("path", "message"),
    [("unused", "does not run"), ("used", "expected a tensor, found tuple"), ("use", "mean 'used'")],
)
def test_paths_that_give_no_features(path: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        feature_shapes(Odd(), [path], torch.zeros(2, 4))

"""networks/adapters.py: what is made of which shapes, and that looking at a network leaves it as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.networks.gan.dcgan import DcganGenerator
from limbeck.networks.handling.adapters import adapter, adapters, feature_shapes


def test_what_fits_which_shapes() -> None:
    assert isinstance(adapter((8, 4, 4), (8, 4, 4), ""), nn.Identity)
    conv = adapter((8, 4, 4), (16, 4, 4), "")
    assert isinstance(conv, nn.Conv2d)
    assert conv(torch.zeros(2, 8, 4, 4)).shape == (2, 16, 4, 4)
    assert adapter((8,), (5,), "")(torch.zeros(2, 8)).shape == (2, 5)


@pytest.mark.parametrize(("student", "teacher"), [((8, 4, 4), (8, 8, 8)), ((8,), (8, 4, 4)), ((3, 8), (4, 8))])
def test_shapes_that_cannot_be_adapted(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=r"'a' -> 'b'.*differ in width only"):
        adapter(student, teacher, "'a' -> 'b'")


@pytest.mark.parametrize("classes", [0, 3])
def test_adapters_between_two_generators_follow_the_order_of_the_paths(classes: int) -> None:
    student = DcganGenerator(width=2, latent=4, size=16, classes=classes)
    teacher = DcganGenerator(width=6, latent=4, size=16, classes=classes)
    fits = adapters(student, teacher, {"blocks.1": "blocks.1", "blocks.0": "blocks.0"})
    assert [(fit.in_channels, fit.out_channels) for fit in fits] == [(2, 6), (4, 12)]
    assert len(adapters(student, teacher, {})) == 0


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
        adapters(Odd(), Odd(), {path: "used"})


def test_a_generator_that_does_not_state_its_latent() -> None:
    with pytest.raises(RecipeError, match="Sequential to state its latent_shape"):
        adapters(nn.Sequential(nn.Linear(2, 2)), Odd(), {"0": "unused"})

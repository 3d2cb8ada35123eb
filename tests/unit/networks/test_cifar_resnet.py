"""The CIFAR ResNets: shortcuts by hand, the literature's x4, options that cannot be."""

from typing import Any

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.networks.classifiers.cifar_resnet import CifarResNet
from limbeck.networks.handling.tap import Tap


def test_shortcut_a_takes_every_second_pixel_and_adds_channels_of_zeros_on_both_sides() -> None:
    shortcut = CifarResNet(depth=8, width=4).layer2[0].shortcut
    hidden = torch.arange(2 * 4 * 4 * 4.0).view(2, 4, 4, 4)
    found = shortcut(hidden)
    assert found.shape == (2, 8, 2, 2) and not list(shortcut.parameters())
    assert (found[:, :2] == 0).all() and (found[:, 6:] == 0).all()
    assert found[0, 2].tolist() == [[0.0, 2.0], [8.0, 10.0]]
    assert found[1, 5].tolist() == [[112.0, 114.0], [120.0, 122.0]]


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_x4_of_the_literature(shortcut: Any) -> None:
    network = CifarResNet(depth=8, width=64, stem_width=32, shortcut=shortcut, classes=100)
    paths = ["conv1", "layer1", "layer2", "layer3"]
    with Tap(network, paths) as tap:
        network(torch.zeros(2, 3, 32, 32))
    shapes = [tuple(tap[path].shape) for path in paths]
    assert shapes == [(2, 32, 32, 32), (2, 64, 32, 32), (2, 128, 16, 16), (2, 256, 8, 8)]


@pytest.mark.parametrize("depth", [8, 14, 20])
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    network = CifarResNet(depth=depth, width=2)
    assert sum(parameter.ndim > 1 for parameter in network.parameters()) == depth


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depth": 18}, "CifarResNet.depth: expected 6 n + 2, such as 8, 20, 32, 56 or 110, found 18"),
        ({"depth": 2}, "CifarResNet.depth: expected a whole number of at least 8, found 2"),
        ({"shortcut": "C"}, "CifarResNet.shortcut: expected one of 'A', 'B', found 'C'"),
        ({"stem_width": 0}, "CifarResNet.stem_width: expected a whole number of at least 1, found 0"),
        (
            {"stem_width": 32},
            "CifarResNet.stem_width: expected at most the width 16 with shortcut 'A', which only adds channels,"
            " found 32",
        ),
        ({"std": [0.2] * 3}, "CifarResNet.mean: expected 3 numbers beside std, found null"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        CifarResNet(**options)
    assert str(caught.value) == says


def test_a_wider_stem_is_possible_where_the_shortcut_projects() -> None:
    assert CifarResNet(depth=8, width=4, stem_width=8, shortcut="B")(torch.zeros(2, 3, 8, 8)).shape == (2, 10)

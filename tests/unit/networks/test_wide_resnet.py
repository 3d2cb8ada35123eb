"""Wide ResNets: depth and width as the paper counts them, dropout only in training, options that cannot be."""

from typing import Any

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.networks.classifiers.wide_resnet import WideResNet
from limbeck.networks.handling.tap import Tap


def test_tap_paths() -> None:
    network = WideResNet(depth=10, width=2)
    paths = ["block1", "block2", "block3"]
    with Tap(network, paths) as tap:
        network(torch.zeros(2, 3, 32, 32))
    assert [tuple(tap[path].shape) for path in paths] == [(2, 32, 32, 32), (2, 64, 16, 16), (2, 128, 8, 8)]


@pytest.mark.parametrize("depth", [10, 16])
def test_depth_counts_the_layers_with_weights_and_the_three_projections(depth: int) -> None:
    network = WideResNet(depth=depth, width=2)
    layers = [name for name, parameter in network.named_parameters() if parameter.ndim > 1]
    # As the paper counts: 6 n + 4 = the first convolution, 6 n in the blocks and the three projections; the linear
    # layer is one more.
    assert sum("fc" not in name for name in layers) == depth


def test_width_1_needs_no_projection_in_its_first_group() -> None:
    names = WideResNet(depth=10, width=1).state_dict()
    assert "block1.layer.0.convShortcut.weight" not in names and "block2.layer.0.convShortcut.weight" in names


def test_a_block_without_its_second_convolution_is_its_shortcut() -> None:
    block = WideResNet(depth=16, width=1).block2.layer[1].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    hidden = torch.randn(2, 32, 4, 4)
    assert torch.equal(block(hidden), hidden)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    network, image = WideResNet(depth=10, width=1, dropout=0.5), torch.randn(2, 3, 8, 8)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depth": 20}, "WideResNet.depth: expected 6 n + 4, such as 10, 16, 22, 28 or 40, found 20"),
        ({"depth": 4}, "WideResNet.depth: expected a whole number of at least 10, found 4"),
        ({"dropout": 1.0}, "WideResNet.dropout: expected at least 0 and below 1, found 1.0"),
        ({"size": 4}, "WideResNet.size: expected a whole number of at least 8, found 4"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        WideResNet(**options)
    assert str(caught.value) == says

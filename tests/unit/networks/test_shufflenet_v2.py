"""ShuffleNet V2: the shuffle by hand, stems, options that cannot be."""

from typing import Any

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.networks.classifiers.shufflenet_v2 import ShuffleNetV2
from limbeck.networks.handling.tap import Tap


def test_a_unit_keeps_half_of_the_channels_and_takes_turns() -> None:
    torch.manual_seed(0)
    unit = ShuffleNetV2(0.5).stage2[1].eval()
    hidden = torch.randn(2, 48, 4, 4)
    found = unit(hidden)
    assert torch.equal(found[:, 0::2], hidden[:, :24])
    torch.testing.assert_close(found[:, 1::2], unit.branch2(hidden[:, 24:]))


@pytest.mark.parametrize(("stem", "sides"), [("small", [32, 16, 8, 4]), ("imagenet", [16, 4, 2, 1])])
def test_tap_paths(stem: Any, sides: list[int]) -> None:
    network = ShuffleNetV2(0.5, stem=stem)
    paths = ["conv1", "stage2", "stage3", "stage4"]
    with Tap(network, paths) as tap:
        network(torch.zeros(2, 3, 32, 32))
    expected = [(2, width, side, side) for width, side in zip([24, 48, 96, 192], sides, strict=True)]
    assert [tuple(tap[path].shape) for path in paths] == expected


def test_in_evaluation_every_parameter_counts() -> None:
    """In training, the biases before a linear layer with batch normalisation are taken away again."""
    torch.manual_seed(0)
    network = ShuffleNetV2(0.5).eval()
    network(torch.randn(2, 3, 16, 16).tanh()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0.75}, "ShuffleNetV2.width: expected one of 0.5, 1.0, 1.5, 2.0, found 0.75"),
        ({"stem": "tiny"}, "ShuffleNetV2.stem: expected one of 'imagenet', 'small', found 'tiny'"),
        ({"size": 7}, "ShuffleNetV2.size: expected a whole number of at least 8, found 7"),
        (
            {"mean": [0.5] * 3, "std": [0.0] * 3},
            "ShuffleNetV2.std: expected 3 numbers above 0, one a channel, found [0.0, 0.0, 0.0]",
        ),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ShuffleNetV2(**options)
    assert str(caught.value) == says

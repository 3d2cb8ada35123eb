"""ResNet-18/34/50: stems, tap paths, sizes and options that cannot be."""

from typing import Any

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.networks.classifiers.resnet import ResNet
from limbeck.networks.handling.tap import Tap


@pytest.mark.parametrize(("stem", "sides"), [("small", [32, 16, 8, 4]), ("imagenet", [8, 4, 2, 1])])
@pytest.mark.parametrize(("depth", "widths"), [(18, [4, 8, 16, 32]), (50, [16, 32, 64, 128])])
def test_tap_paths(stem: Any, sides: list[int], depth: Any, widths: list[int]) -> None:
    network = ResNet(depth=depth, width=4, stem=stem)
    paths = ["layer1", "layer2", "layer3", "layer4"]
    with Tap(network, paths) as tap:
        network(torch.zeros(2, 3, 32, 32))
    expected = [(2, width, side, side) for width, side in zip(widths, sides, strict=True)]
    assert [tuple(tap[path].shape) for path in paths] == expected
    assert network.features(torch.zeros(2, 3, 32, 32)).shape == (2, widths[-1])


def test_the_small_stem_changes_only_the_first_layer() -> None:
    small, large = (ResNet(width=4, stem=stem).state_dict() for stem in ("small", "imagenet"))
    different = [name for name in large if small[name].shape != large[name].shape]
    assert small.keys() == large.keys() and different == ["conv1.weight"]


def test_a_block_is_its_shortcut_where_its_last_normalisation_is_nought() -> None:
    """The residual branch then adds nothing, and ReLU keeps what was already positive."""
    block = ResNet(width=4).layer1[1].eval()
    torch.nn.init.zeros_(block.bn2.weight)
    hidden = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(hidden), hidden)


def test_statistics_of_the_images() -> None:
    torch.manual_seed(0)
    plain = ResNet(width=4).eval()
    published = ResNet(width=4, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4]).eval()
    published.load_state_dict(plain.state_dict())
    colour = torch.rand(2, 3, 16, 16)
    statistics = (torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1))
    torch.testing.assert_close(published(colour * 2 - 1), plain((colour - statistics[0]) / statistics[1]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depth": 20}, "ResNet.depth: expected one of 18, 34, 50, found 20"),
        ({"stem": "tiny"}, "ResNet.stem: expected one of 'imagenet', 'small', found 'tiny'"),
        ({"size": 7}, "ResNet.size: expected a whole number of at least 8, found 7"),
        ({"mean": [0.5]}, "ResNet.std: expected 3 numbers beside mean, found null"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ResNet(**options)
    assert str(caught.value) == says

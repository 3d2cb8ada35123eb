"""MobileNetV2: published multipliers, stems, `features` as a module and as the role's method, bad options."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.networks.classifiers.mobilenet_v2 import MobileNetV2
from limbeck.networks.given.weights import load_weights, save_weights
from limbeck.networks.handling.tap import Tap


@pytest.mark.parametrize(
    ("width", "millions"),  # the authors' list of models for 224 pixels, tensorflow/models mobilenet/README.md
    [(0.35, 1.66), (0.5, 1.95), (0.75, 2.61), (1.0, 3.47), (1.3, 5.32), (1.4, 6.06)],
)
def test_published_width_multipliers(width: float, millions: float) -> None:
    """Their counts leave out the running statistics and round; ours agree within 2 %."""
    with torch.device("meta"):
        network = MobileNetV2(width, size=224, classes=1000, stem="imagenet")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6, rel=0.02)


@pytest.mark.parametrize(("stem", "sides"), [("small", [32, 32, 16, 8, 4]), ("imagenet", [16, 8, 4, 2, 1])])
def test_tap_paths(stem: Any, sides: list[int]) -> None:
    network = MobileNetV2(0.1, stem=stem)
    paths = ["features.0", "features.3", "features.6", "features.13", "features.18"]
    with Tap(network, paths) as tap:
        network(torch.zeros(2, 3, 32, 32))
    assert [tap[path].shape[-1] for path in paths] == sides


def test_features_are_a_module_and_what_the_role_promises() -> None:
    network = MobileNetV2(0.1).eval()
    image = torch.randn(2, 3, 16, 16).tanh()
    assert isinstance(network.features, nn.Module) and network.get_submodule("features") is network.features
    assert network.features(image).shape == (2, 1280)
    torch.testing.assert_close(network.classifier(network.features(image)), network(image))


def test_weights_travel_through_a_file(tmp_path: Any) -> None:
    one, other = MobileNetV2(0.1, mean=[0.5] * 3, std=[0.2] * 3).eval(), MobileNetV2(0.1).eval()
    save_weights(one, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    image = torch.randn(2, 3, 16, 16).tanh()
    assert not torch.equal(one(image), other(image))  # the statistics belong to the recipe, not to the file
    torch.testing.assert_close(one(image), other(image / (2 * 0.2)), atol=1e-4, rtol=1e-4)


def test_in_evaluation_every_parameter_counts() -> None:
    """In training, the biases before a linear layer with batch normalisation are taken away again."""
    torch.manual_seed(0)
    network = MobileNetV2(0.1).eval()
    network(torch.randn(2, 3, 16, 16).tanh()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_dropout_acts_in_training_alone() -> None:
    network, image = MobileNetV2(0.1, dropout=0.5), torch.randn(4, 3, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "MobileNetV2.width: expected a multiplier above 0, found 0"),
        ({"width": -1.0}, "MobileNetV2.width: expected a multiplier above 0, found -1.0"),
        ({"width": math.nan}, "MobileNetV2.width: expected a multiplier above 0, found nan"),
        ({"width": math.inf}, "MobileNetV2.width: expected a multiplier above 0, found inf"),
        ({"stem": "tiny"}, "MobileNetV2.stem: expected one of 'imagenet', 'small', found 'tiny'"),
        ({"dropout": -0.5}, "MobileNetV2.dropout: expected at least 0 and below 1, found -0.5"),
        ({"size": 7}, "MobileNetV2.size: expected a whole number of at least 8, found 7"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        MobileNetV2(**options)
    assert str(caught.value) == says

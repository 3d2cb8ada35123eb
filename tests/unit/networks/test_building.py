"""What classifiers share: statistics of the input, checks, initialisation."""

import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import (
    Standardize,
    Statistics,
    check_choice,
    check_dropout,
    initialise_convolutions,
)


class _Owner: ...


def test_standardize_by_hand() -> None:
    """Colours 0, 51 and 255 are 0, 0.2 and 1."""
    colour = torch.tensor([0.0, 51.0, 255.0]).view(1, 1, 1, 3).expand(2, 3, 4, 3)
    image = colour / 127.5 - 1
    mean, std = [0.5, 0.25, 0.1], [0.5, 0.2, 0.1]
    found = Standardize(_Owner(), 3, Statistics(mean, std))(image)
    for channel in range(3):
        expected = [(level - mean[channel]) / std[channel] for level in (0.0, 0.2, 1.0)]
        torch.testing.assert_close(found[1, channel, 3], torch.tensor(expected), atol=1e-6, rtol=0)


def test_standardize_without_statistics_and_with_those_of_minus_one_to_one_changes_nothing() -> None:
    image = torch.rand(2, 1, 3, 3) * 2 - 1
    assert Standardize(_Owner(), 1, Statistics(None, None))(image) is image
    assert torch.equal(Standardize(_Owner(), 1, Statistics([0.5], [0.5]))(image), image)


def test_standardize_has_no_state_but_moves_and_travels() -> None:
    made = Standardize(_Owner(), 1, Statistics([0.4], [0.2]))
    assert made.state_dict() == {} and not list(made.parameters())
    assert made.double().scale.dtype == torch.float64
    image = torch.rand(1, 1, 2, 2, dtype=torch.float64)
    assert torch.equal(pickle.loads(pickle.dumps(made))(image), made(image))


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ([0.5] * 3, None, "_Owner.std: expected 3 numbers beside mean, found null"),
        (None, [0.5] * 3, "_Owner.mean: expected 3 numbers beside std, found null"),
        ([0.5], [0.5] * 3, "_Owner.mean: expected 3 numbers, one a channel, found [0.5]"),
        ([0.5] * 3, [0.5, 0.0, 1.0], "_Owner.std: expected 3 numbers above 0, one a channel, found [0.5, 0.0, 1.0]"),
        ([0.5] * 3, [0.5], "_Owner.std: expected 3 numbers above 0, one a channel, found [0.5]"),
        ([0.5, math.nan, 0.5], [0.5] * 3, "_Owner.mean: expected 3 numbers, one a channel, found [0.5, nan, 0.5]"),
    ],
)
def test_statistics_that_cannot_be(mean: Any, std: Any, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Standardize(_Owner(), 3, Statistics(mean, std))
    assert str(caught.value) == says


def test_checks_name_the_owner_and_the_argument() -> None:
    check_choice(_Owner(), ("a", "b"), stem="b")
    with pytest.raises(RecipeError, match=r"_Owner\.stem: expected one of 'a', 'b', found 'c'$"):
        check_choice(_Owner(), ("a", "b"), stem="c")
    check_dropout(_Owner(), 0.0)
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(RecipeError, match=rf"_Owner\.dropout: expected at least 0 and below 1, found {wrong}$"):
            check_dropout(_Owner(), wrong)


def test_the_initial_convolutions_have_he_s_variance() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 32, 3), nn.Linear(3, 3))
    linear = network[1].weight.clone()
    initialise_convolutions(network)
    assert float(network[0].weight.detach().var()) == pytest.approx(2 / (32 * 9), rel=0.05)
    assert abs(float(network[0].weight.detach().mean())) < 0.01
    assert torch.equal(network[1].weight, linear)


def test_gradients_keep_their_size_through_relu_layers() -> None:
    """What the variance is for; PyTorch's own start loses a factor of about 6 in variance a layer."""
    torch.manual_seed(0)
    layers = [
        layer for _ in range(8) for layer in (nn.Conv2d(32, 32, 3, padding=1, padding_mode="circular"), nn.ReLU())
    ]
    network = nn.Sequential(*layers)
    initialise_convolutions(network)
    image = torch.randn(4, 32, 12, 12, requires_grad=True)
    output = network(image)
    output.backward(torch.randn_like(output))
    assert image.grad is not None
    assert 0.2 < float(image.grad.var()) < 5

"""average.py: the exponential moving average against a computation by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.training.average import Average, averaged


def one_weight(value: float) -> nn.Linear:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def test_the_decay_rises_to_its_value_by_hand() -> None:
    network = one_weight(0.0)
    average = Average(network, 0.15)
    values = []
    for count, weight in enumerate([1.0, 3.0, 2.0]):
        nn.init.constant_(network.weight, weight)
        average.update(count)
        values.append(average.values[0].item())
    # decays (1 + n) / (10 + n): 1/10, then 2/11 and 3/12, which are above 0.15
    first = 0.1 * 0.0 + 0.9 * 1.0
    second = 0.15 * first + 0.85 * 3.0
    third = 0.15 * second + 0.85 * 2.0
    assert values == pytest.approx([first, second, third])


def test_decay_zero_follows_the_weights() -> None:
    network = one_weight(1.0)
    average = Average(network, 0.0)
    nn.init.constant_(network.weight, 5.0)
    average.update(1000)
    assert average.values[0].item() == 5.0


def test_statistics_are_averaged_and_counters_copied() -> None:
    network = nn.BatchNorm1d(2)
    average = Average(network, 0.5)
    network(torch.tensor([[2.0, 0.0], [4.0, 0.0]]))  # running mean 0 -> 0.1 * 3
    average.update(10**6)
    assert average.state_dict()["running_mean"].tolist() == pytest.approx([0.15, 0.0])
    assert average.state_dict()["num_batches_tracked"].item() == 1


def test_its_state_is_a_state_of_the_network_and_restores_it() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(network, 0.9)
    nn.init.constant_(network[0].weight, 7.0)
    average.update(3)
    restored = Average(network, 0.9)
    restored.load_state_dict(average.state_dict())
    assert average.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(average.values, restored.values, strict=True))


def test_the_exported_copy_has_the_average_and_leaves_the_network_alone() -> None:
    network = one_weight(0.0)
    average = Average(network, 0.5)
    nn.init.constant_(network.weight, 1.0)
    average.update(10**6)
    copy = averaged(network, average)
    assert copy.weight.item() == 0.5 and not copy.training
    assert network.weight.item() == 1.0 and network.training
    assert averaged(network, None).weight.item() == 1.0

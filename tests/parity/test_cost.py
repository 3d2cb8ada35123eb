"""Multiply-accumulates against a hand count."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.metrics.cost import parameters
from limbeck.metrics.work import macs


def test_a_small_convolutional_network():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 16x16 outputs
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.Conv2d(8, 16, 5, stride=2, padding=2, bias=False),  # 8x8 outputs
        nn.ConvTranspose2d(16, 6, 4, stride=2, padding=1),  # from 8x8 inputs
        nn.ConvTranspose2d(6, 4, 3, padding=1, groups=2),
        nn.Flatten(),
        nn.Linear(4 * 16 * 16, 10),
    )
    by_hand = (
        16 * 16 * 8 * 3 * 9
        + 16 * 16 * 8 * (8 // 4) * 9
        + 8 * 8 * 16 * 8 * 25
        + 8 * 8 * 16 * 6 * 16  # every input pixel meets every weight: kernel 4x4
        + 16 * 16 * 6 * (4 // 2) * 9
        + 4 * 16 * 16 * 10
    )
    found = macs(network, (torch.zeros(1, 3, 16, 16),))
    assert found.count == by_hand
    assert found.uncounted == ()
    weights = 8 * 27 + 8 + 8 * 18 + 8 + 16 * 200 + 16 * 6 * 16 + 6 + 6 * 2 * 9 + 4 + 10240 + 10
    assert parameters(network) == weights


def test_macs_are_proportional_to_the_batch():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 2, 3))
    one = macs(network, (torch.zeros(1, 1, 8, 8),)).count
    assert macs(network, (torch.zeros(7, 1, 8, 8),)).count == 7 * one


def test_attention():
    class Attention(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, v)

    q, k, v = torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 7, 8), torch.zeros(1, 2, 7, 8)
    assert macs(Attention(), (q, k, v)).count == 2 * (5 * 7 * 8 + 5 * 7 * 8)  # scores, then the weighted sum


@pytest.mark.parametrize("train", [True, False])
def test_a_transformer_layer_is_counted_whatever_its_fast_path(train):
    length, width, hidden = 6, 16, 32
    layer = nn.TransformerEncoderLayer(width, 2, hidden, batch_first=True).train(train)
    by_hand = length * width * 3 * width + 2 * length * length * width + length * width * width
    by_hand += 2 * length * width * hidden
    found = macs(layer, (torch.zeros(1, length, width),))
    assert found.count == by_hand
    assert layer.training is train
    assert torch.backends.mha.get_fastpath_enabled()

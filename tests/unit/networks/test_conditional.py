"""Class-conditional parts against what they stand for: one batch normalisation, one inner product a class."""

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.conditional import ConditionalBatchNorm2d, LabelProjection


def test_without_classes_it_is_batch_norm() -> None:
    torch.manual_seed(0)
    ours, plain = ConditionalBatchNorm2d(3), nn.BatchNorm2d(3)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(ours(x), plain(x))
    assert torch.equal(ours.running_var, plain.running_var)


def test_it_starts_as_batch_norm_for_every_class() -> None:
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(ConditionalBatchNorm2d(3, 6)(x, torch.tensor([0, 5, 2, 2])), nn.BatchNorm2d(3)(x))


def test_every_sample_has_its_class_gain_and_bias() -> None:
    torch.manual_seed(0)
    net = ConditionalBatchNorm2d(3, 4)
    nn.init.normal_(net.class_gain.weight)
    nn.init.normal_(net.class_bias.weight)
    x, label = 2 + 3 * torch.randn(6, 3, 5, 5), torch.tensor([0, 3, 1, 1, 2, 0])
    out = net(x, label)
    normal = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    for i, c in enumerate(label):
        expected = normal[i] * net.class_gain.weight[c, :, None, None] + net.class_bias.weight[c, :, None, None]
        torch.testing.assert_close(out[i], expected)


def test_statistics_are_shared_by_the_classes() -> None:
    net, plain = ConditionalBatchNorm2d(3, 4), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5)
    net(x, torch.tensor([0, 1, 2, 3]))
    plain(x)
    assert torch.equal(net.running_mean, plain.running_mean)


def test_projection_by_hand() -> None:
    net = LabelProjection(2, 3)
    with torch.no_grad():
        net.embedding.weight.copy_(torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.5, 3.0]]))
    assert net(torch.tensor([[5.0, 7.0], [5.0, 7.0]]), torch.tensor([1, 2])).tolist() == [3.0, 23.5]


def test_bad_use() -> None:
    with pytest.raises(RecipeError, match="conditioned on 4 classes was called without labels"):
        ConditionalBatchNorm2d(3, 4)(torch.zeros(2, 3, 4, 4))
    with pytest.raises(RecipeError, match="classes: expected a whole number of at least 0, found -1"):
        ConditionalBatchNorm2d(3, -1)
    with pytest.raises(RecipeError, match="classes: expected a whole number of at least 1, found 0"):
        LabelProjection(3, 0)

"""Convolutions of folded pixels are the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.networks.blocks.folded_conv import fold_conv, fold_doubling


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(shape[-1]), dtype=torch.float64).requires_grad_()


def assert_alike(found: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    torch.testing.assert_close(found, expected)
    upstream = drawn(*found.shape).detach()
    mine, theirs = (torch.autograd.grad(out, leaves, upstream) for out in (found, expected))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("side", [1, 3, 5, 7, 9])
def test_a_convolution(side: int) -> None:
    image, weight = drawn(2, 3, 8, 12), drawn(4, 3, side, side)
    folded = F.conv2d(F.pixel_unshuffle(image, 2), fold_conv(weight), padding="same")
    assert_alike(F.pixel_shuffle(folded, 2), F.conv2d(image, weight, padding="same"), image, weight)


def test_a_convolution_that_doubles() -> None:
    image, weight = drawn(2, 3, 5, 6), drawn(3, 4, 3, 3)
    folded = F.conv2d(F.pad(image, (1, 0, 1, 0)), fold_doubling(weight))
    expected = F.conv_transpose2d(image, weight, stride=2)[..., :-1, :-1]
    assert_alike(F.pixel_shuffle(folded, 2), expected, image, weight)

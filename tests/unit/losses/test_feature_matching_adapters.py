"""losses/feature_matching.py: what stands between features of which shapes, and the mean of L1 by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.losses.feature_matching import FeatureMatching


def fitted(student: tuple[int, ...], teacher: tuple[int, ...]) -> FeatureMatching:
    loss = FeatureMatching({"a": "b"})
    loss.fit_to([student], [teacher])
    return loss


def test_what_fits_which_shapes() -> None:
    assert isinstance(fitted((8, 4, 4), (8, 4, 4)).adapters[0], nn.Identity)
    conv = fitted((8, 4, 4), (16, 4, 4)).adapters[0]
    assert isinstance(conv, nn.Conv2d) and conv(torch.zeros(2, 8, 4, 4)).shape == (2, 16, 4, 4)
    assert fitted((8,), (5,)).adapters[0](torch.zeros(2, 8)).shape == (2, 5)


@pytest.mark.parametrize(("student", "teacher"), [((8, 4, 4), (8, 8, 8)), ((3, 8, 4), (4, 8, 2))])
def test_maps_of_other_sizes_are_refused(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=r"'a' -> 'b': expected features that differ in width only"):
        fitted(student, teacher)


def test_every_layer_counts_the_same_whatever_its_size() -> None:
    loss = FeatureMatching({"a": "a", "b": "b"})
    loss.fit_to([(2, 4, 4), (3,)], [(2, 4, 4), (3,)])
    student = [torch.full((5, 2, 4, 4), 1.0), torch.full((5, 3), -2.0)]
    teacher = [torch.zeros(5, 2, 4, 4), torch.zeros(5, 3)]
    assert loss(student, teacher).item() == pytest.approx((1 + 2) / 2)

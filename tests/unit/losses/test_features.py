"""losses/features.py: per-sample distances, their gradients, and shapes that do not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.losses.features import feature_matching, l1, l2, mean_matching

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.mark.parametrize("distance", [l1, l2])
def test_distances_are_per_sample_and_range_over_images(distance: Distance) -> None:
    black, white = -torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert distance(black, black).tolist() == [0, 0]
    assert distance(black, white).tolist() == [2, 2] if distance is l1 else [4, 4]
    half = torch.cat([black[:1], white[:1]])
    assert distance(half, black)[0] == 0


def test_gradients() -> None:
    mine = [torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True), torch.randn(2, 5).double()]
    goal = [torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.randn(2, 5).double()]
    assert torch.autograd.gradcheck(lambda x: feature_matching([x, mine[1]], goal), (mine[0],))
    assert torch.autograd.gradcheck(l1, (mine[0], goal[0]))
    assert torch.autograd.gradcheck(l2, (mine[0], goal[0]))


def test_layers_count_the_same_whatever_their_size() -> None:
    large, small = torch.zeros(1, 64, 8, 8), torch.zeros(1, 2)
    assert feature_matching([large + 1, small], [large, small]) == feature_matching([large, small + 1], [large, small])


def test_means_match_where_a_batch_is_the_same_in_another_order() -> None:
    mine, goal = torch.randn(6, 3, 2, 2), torch.randn(6, 3, 2, 2)
    assert mean_matching([mine], [mine.flip(0)]) == pytest.approx(0, abs=1e-6)
    assert feature_matching([mine], [mine.flip(0)]).mean() > 0.5
    assert 0 < mean_matching([mine], [goal]) <= feature_matching([mine], [goal]).mean()  # Jensen
    torch.testing.assert_close(mean_matching([mine + 0.25], [mine]), torch.tensor(0.25))
    narrow = [8 + mine.bfloat16()], [8 + goal.bfloat16()]  # means are taken in float32
    torch.testing.assert_close(mean_matching(*narrow), mean_matching(*([each.float() for each in x] for x in narrow)))
    with pytest.raises(RecipeError, match="same shape"):
        mean_matching([mine], [goal[:, :1]])


@pytest.mark.parametrize("distance", [l1, l2])
def test_grey_against_colour_is_refused(distance: Distance) -> None:
    with pytest.raises(RecipeError, match="same shape"):
        distance(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="longer"):
        feature_matching([torch.zeros(1, 2)], [torch.zeros(1, 2), torch.zeros(1, 2)])

"""losses/style.py by hand."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from limbeck.errors import RecipeError
from limbeck.losses.style import gram, gram_distance, statistics, statistics_distance, statistics_kl, total_variation

FEATURES = torch.tensor([[[[1.0, 2.0]], [[0.0, 3.0]]]])  # (1, 2, 1, 2)


def test_gram_by_hand_and_blind_to_places() -> None:
    expected = torch.tensor([[[5.0, 6.0], [6.0, 9.0]]]) / 4
    torch.testing.assert_close(gram(FEATURES), expected)
    torch.testing.assert_close(gram(FEATURES.flip(3)), expected)
    torch.testing.assert_close(gram_distance(FEATURES * 0, expected), expected.square().sum((1, 2)))


def test_statistics_by_hand() -> None:
    mean, spread = statistics(FEATURES)
    torch.testing.assert_close(mean, torch.tensor([[1.5, 1.5]]))
    torch.testing.assert_close(spread, torch.tensor([[0.5, 1.5]]), rtol=0, atol=1e-4)
    moved = FEATURES + torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(statistics_distance(moved, FEATURES), torch.tensor([5.0]))


def test_the_soft_label_is_torchs_divergence() -> None:
    teacher, student = (torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(s)) * (1 + s) for s in (0, 1))
    goal, mine = (Normal(*statistics(t)) for t in (teacher, student))
    torch.testing.assert_close(statistics_kl(teacher, student), kl_divergence(goal, mine).mean(1))
    assert float(statistics_kl(teacher, teacher).abs().max()) < 1e-6


def test_a_silent_channel_does_not_drown_the_soft_label() -> None:
    loud = torch.tensor([[[[60.0, 80.0]], [[-10.0, 10.0]]]])  # variances 100 and 100
    silent = loud * torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    lost = kl_divergence(Normal(70.0, 10.0), Normal(0.0, 1.0)) / 2  # the mean variance is 100: at least 1
    torch.testing.assert_close(statistics_kl(loud, silent), lost[None], rtol=1e-4, atol=0)
    gained = kl_divergence(Normal(0.0, 0.5**0.5), Normal(70.0, 10.0)) / 2  # it is 50: at least 0.5
    torch.testing.assert_close(statistics_kl(silent, loud), gained[None], rtol=1e-4, atol=0)
    student = silent.clone().requires_grad_()
    statistics_kl(loud, student).sum().backward()
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.abs().max() < 100
    assert float(statistics_kl(silent * 0, silent * 0)) == 0


def test_total_variation_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0], [0.0, -1.0]]]])
    torch.testing.assert_close(total_variation(image), torch.tensor([1.0 + 1.0]))  # rows 0, 2; columns 1, 1
    assert float(total_variation(torch.ones(1, 3, 1, 4))) == 0


def test_other_channels_are_refused() -> None:
    with pytest.raises(RecipeError, match="expected the same shape"):
        statistics_distance(FEATURES, FEATURES[:, :1])
    with pytest.raises(RecipeError, match="expected the same shape"):
        gram_distance(FEATURES, torch.zeros(1, 3, 3))

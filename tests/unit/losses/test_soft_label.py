"""losses/soft_label.py: what a divergence must be, its gradient, and where it meets the adversarial loss."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import RecipeError
from limbeck.losses.gan import logistic_discriminator
from limbeck.losses.soft_label import bernoulli_kl, soft_label

LOG_ODDS = st.floats(-30, 30)


@given(teacher=LOG_ODDS, student=LOG_ODDS, temperature=st.floats(0.25, 8))
def test_kl_is_zero_for_equal_log_odds_and_positive_otherwise(
    teacher: float, student: float, temperature: float
) -> None:
    t, s = torch.tensor([[teacher], [student]], dtype=torch.float64)
    assert bernoulli_kl(t, t, temperature).item() == 0
    kl = bernoulli_kl(t, s, temperature).item()
    assert kl >= -1e-12
    if abs(teacher - student) > 0.1 and max(abs(teacher), abs(student)) < 5 * temperature:
        assert kl > 0


def test_gradient_is_t_times_the_difference_of_probabilities() -> None:
    # d/ds T² KL(σ(t/T) ‖ σ(s/T)) = T (σ(s/T) - σ(t/T)): no smaller for a larger T to first order
    teacher, student = torch.randn(2, 9, dtype=torch.float64)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(bernoulli_kl(teacher, student, 3.0).sum(), student)
    torch.testing.assert_close(gradient, 3 * ((student.detach() / 3).sigmoid() - (teacher / 3).sigmoid()))


def test_gradcheck() -> None:
    teacher, student = torch.randn(2, 5, dtype=torch.float64)
    for real in (True, False):
        loss = partial(soft_label, real=real, alpha=0.3, temperature=2.0)
        assert torch.autograd.gradcheck(loss, (student.requires_grad_(), teacher.requires_grad_()))


def test_extreme_log_odds_are_finite_in_float32() -> None:
    teacher = torch.tensor([500.0, -500.0, 500.0], dtype=torch.bfloat16)
    student = torch.tensor([-500.0, 500.0, 500.0], dtype=torch.bfloat16, requires_grad=True)
    kl = bernoulli_kl(teacher, student)
    assert kl.dtype == torch.float32
    assert kl.tolist() == pytest.approx([500, 500, 0])  # -log σ(-500)
    assert torch.autograd.grad(kl.sum(), student)[0].isfinite().all()


def test_with_the_hard_label_alone_it_is_the_logistic_loss() -> None:
    real, fake, teacher = torch.randn(3, 8)
    ours = soft_label(real, teacher, real=True, alpha=1).mean() + soft_label(fake, teacher, real=False, alpha=1).mean()
    torch.testing.assert_close(ours, logistic_discriminator(real, fake))


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"\(4, 1\) and \(4,\)"):
        soft_label(torch.zeros(4, 1), torch.zeros(4), real=True)

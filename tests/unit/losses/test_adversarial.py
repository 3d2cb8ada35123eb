"""losses/gan.py: gradients, closed forms of the penalties, theory, and number formats."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck.losses import gan


def scores(*, seed: int = 0, count: int = 6) -> Tensor:
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("name", gan.LOSSES)
def test_gradients(name: str) -> None:
    discriminator, generator = gan.LOSSES[name]
    real, fake = scores(seed=1).requires_grad_(), scores(seed=2).requires_grad_()
    assert torch.autograd.gradcheck(discriminator, (real, fake))
    assert torch.autograd.gradcheck(generator, (fake,))


@pytest.mark.parametrize("name", gan.LOSSES)
def test_losses_are_float32_of_bfloat16_scores_and_finite_at_extremes(name: str) -> None:
    discriminator, generator = gan.LOSSES[name]
    extreme = torch.tensor([1e4, -1e4], dtype=torch.bfloat16, requires_grad=True)
    for loss in (discriminator(extreme, extreme), generator(extreme)):
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert torch.autograd.grad(loss, extreme)[0].isfinite().all()


def test_the_best_logistic_score_is_the_log_odds() -> None:
    # With p real and 1 - p generated images at a point, the discriminator's loss there is p f(s) + (1 - p) f(-s)
    p = 0.8
    real, fake = torch.full((80,), math.log(p / (1 - p))).double(), torch.full((20,), math.log(p / (1 - p))).double()
    real.requires_grad_()
    fake.requires_grad_()
    loss = p * gan.logistic_discriminator(real, torch.zeros(1)) + (1 - p) * gan.logistic_discriminator(
        torch.zeros(1), fake
    )
    of_real, of_fake = torch.autograd.grad(loss, (real, fake))
    assert (of_real.sum() + of_fake.sum()).item() == pytest.approx(0, abs=1e-7)


def test_hinge_ignores_what_is_told_apart_with_margin() -> None:
    assert gan.hinge_discriminator(torch.tensor([1.0, 2.5]), torch.tensor([-1.0, -9.0])) == 0
    assert gan.hinge_discriminator(torch.tensor([0.0]), torch.tensor([0.5])) == 2.5


def linear(weight: Tensor) -> gan.Critic:
    return lambda image: (image * weight).flatten(1).sum(1)


def test_r1_of_a_linear_critic_is_half_its_squared_weight() -> None:
    weight = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    penalty = gan.r1_penalty(linear(weight), torch.randn(5, 2, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(penalty, weight.square().sum() / 2)
    torch.testing.assert_close(torch.autograd.grad(penalty, weight)[0], weight.detach())


def test_r1_of_a_quadratic_critic() -> None:
    # D(x) = a ‖x‖²: ∇D = 2 a x, so R1 = 2 a² E‖x‖² and dR1/da = 4 a E‖x‖²
    real = torch.randn(5, 1, 4, 4, dtype=torch.float64)
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    penalty = gan.r1_penalty(lambda x: a * x.square().flatten(1).sum(1), real)
    mean = real.square().flatten(1).sum(1).mean()
    torch.testing.assert_close(penalty, 2 * a.detach() ** 2 * mean)
    torch.testing.assert_close(torch.autograd.grad(penalty, a)[0], 4 * a.detach() * mean)


def test_gradient_penalty_of_a_linear_critic() -> None:
    weight = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    real, fake = torch.randn(2, 5, 2, 3, 3, dtype=torch.float64)
    penalty = gan.gradient_penalty(linear(weight), real, fake, torch.rand(5))
    norm = weight.detach().norm()
    torch.testing.assert_close(penalty.detach(), (norm - 1) ** 2)
    torch.testing.assert_close(torch.autograd.grad(penalty, weight)[0], 2 * (norm - 1) * weight.detach() / norm)
    assert gan.gradient_penalty(linear(weight.detach() / norm), real, fake, torch.rand(5)) == pytest.approx(
        0, abs=1e-20
    )


def test_gradient_penalty_looks_between_real_and_fake() -> None:
    real, fake, seen = torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2), []

    def critic(image: Tensor) -> Tensor:
        seen.append(image.detach())
        return image.flatten(1).sum(1)

    gan.gradient_penalty(critic, real, fake, torch.tensor([0.0, 0.25, 1.0]))
    assert seen[0][:, 0, 0, 0].tolist() == [0.0, 0.25, 1.0]


def test_gradient_penalty_of_a_constant_critic_can_be_differentiated() -> None:
    weight = torch.zeros(1, 2, 2, requires_grad=True)
    penalty = gan.gradient_penalty(linear(weight), torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), torch.rand(2))
    assert penalty == 1
    assert torch.autograd.grad(penalty, weight)[0].isfinite().all()

"""Adversarial, soft-label and calibration losses against NumPy and SciPy, written from the formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp

from limbeck.losses import gan
from limbeck.losses.calibration import calibrate
from limbeck.losses.features import feature_matching, l1, l2
from limbeck.losses.soft_label import bernoulli_kl, soft_label

DRAW = np.random.default_rng(0)
REAL, FAKE = DRAW.normal(1, 3, 37), DRAW.normal(-1, 3, 37)

# D(x) = σ(score): Goodfellow et al. 2014, eq. 1, and the non-saturating form; the others as they are printed
FORMULAS = {
    "logistic": (
        lambda real, fake: -np.log(expit(real)).mean() - np.log(1 - expit(fake)).mean(),
        lambda fake: -np.log(expit(fake)).mean(),
    ),
    "hinge": (
        lambda real, fake: -np.minimum(0, -1 + real).mean() - np.minimum(0, -1 - fake).mean(),
        lambda fake: -fake.mean(),
    ),
    "wasserstein": (lambda real, fake: -(real.mean() - fake.mean()), lambda fake: -fake.mean()),
}


def test_every_adversarial_loss_has_a_formula_here() -> None:
    assert set(FORMULAS) == set(gan.LOSSES)


@pytest.mark.parametrize("name", FORMULAS)
def test_adversarial_losses(name: str) -> None:
    discriminator, generator = gan.LOSSES[name]
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    assert discriminator(real, fake).item() == pytest.approx(FORMULAS[name][0](REAL, FAKE), rel=1e-12)
    assert generator(fake).item() == pytest.approx(FORMULAS[name][1](FAKE), rel=1e-12)


@pytest.mark.parametrize("penalty", ["r1", "gradient_penalty"])
def test_penalties_are_in_float32_under_autocast(penalty: str) -> None:
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(1, 4, 3), torch.nn.Softplus(), torch.nn.Flatten(), torch.nn.Linear(16, 1))
    critic = torch.nn.Sequential(*layers)
    image, other, epsilon = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.rand(2)

    def slopes(autocast: bool) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if penalty == "r1":
                value = gan.r1_penalty(critic, image)
            else:
                value = gan.gradient_penalty(critic, image, other, epsilon)
        return list(torch.autograd.grad(value, list(critic.parameters())[:3]))

    assert all(torch.equal(half, full) for half, full in zip(slopes(True), slopes(False), strict=True))


def two_class_kl(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    """KL of the softmax over (real, generated), whose logits are (score, 0)."""
    pair = [np.stack([score / temperature, np.zeros_like(score)]) for score in (teacher, student)]
    log_p, log_q = (logits - logsumexp(logits, axis=0) for logits in pair)
    return (np.exp(log_p) * (log_p - log_q)).sum(0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_is_that_of_a_two_class_softmax(temperature: float) -> None:
    ours = bernoulli_kl(torch.from_numpy(REAL), torch.from_numpy(FAKE), temperature)
    np.testing.assert_allclose(ours, temperature**2 * two_class_kl(REAL, FAKE, temperature), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize(("alpha", "temperature"), [(0.0, 1.0), (0.3, 2.0), (1.0, 3.0)])
def test_soft_label(real: bool, alpha: float, temperature: float) -> None:
    student, teacher = FAKE, REAL
    hard = -log_expit(student) if real else -log_expit(-student)
    soft = temperature**2 * two_class_kl(teacher, student, temperature)
    ours = soft_label(
        torch.from_numpy(student), torch.from_numpy(teacher), real=real, alpha=alpha, temperature=temperature
    )
    np.testing.assert_allclose(ours, alpha * hard + (1 - alpha) * soft, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("real", "fake"), [(REAL, FAKE), (REAL * 1e3, FAKE * 1e3 + 5), (REAL[:5], FAKE), (FAKE, REAL)])
def test_calibration_finds_the_optimum_that_scipy_finds(real: np.ndarray, fake: np.ndarray) -> None:
    unit = np.abs(np.concatenate([real, fake])).max()  # SciPy wants parameters of similar size

    def objective(parameters: np.ndarray) -> float:
        scale, offset = parameters[0] / unit, parameters[1]
        total = 0.0
        for score, target in ((real, (len(real) + 1) / (len(real) + 2)), (fake, 1 / (len(fake) + 2))):
            logit = scale * score + offset
            total -= (target * log_expit(logit) + (1 - target) * log_expit(-logit)).mean()
        return total

    best = minimize(objective, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x
    scale, offset = calibrate(torch.from_numpy(real), torch.from_numpy(fake))
    assert (scale * unit, offset) == pytest.approx(tuple(best), rel=1e-4, abs=1e-5)
    assert objective(np.array([scale * unit, offset])) <= objective(best) + 1e-12


def test_distances() -> None:
    a, b = DRAW.normal(size=(3, 2, 4, 4)), DRAW.normal(size=(3, 2, 4, 4))
    c, d = DRAW.normal(size=(3, 7)), DRAW.normal(size=(3, 7))
    ta, tb, tc, td = map(torch.from_numpy, (a, b, c, d))
    np.testing.assert_allclose(l1(ta, tb), np.abs(a - b).mean((1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(l2(ta, tb), ((a - b) ** 2).mean((1, 2, 3)), rtol=1e-12)
    both = (np.abs(a - b).mean((1, 2, 3)) + np.abs(c - d).mean(1)) / 2
    np.testing.assert_allclose(feature_matching([ta, tc], [tb, td]), both, rtol=1e-12)

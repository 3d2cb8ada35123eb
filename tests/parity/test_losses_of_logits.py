"""Losses of logits against NumPy in float64, each written out from its paper sample by sample, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax as scipy_softmax
from scipy.stats import pearsonr
from torch import Tensor

from limbeck.losses.dist import dist
from limbeck.losses.dkd import dkd, nckd, tckd
from limbeck.losses.kd import adversarial_training, cross_entropy, soft_and_hard, softened_kl
from limbeck.losses.logit_transforms import sharpened, standardised, top_k
from limbeck.losses.multi_level import batch_level, class_level, instance_level, multi_level
from limbeck.losses.nkd import nkd

Array = np.ndarray[Any, np.dtype[np.float64]]

N, K = 6, 7
DRAW = np.random.default_rng(0)
STUDENT, TEACHER = DRAW.normal(0, 2, (N, K)), DRAW.normal(0, 3, (N, K))
LABEL = np.array([0, 6, 3, 3, 1, 5])
TEMPERATURES = [0.5, 1.0, 4.0]


def softmax(logits: Array, temperature: float = 1.0) -> Array:
    return scipy_softmax(logits / temperature, axis=-1)


def kl(p: Array, q: Array) -> float:
    return sum(float(a * np.log(a / b)) for a, b in zip(p, q, strict=True))


def hinton(student: Array, teacher: Array, temperature: float) -> Array:
    """T² KL(p^T ‖ q^T), Hinton et al. 2015, section 2."""
    pairs = zip(softmax(teacher, temperature), softmax(student, temperature), strict=True)
    return np.array([temperature**2 * kl(p, q) for p, q in pairs])


def hard(student: Array, label: Array) -> Array:
    return np.array([-np.log(q[y]) for q, y in zip(softmax(student), label, strict=True)])


def target_part(student: Array, teacher: Array, label: Array, temperature: float) -> Array:
    """TCKD, Zhao et al. 2022, section 3.1: p_t = exp(z_t) / Σ exp(z_j), p_\\t = Σ_{k≠t} exp(z_k) / Σ exp(z_j)."""
    values = []
    for s, t, y in zip(student / temperature, teacher / temperature, label, strict=True):
        p, q = (np.exp(z[y]) / np.exp(z).sum() for z in (t, s))
        others_p, others_q = (sum(np.exp(z[k]) for k in range(K) if k != y) / np.exp(z).sum() for z in (t, s))
        values.append(temperature**2 * (p * np.log(p / q) + others_p * np.log(others_p / others_q)))
    return np.array(values)


def other_part(student: Array, teacher: Array, label: Array, temperature: float) -> Array:
    """NCKD, Zhao et al. 2022, section 3.1: p̂_i = exp(z_i) / Σ_{j≠t} exp(z_j)."""
    values = []
    for s, t, y in zip(student / temperature, teacher / temperature, label, strict=True):
        p, q = (np.exp(np.delete(z, y)) / np.exp(np.delete(z, y)).sum() for z in (t, s))
        values.append(temperature**2 * kl(p, q))
    return np.array(values)


def normalised(student: Array, teacher: Array, label: Array, gamma: float, temperature: float) -> Array:
    """NKD, Yang et al. 2023, with N(p_i) = p_i / (1 - p_t) of probabilities softened by λ."""
    values = []
    for s, t, y in zip(student, teacher, label, strict=True):
        target = -softmax(t)[y] * np.log(softmax(s)[y])
        soft_t, soft_s = softmax(t, temperature), softmax(s, temperature)
        others = sum(soft_t[i] / (1 - soft_t[y]) * np.log(soft_s[i] / (1 - soft_s[y])) for i in range(K) if i != y)
        values.append(target - gamma * temperature**2 * others)
    return np.array(values)


def correlations(student: Array, teacher: Array, beta: float, gamma: float, temperature: float) -> float:
    """DIST, Huang et al. 2022, section 4, with SciPy's correlation; T² as in the published code."""
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    inter = 1 - np.mean([pearsonr(q[i], p[i]).statistic for i in range(N)])
    intra = 1 - np.mean([pearsonr(q[:, j], p[:, j]).statistic for j in range(K)])
    return float(temperature**2 * (beta * inter + gamma * intra))


def batch_similarity(student: Array, teacher: Array, temperature: float) -> float:
    """‖G_t - G_s‖² / B with G_ab = p_a · p_b, Jin et al. 2023, section 3.2."""
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    return sum(float(p[a] @ p[b] - q[a] @ q[b]) ** 2 for a in range(N) for b in range(N)) / N


def class_correlation(student: Array, teacher: Array, temperature: float) -> float:
    """‖M_t - M_s‖² / C with M_jk = Σ_n p_nj p_nk, Jin et al. 2023, section 3.2."""
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    return sum(float(p[:, j] @ p[:, k] - q[:, j] @ q[:, k]) ** 2 for j in range(K) for k in range(K)) / K


def same(ours: Tensor, reference: Array | float) -> None:
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours.numpy(), reference, rtol=1e-6, atol=1e-12)


S, T, Y = torch.from_numpy(STUDENT), torch.from_numpy(TEACHER), torch.from_numpy(LABEL)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_softened_kl(temperature: float) -> None:
    same(softened_kl(S, T, temperature), hinton(STUDENT, TEACHER, temperature))


def test_cross_entropy() -> None:
    same(cross_entropy(S, Y), hard(STUDENT, LABEL))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_soft_and_hard(alpha: float, temperature: float) -> None:
    expected = alpha * hard(STUDENT, LABEL) + (1 - alpha) * hinton(STUDENT, TEACHER, temperature)
    same(soft_and_hard(S, T, Y, alpha, temperature), expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("weight", [0.0, 6.0])
def test_adversarial_training(weight: float, temperature: float) -> None:
    expected = hard(STUDENT, LABEL) + weight * hinton(STUDENT, TEACHER, temperature)
    same(adversarial_training(S, T, Y, weight, temperature), expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_parts_of_dkd(temperature: float) -> None:
    same(tckd(S, T, Y, temperature), target_part(STUDENT, TEACHER, LABEL, temperature))
    same(nckd(S, T, Y, temperature), other_part(STUDENT, TEACHER, LABEL, temperature))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 8.0), (0.5, 0.0), (0.0, 2.0)])
@pytest.mark.parametrize(("of_target", "of_others"), [(4.0, 4.0), (1.0, 4.0), (3.0, 0.5)])
def test_dkd(alpha: float, beta: float, of_target: float, of_others: float) -> None:
    ours = dkd(S, T, Y, alpha=alpha, beta=beta, target_temperature=of_target, non_target_temperature=of_others)
    target = target_part(STUDENT, TEACHER, LABEL, of_target)
    same(ours, alpha * target + beta * other_part(STUDENT, TEACHER, LABEL, of_others))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_dkd_is_that_of_the_published_code(temperature: float) -> None:
    """The mask is 1000 subtracted from the target's scaled logit, and the result the mean over samples."""
    hide = 1000.0 * np.eye(K)[LABEL]
    p, q = (softmax(z / temperature - hide) for z in (TEACHER, STUDENT))
    others = temperature**2 * np.sum(np.where(p > 0, p * (np.log(p + 1e-300) - np.log(q + 1e-300)), 0.0)) / N
    pt, qt = (softmax(z, temperature)[np.arange(N), LABEL] for z in (TEACHER, STUDENT))
    target = temperature**2 * np.sum(pt * np.log(pt / qt) + (1 - pt) * np.log((1 - pt) / (1 - qt))) / N
    ours = dkd(S, T, Y, target_temperature=temperature, non_target_temperature=temperature)
    same(ours.mean(), target + 8 * others)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_nkd(gamma: float, temperature: float) -> None:
    same(nkd(S, T, Y, gamma=gamma, temperature=temperature), normalised(STUDENT, TEACHER, LABEL, gamma, temperature))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 1.0), (2.0, 0.0), (0.0, 2.0)])
def test_dist(beta: float, gamma: float, temperature: float) -> None:
    # The code's 1e-8 beside the product of norms moves a correlation by 1e-8 / (‖a‖ ‖b‖), here less than 1e-6.
    ours = dist(S, T, beta=beta, gamma=gamma, temperature=temperature)
    np.testing.assert_allclose(ours, correlations(STUDENT, TEACHER, beta, gamma, temperature), rtol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_levels(temperature: float) -> None:
    same(instance_level(S, T, temperature), hinton(STUDENT, TEACHER, temperature).mean())
    same(batch_level(S, T, temperature), batch_similarity(STUDENT, TEACHER, temperature))
    same(class_level(S, T, temperature), class_correlation(STUDENT, TEACHER, temperature))


@pytest.mark.parametrize("weights", [(1.5, 0.5, 0.5), (1.0, 1.0, 1.0), (0.0, 0.0, 2.0)])
def test_multi_level(weights: tuple[float, float, float]) -> None:
    a, b, c = weights
    temperatures = (2.0, 3.0, 4.0, 5.0, 6.0)
    expected = sum(
        a * hinton(STUDENT, TEACHER, t).mean()
        + b * batch_similarity(STUDENT, TEACHER, t)
        + c * class_correlation(STUDENT, TEACHER, t)
        for t in temperatures
    )
    same(multi_level(S, T, temperatures=temperatures, instance=a, batch=b, classes=c), expected)


def test_multi_level_by_default_is_the_published_code_with_one_view_as_both() -> None:
    """Masks of the half of samples and classes with least confidence multiply numbers, and so only halve them."""
    p = softmax(TEACHER)
    confidence, of_class = p.max(1), p.sum(0)
    samples = (confidence <= np.percentile(confidence, 50)).mean()
    classes = (of_class <= np.percentile(of_class, 50)).mean()
    assert samples == 1 / 2 and classes == pytest.approx(4 / 7)  # of an odd number the middle one too
    temperatures = (4.0, 3.0, 5.0, 2.0, 6.0)
    divergence = sum(hinton(STUDENT, TEACHER, t).mean() for t in temperatures)
    expected = samples * divergence + divergence
    expected += samples * sum(batch_similarity(STUDENT, TEACHER, t) for t in temperatures)
    correlated = sum(class_correlation(STUDENT, TEACHER, t) for t in temperatures)
    same(multi_level(S, T) - 0.5 * sum(class_level(S, T, t) for t in temperatures), expected)
    same(multi_level(S, T, classes=float(classes)), expected + classes * correlated)


def test_standardised() -> None:
    expected = [(z - z.mean()) / (np.sqrt(((z - z.mean()) ** 2).sum() / (K - 1)) + 1e-7) for z in TEACHER]
    same(standardised(T), np.array(expected))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_sharpened(temperature: float) -> None:
    powers = softmax(TEACHER) ** (1 / temperature)
    same(sharpened(T, temperature).softmax(1), powers / powers.sum(1, keepdims=True))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("k", [1, 3, K])
def test_top_k(k: int, temperature: float) -> None:
    p = softmax(TEACHER, temperature)
    renormalised, spread = np.zeros_like(p), np.zeros_like(p)
    for i in range(N):
        order = np.argsort(-p[i])
        kept, others = order[:k], order[k:]
        renormalised[i, kept] = spread[i, kept] = p[i, kept]
        renormalised[i] /= renormalised[i].sum()
        spread[i, others] = p[i, others].sum() / max(len(others), 1)
    same((top_k(T, k, "renormalise") / temperature).softmax(1), renormalised)
    same((top_k(T, k, "uniform", temperature) / temperature).softmax(1), spread)


GRADIENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "softened_kl": lambda s: softened_kl(s, T, 4.0),
    "cross_entropy": lambda s: cross_entropy(s, Y),
    "soft_and_hard": lambda s: soft_and_hard(s, T, Y, 0.3, 2.0),
    "adversarial_training": lambda s: adversarial_training(s, T, Y, 6.0, 2.0),
    "tckd": lambda s: tckd(s, T, Y, 2.0),
    "nckd": lambda s: nckd(s, T, Y, 2.0),
    "dkd": lambda s: dkd(s, T, Y, target_temperature=1.0),
    "nkd": lambda s: nkd(s, T, Y, temperature=2.0),
    "dist": lambda s: dist(s, T, beta=2.0, gamma=0.5, temperature=2.0),
    "instance_level": lambda s: instance_level(s, T, 2.0),
    "batch_level": lambda s: batch_level(s, T, 2.0),
    "class_level": lambda s: class_level(s, T, 2.0),
    "multi_level": lambda s: multi_level(s, T),
    "standardised": standardised,
    "sharpened": lambda s: sharpened(s, 0.5),
    "top_k uniform": lambda s: top_k(s, 3, "uniform", 2.0),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(name: str) -> None:
    assert torch.autograd.gradcheck(GRADIENTS[name], (S.clone().requires_grad_(),))

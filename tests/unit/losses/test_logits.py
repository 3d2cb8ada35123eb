"""Losses of logits: identities, limits, invariances, extreme logits, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pair import Pair
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.base import LogitLoss
from limbeck.losses.dist import Dist, dist, pearson
from limbeck.losses.dkd import Dkd, dkd, nckd, tckd
from limbeck.losses.kd import Kd, adversarial_training, cross_entropy, soft_and_hard, softened_kl
from limbeck.losses.logit_transforms import Sharpened, Standardised, TopK, sharpened, standardised, top_k
from limbeck.losses.multi_level import MultiLevel, multi_level
from limbeck.losses.nkd import Nkd, nkd
from limbeck.losses.tensors import kl_divergence, without_target

N, K = 8, 5


def logits(seed: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(N, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


S, T = logits(1), logits(2)
Y = torch.arange(N) % K

# What they have in common: (student, teacher, label) to a value. NKD is a cross-entropy, so no divergence.
DIVERGENCES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "kd": lambda s, t, y: softened_kl(s, t, 4.0),
    "tckd": lambda s, t, y: tckd(s, t, y, 4.0),
    "nckd": lambda s, t, y: nckd(s, t, y, 4.0),
    "dkd": lambda s, t, y: dkd(s, t, y, target_temperature=1.0),
    "dist": lambda s, t, y: dist(s, t),
    "multi_level": lambda s, t, y: multi_level(s, t),
    "standardised kd": lambda s, t, y: Standardised(Kd(2.0))(s, t),
}
LOSSES = DIVERGENCES | {
    "nkd": lambda s, t, y: nkd(s, t, y, temperature=2.0),
    "soft_and_hard": soft_and_hard,
    "adversarial_training": adversarial_training,
    "sharpened dkd": Sharpened(Dkd(), 0.3),
    "renormalised kd": lambda s, t, y: TopK(Kd(), 2)(s, t),
    "uniform dkd": TopK(Dkd(), 2, "uniform", 4.0),
    "renormalised dkd of one class": TopK(Dkd(), 1),
}
every_divergence = pytest.mark.parametrize("name", DIVERGENCES)
every_loss = pytest.mark.parametrize("name", LOSSES)


@every_divergence
def test_zero_with_zero_gradient_at_the_teacher_and_positive_elsewhere(name: str) -> None:
    student = T.clone().requires_grad_()
    value = DIVERGENCES[name](student, T, Y)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    torch.testing.assert_close(value, torch.zeros_like(value), atol=2e-6, rtol=0)  # DIST adds 1e-8 below the line
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    assert (DIVERGENCES[name](S, T, Y) > 1e-4).all()


@every_divergence
def test_following_the_gradient_leads_to_the_teacher(name: str) -> None:
    student = S.clone().requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.1)
    start = float(DIVERGENCES[name](student, T, Y).detach().mean())
    for _ in range(70):
        optimizer.zero_grad()
        DIVERGENCES[name](student, T, Y).mean().backward()
        optimizer.step()
    assert float(DIVERGENCES[name](student, T, Y).detach().mean()) < 0.05 * start


@every_loss
def test_shift_of_a_samples_logits_changes_nothing(name: str) -> None:
    shift = torch.linspace(-30, 30, N, dtype=torch.float64)[:, None]
    torch.testing.assert_close(LOSSES[name](S + shift, T - 2 * shift, Y), LOSSES[name](S, T, Y))


@every_loss
def test_order_of_the_classes_does_not_matter(name: str) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = order.argsort()[Y]
    torch.testing.assert_close(LOSSES[name](S[:, order], T[:, order], renamed), LOSSES[name](S, T, Y))


@given(scale=st.floats(0.01, 30), shift=st.floats(-50, 50))
def test_standardised_forgets_scale_and_shift(scale: float, shift: float) -> None:
    torch.testing.assert_close(standardised(scale * S + shift), standardised(S), rtol=1e-4, atol=1e-4)
    loss = Standardised(Kd(2.0))
    torch.testing.assert_close(loss(scale * S + shift, T), loss(S, T), rtol=1e-4, atol=1e-4)
    z = standardised(S)
    torch.testing.assert_close(z.mean(1), torch.zeros(N, dtype=z.dtype))
    torch.testing.assert_close(z.std(1), torch.ones(N, dtype=z.dtype), rtol=1e-5, atol=0)


@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_correlation_forgets_scale_and_shift_and_turns_with_the_sign(scale: float, shift: float) -> None:
    torch.testing.assert_close(pearson(scale * S + shift, T), pearson(S, T), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pearson(-scale * S + shift, T), -pearson(S, T), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pearson(scale * S + shift, S), torch.ones(N, dtype=S.dtype), rtol=1e-5, atol=0)


def test_dist_does_not_ask_for_equality() -> None:
    """The student's probabilities are halfway to uniform: the correlations are perfect, the divergence is not 0."""
    student = (0.5 * T.softmax(1) + 0.5 / K).log()
    assert dist(student, T) == pytest.approx(0, abs=1e-6)
    assert softened_kl(student, T).mean() > 0.05


@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
def test_plain_distillation_is_tckd_and_nckd_weighted_by_doubt(temperature: float) -> None:
    """KD = TCKD + (1 - p_y) NCKD (Zhao et al. 2022, eq. 7), so NCKD vanishes where the teacher is sure."""
    doubt = 1 - (T / temperature).softmax(1).gather(1, Y[:, None]).squeeze(1)
    parts = tckd(S, T, Y, temperature) + doubt * nckd(S, T, Y, temperature)
    torch.testing.assert_close(parts, softened_kl(S, T, temperature))


def test_two_classes_have_no_other_classes() -> None:
    student, teacher, label = S[:, :2], T[:, :2], Y % 2
    assert torch.equal(nckd(student, teacher, label), torch.zeros(N, dtype=torch.float64))
    torch.testing.assert_close(tckd(student, teacher, label), softened_kl(student, teacher))


def test_large_temperatures_compare_centred_logits() -> None:
    """T² KL → Σ ((t - mean t) - (s - mean s))² / 2K: matching logits (Hinton et al. 2015, section 2.1)."""
    apart = (T - T.mean(1, keepdim=True)) - (S - S.mean(1, keepdim=True))
    torch.testing.assert_close(softened_kl(S, T, 1e4), apart.square().sum(1) / (2 * K), rtol=1e-3, atol=0)


def test_small_temperatures_compare_the_largest_class() -> None:
    """T KL(p_T ‖ q_T) → max s - s at the teacher's largest class."""
    gap = S.amax(1) - S.gather(1, T.argmax(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(softened_kl(S, T, 1e-3) / 1e-3, gap, rtol=0, atol=1e-2)


def test_a_teacher_of_certainty_gives_the_hard_label() -> None:
    certain = 1e4 * torch.eye(K, dtype=torch.float64)[Y]
    torch.testing.assert_close(softened_kl(S, certain), cross_entropy(S, Y))
    torch.testing.assert_close(nkd(S, certain, Y, gamma=0.0), cross_entropy(S, Y))
    torch.testing.assert_close(Sharpened(Kd(1.0), 1e-4)(S, T), cross_entropy(S, T.argmax(1)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(TopK(Kd(1.0), 1)(S, T), cross_entropy(S, T.argmax(1)))


def test_ends_of_alpha() -> None:
    torch.testing.assert_close(soft_and_hard(S, T, Y, alpha=1.0), cross_entropy(S, Y))
    torch.testing.assert_close(soft_and_hard(S, T, Y, alpha=0.0, temperature=3.0), softened_kl(S, T, 3.0))


def test_transforms_that_change_nothing() -> None:
    plain = Dkd()(S, T, Y)
    torch.testing.assert_close(Sharpened(Dkd(), 1.0)(S, T, Y), plain)
    torch.testing.assert_close(TopK(Dkd(), K)(S, T, Y), plain)
    torch.testing.assert_close(TopK(Dkd(), K - 1, "uniform")(S, T, Y), plain)  # the one other keeps what it has


def test_sharpening_raises_certainty_and_keeps_the_order() -> None:
    p, sharp, soft = (z.softmax(1) for z in (T, sharpened(T, 0.5), sharpened(T, 2.0)))
    assert torch.equal(p.argsort(1), sharp.argsort(1)) and torch.equal(p.argsort(1), soft.argsort(1))
    entropy = [-(q * q.log()).sum(1) for q in (sharp, p, soft)]
    assert (entropy[0] < entropy[1]).all() and (entropy[1] < entropy[2]).all()


def test_sharpening_decouples_the_temperatures() -> None:
    expected = 16 * kl_divergence(T / 8, S / 4)
    torch.testing.assert_close(Sharpened(Kd(4.0), 2.0)(S, T), expected)


def test_decoupled_temperatures_of_dkd() -> None:
    loss = Dkd(alpha=2.0, beta=3.0, temperature=4.0, target_temperature=1.5)
    torch.testing.assert_close(loss(S, T, Y), 2 * tckd(S, T, Y, 1.5) + 3 * nckd(S, T, Y, 4.0))
    loss = Dkd(alpha=2.0, beta=3.0, temperature=4.0, non_target_temperature=1.5)
    torch.testing.assert_close(loss(S, T, Y), 2 * tckd(S, T, Y, 4.0) + 3 * nckd(S, T, Y, 1.5))


def test_without_target_by_hand() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    assert without_target(rows, torch.tensor([0, 1, 2])).tolist() == [[2, 3], [4, 6], [7, 8]]


# Extreme logits

EXTREMES = {
    "certain and right": (1e4 * torch.eye(K)[Y], 1e4 * torch.eye(K)[Y]),
    "certain and wrong": (1e4 * torch.eye(K)[(Y + 1) % K], 1e4 * torch.eye(K)[Y]),
    "large": (logits(3, 1e4).float(), logits(4, 1e4).float()),
    "far from zero": (logits(3).float() + 1e4, logits(4).float() - 1e4),
    "equal classes": (torch.zeros(N, K), torch.full((N, K), 1e4)),
    "equal samples": (torch.ones(N, 1) * torch.arange(K), torch.ones(N, 1) * torch.arange(K).flip(0)),
    "sure to machine precision": (logits(3).float(), 40.0 * torch.eye(K)[Y] + logits(4, 0.1).float()),
}


@every_loss
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_logits_give_finite_values_and_gradients(name: str, extreme: str) -> None:
    student, teacher = EXTREMES[extreme]
    student = student.clone().requires_grad_()
    value = LOSSES[name](student, teacher, Y)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.dtype == torch.float32 and value.isfinite().all() and gradient.isfinite().all()
    assert (value > -1e-3).all()


def test_the_gradient_reaches_back_from_certainty() -> None:
    """A student that is certain of the wrong class still gets the full gradient, T (q - p), also in float32."""
    student, teacher = 100 * torch.eye(K)[(Y + 1) % K], 100 * torch.eye(K)[Y]
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(softened_kl(student, teacher, 4.0).sum(), student)
    torch.testing.assert_close(gradient, 4 * (torch.eye(K)[(Y + 1) % K] - torch.eye(K)[Y]), rtol=0, atol=1e-4)


def test_other_classes_count_where_the_targets_probability_is_one_to_machine_precision() -> None:
    """TCKD in float32 is that of float64, and NCKD still tells the other classes apart."""
    student, teacher = EXTREMES["sure to machine precision"]
    assert (teacher.softmax(1).gather(1, Y[:, None]) == 1).all()
    exact = tckd(student.double(), teacher.double(), Y)
    torch.testing.assert_close(tckd(student, teacher, Y), exact.float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(nckd(student, teacher, Y), nckd(student.double(), teacher.double(), Y).float())
    assert (nckd(student, teacher, Y) > 1e-3).all()


# Several processes


def _slopes(rows: slice) -> list[tuple[Tensor, Tensor]]:
    """Return the values and the gradients for a weight of losses of some rows of a batch of 6."""
    draw = torch.Generator().manual_seed(0)
    image, weight, teacher = (torch.randn(shape, generator=draw) for shape in ((6, 4), (4, 5), (6, 5)))
    weight.requires_grad_()
    values = [loss(image[rows] @ weight, teacher[rows]) for loss in (dist, multi_level)]
    return [(value.detach(), torch.autograd.grad(value, weight)[0]) for value in values]


def _half(rank: int) -> list[tuple[Tensor, Tensor]]:
    return _slopes(slice(3 * rank, 3 * rank + 3))


def test_losses_that_couple_a_batch_are_those_of_the_global_batch(pair: Pair) -> None:
    for (value, gradient), *halves in zip(_slopes(slice(0, 6)), *pair(_half), strict=True):
        for own, _ in halves:
            torch.testing.assert_close(own, value)
        torch.testing.assert_close((halves[0][1] + halves[1][1]) / 2, gradient)  # the engine takes the mean


# Refusals

ARGUMENTS: dict[str, Callable[[], object]] = {
    "Kd.temperature: expected a number above 0, found 0": lambda: Kd(0),
    "Kd.temperature: expected a number above 0, found nan": lambda: Kd(float("nan")),
    "Dkd.alpha: expected a number of at least 0, found -1": lambda: Dkd(alpha=-1),
    "Dkd.beta: expected a number of at least 0, found inf": lambda: Dkd(beta=float("inf")),
    "Dkd.temperature: expected a number above 0, found -4": lambda: Dkd(temperature=-4),
    "Dkd.target_temperature: expected a number above 0, found 0": lambda: Dkd(target_temperature=0),
    "Dkd.non_target_temperature: expected a number above 0, found -2": lambda: Dkd(non_target_temperature=-2),
    "Nkd.gamma: expected a number of at least 0, found -0.5": lambda: Nkd(gamma=-0.5),
    "Nkd.temperature: expected a number above 0, found 0": lambda: Nkd(temperature=0),
    "Dist.beta: expected a number of at least 0, found -1": lambda: Dist(beta=-1),
    "Dist.gamma: expected a number of at least 0, found -1": lambda: Dist(gamma=-1),
    "Dist.temperature: expected a number above 0, found inf": lambda: Dist(temperature=float("inf")),
    "MultiLevel.temperatures: expected at least one number above 0, found none": lambda: MultiLevel(()),
    "MultiLevel.temperatures: expected a number above 0, found -1.0": lambda: MultiLevel((2.0, -1.0)),
    "MultiLevel.instance: expected a number of at least 0, found -1": lambda: MultiLevel(instance=-1),
    "MultiLevel.batch: expected a number of at least 0, found -1": lambda: MultiLevel(batch=-1),
    "MultiLevel.classes: expected a number of at least 0, found -1": lambda: MultiLevel(classes=-1),
    "Sharpened.temperature: expected a number above 0, found 0": lambda: Sharpened(Kd(), 0),
    "TopK.k: expected a whole number of at least 1, found 0": lambda: TopK(Kd(), 0),
    "TopK.remainder: expected 'renormalise' or 'uniform', found 'lost'": lambda: TopK(Kd(), 2, "lost"),  # type: ignore[arg-type]
    "TopK.temperature: expected a number above 0, found 0": lambda: TopK(Kd(), 2, "uniform", 0),
    "TopK.loss: expected a loss that does not standardise; put Standardised around TopK": lambda: TopK(
        Sharpened(Standardised(Kd())), 2
    ),
    "Kd.temperature: expected a number above 0, found -1": lambda: softened_kl(S, T, -1),
    "Dkd.temperature: expected a number above 0, found 0": lambda: tckd(S, T, Y, 0),
    "soft_and_hard.alpha: expected a number in [0, 1], found 1.5": lambda: soft_and_hard(S, T, Y, alpha=1.5),
    "soft_and_hard.alpha: expected a number in [0, 1], found -0.1": lambda: soft_and_hard(S, T, Y, alpha=-0.1),
    "adversarial_training.weight: expected a number of at least 0, found -1": lambda: adversarial_training(S, T, Y, -1),
    "TopK.k: expected at most the 5 classes, found 6": lambda: top_k(T, 6),
    "Dist: expected at least 2 samples in a batch to correlate, found 1": lambda: dist(S[:1], T[:1]),
    "cross_entropy: expected labels in [0, 5), found 5": lambda: cross_entropy(S, Y + 1),
    "Dkd: expected labels in [0, 5), found -1": lambda: dkd(S, T, Y - 1),
    "Nkd: expected labels (8,) int64, found (7,) torch.int64": lambda: nkd(S, T, Y[:7]),
    "Nkd: expected labels (8,) int64, found (8,) torch.float32": lambda: nkd(S, T, Y.float()),
    "Dkd: expected labels, found none; choose a labelled set": lambda: Dkd()(S, T),
}


@pytest.mark.parametrize("says", ARGUMENTS)
def test_bad_input_is_refused_in_one_line(says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ARGUMENTS[says]()
    assert str(caught.value) == says


@pytest.mark.parametrize("loss", [Kd(), Dkd(), Nkd(), Dist(), MultiLevel(), Standardised(Kd()), TopK(Kd(), 2)], ids=str)
def test_logits_that_cannot_be_compared_are_refused(loss: LogitLoss) -> None:
    name = type(loss).__name__
    with pytest.raises(RecipeError) as caught:
        loss(torch.zeros(4, 10), torch.zeros(4, 100), torch.zeros(4, dtype=torch.long))
    found = "10 of the student and 100 of the teacher"
    expected = f"{name}: expected logits of the same classes, found {found}; give both the same classes"
    assert str(caught.value) == expected
    for student, teacher in (((4, 10), (3, 10)), ((4, 10, 2), (4, 10, 2)), ((4, 1), (4, 1)), ((10,), (10,))):
        with pytest.raises(RecipeError, match=f"^{name}: expected") as caught:
            loss(torch.zeros(student), torch.zeros(teacher), torch.zeros(4, dtype=torch.long))
        assert "\n" not in str(caught.value)

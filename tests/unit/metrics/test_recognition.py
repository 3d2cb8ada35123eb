"""Metrics of recognition against their definitions in float64 NumPy, cases worked out by hand, and bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.errors import DataError, RecipeError
from limbeck.metrics.recognition import (
    agreement,
    brier_score,
    class_accuracy,
    confusion_matrix,
    decisions,
    expected_calibration_error,
    kl_to_teacher,
    nll,
    top_k_accuracy,
)

N, K = 400, 7


def drawn(seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits that know something of the labels, the labels, and a teacher's logits."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(K, (N,), generator=draw)
    logits = scale * torch.randn(N, K, generator=draw) + 2 * torch.nn.functional.one_hot(label, K)
    teacher = logits + 2 * torch.randn(N, K, generator=draw)
    return logits, label, teacher


def probabilities(logits: Tensor) -> np.ndarray:
    values = np.exp(logits.numpy().astype(np.float64))
    return values / values.sum(axis=1, keepdims=True)


def log(*probability: float) -> list[float]:
    return [math.log(p) for p in probability]


@pytest.mark.parametrize("seed", range(3))
def test_likelihood_and_brier_score_are_their_definitions(seed: int) -> None:
    logits, label, teacher = drawn(seed)
    p, q = probabilities(logits), probabilities(teacher)
    y = np.eye(K)[label.numpy()]
    assert nll(logits, label) == pytest.approx(-np.log((p * y).sum(1)).mean(), rel=1e-12)
    assert brier_score(logits, label) == pytest.approx(((p - y) ** 2).sum() / N, rel=1e-12)
    assert kl_to_teacher(logits, teacher) == pytest.approx((q * np.log(q / p)).sum() / N, rel=1e-12)


@pytest.mark.parametrize("k", range(1, K + 1))
def test_top_k_is_membership_of_the_k_largest(k: int) -> None:
    logits, label, _ = drawn()
    largest = np.argsort(-logits.numpy(), axis=1)[:, :k]
    expected = np.mean([truth in row for truth, row in zip(label.tolist(), largest.tolist(), strict=True)])
    assert top_k_accuracy(logits, label, k) == pytest.approx(expected, abs=1e-12)
    assert (top_k_accuracy(logits, label, k) == 1) == (k == K)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_guos_sum_over_bins(bins: int) -> None:
    logits, label, _ = drawn()
    p = probabilities(logits)
    confidence, right = p.max(1), p.argmax(1) == label.numpy()
    expected = 0.0
    for m in range(1, bins + 1):
        inside = ((m - 1) / bins < confidence) & (confidence <= m / bins)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected > 0.01
    assert expected_calibration_error(logits, label, bins) == pytest.approx(expected, rel=1e-12)


def test_calibration_error_by_hand() -> None:
    """Of two sure samples (0.9) one is right: |0.5 - 0.9|; two unsure ones (0.6) are right: |1 - 0.6|."""
    logits = torch.tensor([log(0.9, 0.1), log(0.9, 0.1), log(0.6, 0.4), log(0.4, 0.6)], dtype=torch.float64)
    label = torch.tensor([0, 1, 0, 1])
    assert expected_calibration_error(logits, label) == pytest.approx(0.4, abs=1e-12)
    # In one bin both errors cancel: accuracy 3/4, mean confidence 3/4.
    assert expected_calibration_error(logits, label, bins=1) == pytest.approx(0, abs=1e-12)


def test_a_network_that_draws_its_answers_from_its_own_probabilities_is_calibrated() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(200_000, 4, generator=draw)
    label = torch.multinomial(logits.softmax(1), 1, generator=draw)[:, 0]
    assert expected_calibration_error(logits, label) < 0.005
    assert expected_calibration_error(3 * logits, label) > 0.2  # the same decisions, too sure


def test_by_hand() -> None:
    logits = torch.tensor([log(0.5, 0.25, 0.25), log(0.2, 0.3, 0.5)], dtype=torch.float64)
    label = torch.tensor([0, 1])
    assert (top_k_accuracy(logits, label), top_k_accuracy(logits, label, 2)) == (0.5, 1.0)
    assert nll(logits, label) == pytest.approx((math.log(2) - math.log(0.3)) / 2, abs=1e-12)
    assert brier_score(logits, label) == pytest.approx((0.25 + 2 / 16 + 0.04 + 0.49 + 0.25) / 2, abs=1e-12)
    assert confusion_matrix(logits, label).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_perfect_and_hopeless_networks() -> None:
    label = torch.arange(K).repeat(3)
    sure = 100.0 * torch.nn.functional.one_hot(label, K)
    assert (top_k_accuracy(sure, label), brier_score(sure, label), nll(sure, label)) == pytest.approx((1, 0, 0))
    assert brier_score(-sure, (label + 1) % K) == pytest.approx(1 - 1 / (K - 1))
    assert brier_score(sure, (label + 1) % K) == pytest.approx(2)  # the most that there is
    assert expected_calibration_error(sure, (label + 1) % K) == pytest.approx(1)
    same = torch.zeros(len(label), K)
    assert nll(same, label) == pytest.approx(math.log(K))
    # All classes are equal, so one of K is right and not every one of them.
    assert top_k_accuracy(same, label) == pytest.approx(1 / K) and decisions(same).unique().tolist() == [0]
    assert top_k_accuracy(same, label, 3) == pytest.approx(3 / K)
    assert expected_calibration_error(same, label) == pytest.approx(0, abs=1e-12)


def test_confusion_and_class_accuracies_count_samples_one_by_one() -> None:
    logits, label, _ = drawn()
    label[label == 4] = 5
    found = logits.numpy().argmax(1)
    expected = np.zeros((K, K), dtype=int)
    for truth, answer in zip(label.tolist(), found.tolist(), strict=True):
        expected[truth, answer] += 1
    confusion = confusion_matrix(logits, label)
    assert confusion.tolist() == expected.tolist() and confusion.sum() == N
    assert confusion.trace() / N == pytest.approx(top_k_accuracy(logits, label))
    accuracy = class_accuracy(confusion)
    assert accuracy[4].isnan()  # there is none of this class
    for k in (0, 1, 2, 3, 5, 6):
        assert accuracy[k] == pytest.approx((found[label.numpy() == k] == k).mean())


def test_fidelity_to_oneself_is_perfect_and_kl_is_not_symmetric() -> None:
    logits, _, teacher = drawn()
    assert (agreement(logits, logits), kl_to_teacher(logits, logits)) == (1, 0)
    alike = (probabilities(logits).argmax(1) == probabilities(teacher).argmax(1)).mean()
    assert agreement(logits, teacher) == pytest.approx(alike) and 0 < alike < 1
    # Teacher (1/2, 1/2), student (1/4, 3/4): 1/2 log 2 + 1/2 log (2/3).
    student, half = torch.tensor([log(0.25, 0.75)], dtype=torch.float64), torch.zeros(1, 2)
    assert kl_to_teacher(student, half) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-12)
    assert kl_to_teacher(half, student) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-12)


def test_a_shift_of_the_logits_changes_nothing_and_half_precision_is_widened() -> None:
    logits, label, teacher = drawn()
    for metric in (nll, brier_score, expected_calibration_error, top_k_accuracy):
        assert metric(logits.double() + 1000, label) == pytest.approx(metric(logits, label), rel=1e-9)
        assert metric(logits.bfloat16(), label) == metric(logits.bfloat16().double(), label)
    assert kl_to_teacher(logits.double() - 1000, teacher) == pytest.approx(kl_to_teacher(logits, teacher), rel=1e-9)


def test_large_logits_stay_finite() -> None:
    logits, label = torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([1])
    assert nll(logits, label) == pytest.approx(2e4)
    assert kl_to_teacher(logits, -logits) == pytest.approx(2e4)


BAD = torch.tensor([[0.0, math.nan], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: nll(torch.zeros(3), torch.zeros(3).long()), r"expected \(N, K\).*found \(3,\)"),
        (lambda: nll(torch.zeros(0, 3), torch.zeros(0).long()), r"at least one sample.*found \(0, 3\)"),
        (lambda: nll(BAD, torch.zeros(2).long()), "NaN or infinity in 1 of 2 samples"),
        (lambda: top_k_accuracy(torch.zeros(2, 3), torch.tensor([0, 3])), r"expected classes 0..2.*found 0..3"),
        (lambda: brier_score(torch.zeros(2, 3), torch.tensor([-1, 1])), r"expected classes 0..2.*found -1..1"),
        (lambda: confusion_matrix(torch.zeros(2, 3), torch.zeros(3).long()), r"expected \(2,\).*found \(3,\)"),
        (lambda: expected_calibration_error(torch.zeros(2, 3), torch.zeros(2)), "int64, found .*float32"),
        (lambda: agreement(torch.zeros(2, 3), torch.zeros(2, 4)), r"\(2, 3\) and the teacher's \(2, 4\)"),
        (lambda: kl_to_teacher(torch.zeros(2, 2), BAD), "NaN or infinity"),
    ],
)
def test_bad_input_is_one_line(call: Callable[[], object], says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_numbers_of_classes_and_bins_that_cannot_be() -> None:
    logits, label, _ = drawn()
    for k in (0, K + 1):
        with pytest.raises(RecipeError, match=rf"k: expected 1 to {K}.*found {k}"):
            top_k_accuracy(logits, label, k)
    with pytest.raises(RecipeError, match="bins: expected at least 1, found 0"):
        expected_calibration_error(logits, label, 0)

"""Strengths by cases worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from limbeck.attacks.strength import FixedStrength, ScheduledStrength, SteeredStrength
from limbeck.errors import RecipeError, TrainingError


def steered(target: float = 0.5, rate: float = 0.2) -> SteeredStrength:
    return SteeredStrength(start=0.1, low=0.05, high=0.2, target=target, rate=rate)


def after(clean: float, robust: float) -> float:
    strength = steered()
    assert strength.value(0) == 0.1
    strength.observe(clean, robust)
    return strength.value(1)


def test_fixed_is_fixed() -> None:
    assert {FixedStrength(0.07).value(step) for step in (0, 1, 10**6)} == {0.07}


def test_scheduled_goes_straight_and_stays() -> None:
    up, down = ScheduledStrength(0.0, 0.2, 4), ScheduledStrength(0.2, 0.1, 2)
    assert [up.value(step) for step in range(6)] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.2])
    assert [down.value(step) for step in (0, 1, 2, 99)] == pytest.approx([0.2, 0.15, 0.1, 0.1])


def test_steered_follows_its_rule() -> None:
    assert after(0.5, 1.0) == pytest.approx(0.1)  # at the target
    assert after(0.8, 1.0) == pytest.approx(0.1 * math.exp(0.2 * 0.3))  # copes: stronger
    assert after(0.1, 1.0) == pytest.approx(0.1 * math.exp(0.2 * -0.4))  # does not: weaker
    assert after(3.0, 1.0) == after(1.0, 1.0) == after(1.0, 0.0) == pytest.approx(0.1 * math.exp(0.2 * 0.5))
    assert after(0.0, 1.0) == pytest.approx(0.1 * math.exp(0.2 * -0.5))
    assert after(0.0, 0.0) == 0.1


def test_steered_stays_where_nothing_was_observed() -> None:
    strength = steered()
    assert [strength.value(step) for step in range(3)] == [0.1] * 3


@pytest.mark.parametrize(("ratio", "bound"), [(1.0, 0.2), (0.0, 0.05)])
def test_steered_keeps_its_bounds(ratio: float, bound: float) -> None:
    strength = steered()
    values = []
    for step in range(40):
        values.append(strength.value(step))
        strength.observe(torch.tensor(ratio), torch.tensor(1.0))
    assert values[-1] == bound and all(0.05 <= value <= 0.2 for value in values)
    assert all(abs(math.log(b / a)) <= 0.2 for a, b in pairwise(values))


def test_steered_settles_where_the_ratio_is_the_target() -> None:
    strength = SteeredStrength(start=0.02, low=0.01, high=1.0, target=0.6, rate=0.5)
    for step in range(200):  # a student whose loss is 1 clean and 1 + 5 s under strength s: 0.6 at s = 2/15
        strength.observe(1.0, 1 + 5 * strength.value(step))
    assert strength.value(200) == pytest.approx(2 / 15, rel=1e-6)


def test_micro_batches_count_as_one_batch() -> None:
    whole, parts = steered(), steered()
    whole.observe(0.5, 1.0)
    for clean, robust in ((0.2, 0.7), (0.8, 1.3)):
        assert parts.value(0) == 0.1
        parts.observe(clean, robust)
    whole.observe(0.5, 1.0)
    assert parts.value(1) == pytest.approx(whole.value(1), rel=1e-12)


@pytest.mark.parametrize("losses", [(-0.1, 1.0), (math.nan, 1.0), (1.0, math.inf), (1.0, -1.0)])
def test_steered_refuses_what_is_no_loss(losses: tuple[float, float]) -> None:
    strength = steered()
    strength.observe(*losses)
    with pytest.raises(TrainingError, match="SteeredStrength: expected losses of at least 0, found"):
        strength.value(1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FixedStrength(-0.1), r"FixedStrength\.strength: expected a strength of at least 0, found -0\.1"),
        (lambda: ScheduledStrength(start=-1.0), r"ScheduledStrength\.start: .*found -1"),
        (lambda: ScheduledStrength(end=math.nan), r"ScheduledStrength\.end: .*found nan"),
        (lambda: ScheduledStrength(until=0), r"ScheduledStrength\.until: .*at least 1, found 0"),
        (lambda: SteeredStrength(start=0.5), r"expected 0 < low <= start <= high, found 0\.0078.*, 0\.5 and 0\.06"),
        (lambda: SteeredStrength(low=0.0), "expected 0 < low <= start <= high, found 0"),
        (lambda: SteeredStrength(target=1.0), r"SteeredStrength\.target: expected a number in \(0, 1\), found 1"),
        (lambda: SteeredStrength(rate=0.0), r"SteeredStrength\.rate: expected a number above 0, found 0"),
    ],
)
def test_arguments_out_of_range_are_refused(make: object, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make()  # type: ignore[operator]

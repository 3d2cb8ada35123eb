from __future__ import annotations

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.weighting.schedule import Schedule
from limbeck.weighting.scheduled import Scheduled

DEFAULTS = {"student.output": 0.0, "student.adversarial": 1.0}


def test_a_constant_holds_from_the_first_update_to_the_last() -> None:
    weighting = Scheduled({"student.output": 2.5}, DEFAULTS)
    assert [weighting.weight("student.output", p) for p in (0.0, 0.5, 1.0)] == [2.5, 2.5, 2.5]


def test_a_loss_that_is_not_named_takes_the_default() -> None:
    weighting = Scheduled({"student.output": 2.5}, DEFAULTS)
    assert weighting.weight("student.adversarial", 0.3) == 1.0


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.19, 0.0), (0.2, 0.0), (0.3, 1.0), (0.4, 2.0), (0.6, 4.0), (0.79, 4.0), (0.8, 0.0), (1.0, 0.0)],
)
def test_a_ramp_rises_linearly_then_holds_until_its_end(progress: float, expected: float) -> None:
    # From 0.2 it rises over 0.4 of the training to 4, i.e. 10 a unit of progress, and ends at 0.8.
    assert Schedule(4.0, start=0.2, until=0.8, ramp=0.4).at(progress) == pytest.approx(expected)


def test_a_step_without_ramp_is_on_at_once_and_still_on_at_the_very_end() -> None:
    schedule = Schedule(0.1, start=0.5)
    assert [schedule.at(p) for p in (0.499, 0.5, 1.0)] == [0.0, 0.1, 0.1]


def test_consecutive_schedules_never_overlap() -> None:
    first, second = Schedule(1.0, until=0.5), Schedule(1.0, start=0.5)
    assert all(first.at(i / 100) + second.at(i / 100) == 1.0 for i in range(101))


def test_the_combination_is_the_weighted_sum_and_so_is_its_gradient() -> None:
    weighting = Scheduled({"student.output": 2.5, "student.adversarial": Schedule(0.1, start=0.5, ramp=0.2)}, DEFAULTS)
    losses = {name: torch.tensor(value, requires_grad=True) for name, value in zip(DEFAULTS, (2.0, 3.0), strict=True)}
    total = weighting.combine(losses, 0.6, [])
    assert total.shape == () and total.item() == pytest.approx(2.5 * 2 + 0.05 * 3)
    total.backward()  # type: ignore[no-untyped-call]
    assert [loss.grad.item() for loss in losses.values()] == pytest.approx([2.5, 0.05])  # type: ignore[union-attr]


def test_an_unknown_loss_is_named_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"student\.ouput: no such loss \(did you mean 'student\.output'\?\)"):
        Scheduled({"student.ouput": 1.0}, DEFAULTS)


def test_a_loss_without_weight_is_an_error_not_a_silent_zero() -> None:
    with pytest.raises(RecipeError, match=r"student\.feature: a loss without a weight"):
        Scheduled({}, DEFAULTS).weight("student.feature", 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight: expected a number of at least 0, found -1.0"),
        ({"weight": float("nan")}, "weight: expected a number of at least 0, found nan"),
        ({"weight": 1.0, "start": 0.5, "until": 0.5}, "expected 0 <= from < until <= 1, found 0.5 and 0.5"),
        ({"weight": 1.0, "start": -0.1}, "expected 0 <= from < until <= 1"),
        ({"weight": 1.0, "until": 1.5}, "expected 0 <= from < until <= 1"),
        ({"weight": 1.0, "start": 0.5, "ramp": 0.6}, r"ramp: expected a number in \[0, 0.5\]"),
    ],
)
def test_impossible_schedules(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Schedule(**options)


def test_an_impossible_constant_names_its_loss() -> None:
    with pytest.raises(RecipeError, match=r"student\.output: weight: expected a number of at least 0, found -2"):
        Scheduled({"student.output": -2.0}, DEFAULTS)

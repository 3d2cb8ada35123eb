"""training.py: the learning rate by hand, and options that cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from limbeck.errors import RecipeError
from limbeck.training.options import Training


def test_the_warm_up_rises_linearly_and_reaches_one() -> None:
    training = Training(100, warmup=4)
    assert [training.rate(count, 0.5) for count in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_without_warm_up_and_schedule_the_rate_stays() -> None:
    assert [Training(100).rate(count, count / 100) for count in (0, 50, 100)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("progress", "factor"),
    [(0.0, 1.0), (1 / 3, 0.75), (0.5, 0.5), (2 / 3, 0.25), (1.0, 0.0)],  # (1 + cos(pi p)) / 2
)
def test_half_a_cosine(progress: float, factor: float) -> None:
    assert Training(100, schedule="cosine").rate(7, progress) == pytest.approx(factor, abs=1e-12)


def test_warm_up_and_cosine_multiply() -> None:
    found = Training(10, warmup=10, schedule="cosine").rate(2, 0.2)
    assert found == pytest.approx(0.3 * 0.5 * (1 + math.cos(0.2 * math.pi)))


def test_a_tenth_from_each_milestone_on() -> None:
    training = Training(8, schedule="multistep", milestones=(0.25, 0.75), warmup=2)
    found = [training.rate(step, step / 8) for step in range(8)]
    assert found == pytest.approx([0.5, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "training.steps: expected a whole number of at least 1, found 0"),
        ({"batch": -4}, "training.batch: expected a whole number of at least 1, found -4"),
        ({"micro_batches": 0}, "training.micro_batches: expected a whole number of at least 1, found 0"),
        ({"processes": 0}, "training.processes"),
        ({"checkpoint_every": 0}, "training.checkpoint_every"),
        (
            {"batch": 10, "processes": 2, "micro_batches": 2},
            "training.batch: 10 samples cannot.*multiple of 4",
        ),
        ({"ema": 1.0}, r"training.ema: expected a number in \[0, 1\), found 1.0"),
        ({"schedule": "multistep"}, r"training.milestones: expected some with .*, found \[\] with multistep"),
        ({"milestones": (0.5,)}, r"training.milestones: .*found \[0.5\] with constant"),
        ({"schedule": "multistep", "milestones": (0.5, 1.0)}, r"training.milestones: expected rising parts .*1.0"),
        ({"schedule": "multistep", "milestones": (0.5, 0.2)}, r"training.milestones: expected rising parts .*0.2"),
        ({"schedule": "multistep", "milestones": (0.5, 0.5)}, r"training.milestones: expected rising parts .*0.5"),
        ({"warmup": -1}, "training.warmup: expected a whole number of at least 0, found -1"),
        ({"workers": -1}, "training.workers: expected a whole number of at least 0, found -1"),
        ({"clip": 0.0}, "training.clip: expected a number above 0, or null, found 0.0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Training(**{"steps": 10} | options)

"""Looking at the student while it trains: metrics on the validation split, the best checkpoint, and alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn


class Watched(NamedTuple):
    """What a monitor found.

    Attributes:
        metrics: Validation metrics by name.
        alarm: What is wrong although no loss shows it, or None.
        score: What the best checkpoint has least of; None where checkpoints are not compared.
    """

    metrics: dict[str, float]
    alarm: str | None = None
    score: float | None = None


Monitor = Callable[[nn.Module], Watched]
"""Takes the student as it would be exported."""


class Validation:
    """Looks at the student now and then, and remembers the best.

    Args:
        monitor: Looks at the student.

    Attributes:
        best: The student that was best and when ("score", "step", "student"), or None where none was compared.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.best: dict[str, Any] | None = None

    def look(self, student: Callable[[], nn.Module], step: int) -> tuple[dict[str, float], list[str]]:
        """Return validation metrics by name, and what is wrong, a line each.

        Args:
            student: Returns a new copy of the student as it would be exported.
            step: The number of steps that it has taken.
        """
        metrics, alarm, score = self.monitor(student())
        alarms = [] if alarm is None else [alarm]
        if score is not None:
            if self.best is None or score < self.best["score"]:
                self.best = {"score": score, "step": step, "student": student().state_dict()}
            elif score > _half_as_good(self.best["score"]):
                before = self.best["step"]
                alarms.append(f"the student is less than half as good on the validation split as at step {before}")
        return metrics, alarms


def _half_as_good(score: float) -> float:
    """Return what is twice a distance from the best (above 0), or half a score (below 0)."""
    return 2 * score if score > 0 else score / 2

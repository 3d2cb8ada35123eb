"""Looking at the student while it trains: metrics on the validation split, the best checkpoint, and alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOMENTS = 8  # the most looks of which samples are kept
SIDE = 96  # the most pixels that their height has


class Watched(NamedTuple):
    """What a monitor found.

    Attributes:
        metrics: Validation metrics by name.
        alarm: What is wrong although no loss shows it, or None.
        score: What the best checkpoint has least of; None where checkpoints are not compared.
        samples: A few images that show what it makes (N, C, H, W) in [-1, 1], or None.
    """

    metrics: dict[str, float]
    alarm: str | None = None
    score: float | None = None
    samples: Tensor | None = None


Monitor = Callable[[nn.Module], Watched]
"""Takes the student as it would be exported."""


class Validation:
    """Looks at the student now and then, and remembers the best.

    Args:
        monitor: Looks at the student.

    Attributes:
        best: The student that was best and when ("score", "step", "student"), or None where none was compared.
        moments: What it made at up to eight looks, evenly spread, the last among them ("step", "samples" as uint8).
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.best: dict[str, Any] | None = None
        self.moments: list[dict[str, Any]] = []

    def look(self, student: Callable[[], nn.Module], step: int) -> tuple[dict[str, float], list[str]]:
        """Return validation metrics by name, and what is wrong, a line each.

        Args:
            student: Returns a new copy of the student as it would be exported.
            step: The number of steps that it has taken.
        """
        metrics, alarm, score, samples = self.monitor(student())
        if samples is not None:
            self.moments = thinned([*self.moments, {"step": step, "samples": small(samples)}])
        alarms = [] if alarm is None else [alarm]
        if score is not None:
            if self.best is None or score < self.best["score"]:
                self.best = {"score": score, "step": step, "student": student().state_dict()}
            elif score > _half_as_good(self.best["score"]):
                before = self.best["step"]
                alarms.append(f"the student is less than half as good on the validation split as at step {before}")
        return metrics, alarms


def thinned(moments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most eight of these moments, evenly spread over the steps, first and last among them."""
    while len(moments) > MOMENTS:
        gaps = [moments[i + 1]["step"] - moments[i - 1]["step"] for i in range(1, len(moments) - 1)]
        narrow = 1 + gaps.index(min(gaps))
        moments = [*moments[:narrow], *moments[narrow + 1 :]]
    return moments


def small(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) in [-1, 1] as uint8, shrunk to a height of at most 96 pixels."""
    images = images.detach().float().cpu().nan_to_num()
    if images.shape[2] > SIDE:
        images = F.interpolate(images, scale_factor=SIDE / images.shape[2], mode="area")
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _half_as_good(score: float) -> float:
    """Return what is twice a distance from the best (above 0), or half a score (below 0)."""
    return 2 * score if score > 0 else score / 2

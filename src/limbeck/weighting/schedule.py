"""A weight that is constant, or switched on, off or up during training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from limbeck.errors import RecipeError


@dataclass(frozen=True)
class Schedule:
    """A weight that holds during a part of the training, and is 0 outside it.

    Attributes:
        weight: The weight once it is fully on, at least 0.
        start: Where it begins, as a fraction of the player's updates in [0, 1) ("from" in a recipe).
        until: Where it ends, in (start, 1]; 1 is the end of the training.
        ramp: Fraction of the training over which it rises linearly from 0, in [0, until - start].
    """

    weight: float
    start: float = 0.0
    until: float = 1.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise RecipeError(f"weight: expected a number of at least 0, found {self.weight}")
        if not 0 <= self.start < self.until <= 1:
            raise RecipeError(f"from, until: expected 0 <= from < until <= 1, found {self.start} and {self.until}")
        if not 0 <= self.ramp <= self.until - self.start:
            longest = self.until - self.start
            raise RecipeError(f"ramp: expected a number in [0, {longest:g}] (until - from), found {self.ramp}")

    def at(self, progress: float) -> float:
        """Return the weight at `progress` in [0, 1]."""
        if progress < self.start or (progress >= self.until and self.until < 1):
            return 0.0
        if self.ramp > 0:
            return self.weight * min(1.0, (progress - self.start) / self.ramp)
        return self.weight

"""How strong an attack is at each step: fixed, scheduled, or steered by how well the student copes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, TrainingError


class Strength(nn.Module, ABC):
    """Decides the strength that a method hands to its attack, in units of the input; a part of the checkpoint.

    At each step the method asks for `value` before it attacks and, where it has both losses, calls `observe` after.
    """

    room: ClassVar[str] = "attack strengths"

    def extra_repr(self) -> str:
        """Return its arguments: it is known by them."""
        known = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value!r}" for name, value in known.items())

    @property
    @abstractmethod
    def most(self) -> float:
        """The largest strength that it will ever ask for."""

    @abstractmethod
    def value(self, step: int) -> float:
        """Return the strength at step number `step` (from 0), at least 0; the same however often a step asks."""

    def observe(self, clean_loss: Tensor | float, robust_loss: Tensor | float) -> None:
        """Take note of the student's mean losses on clean and on attacked samples: they count from the next step on.

        With gradient accumulation every micro-batch of a step observes. In several processes each has to be given
        the same numbers, the means over all samples of the global batch.
        """


@final
class FixedStrength(Strength):
    """The same strength at every step.

    Args:
        strength: At least 0, in units of the input.

    Raises:
        RecipeError: It is negative.
    """

    def __init__(self, strength: float = 16 / 255) -> None:
        super().__init__()
        self.strength = _not_negative(strength, "FixedStrength.strength")

    @property
    def most(self) -> float:
        """The strength."""
        return self.strength

    def value(self, step: int) -> float:
        """Return the strength."""
        return self.strength


@final
class ScheduledStrength(Strength):
    """A strength that goes linearly from one value to another, and stays there.

    Args:
        start: At step 0, at least 0, in units of the input.
        end: From step `until` on, at least 0.
        until: The step at which the end is reached, at least 1.

    Raises:
        RecipeError: An argument is out of its range.
    """

    def __init__(self, start: float = 0.0, end: float = 16 / 255, until: int = 1000) -> None:
        super().__init__()
        self.start = _not_negative(start, "ScheduledStrength.start")
        self.end = _not_negative(end, "ScheduledStrength.end")
        if until < 1:
            raise RecipeError(f"ScheduledStrength.until: expected a step of at least 1, found {until}")
        self.until = until

    @property
    def most(self) -> float:
        """The larger end."""
        return max(self.start, self.end)

    def value(self, step: int) -> float:
        """Return start + (end - start) min(1, step / until)."""
        return self.start + (self.end - self.start) * min(1.0, step / self.until)


@final
class SteeredStrength(Strength):
    """A strength that rises while the student copes with it and falls while it does not.

    The measure is the ratio of its clean to its robust loss, r = min(1, clean / robust): 1 where the attack changes
    nothing, near 0 where it ruins everything. After each step that observed both,

        strength ← min(high, max(low, strength · exp(rate · (r - target))))

    so that it settles where the ratio is `target`, always within [low, high], and never changes by more than the
    factor exp(rate) in a step.

    Args:
        start: At step 0, in [low, high], in units of the input.
        low: The smallest strength, above 0.
        high: The largest strength.
        target: The ratio to hold, in (0, 1); a lower one asks for stronger attacks.
        rate: How fast it moves, above 0.

    Raises:
        RecipeError: An argument is out of its range.
    """

    def __init__(
        self,
        start: float = 8 / 255,
        low: float = 2 / 255,
        high: float = 16 / 255,
        target: float = 0.6,
        rate: float = 0.1,
    ) -> None:
        super().__init__()
        if not (math.isfinite(high) and 0 < low <= start <= high):
            found = f"{low}, {start} and {high}"
            raise RecipeError(f"SteeredStrength.low, start, high: expected 0 < low <= start <= high, found {found}")
        if not 0 < target < 1:
            raise RecipeError(f"SteeredStrength.target: expected a number in (0, 1), found {target}")
        if not (math.isfinite(rate) and rate > 0):
            raise RecipeError(f"SteeredStrength.rate: expected a number above 0, found {rate}")
        self.start, self.low, self.high, self.target, self.rate = start, low, high, target, rate
        self.strength: Tensor
        self.losses: Tensor
        self.step: Tensor
        self.register_buffer("strength", torch.tensor(start, dtype=torch.float64))
        self.register_buffer("losses", torch.zeros(2, dtype=torch.float64))  # sums of this step: clean, robust
        self.register_buffer("step", torch.tensor(0))  # the step that they belong to

    @property
    def most(self) -> float:
        """The largest strength that it may reach."""
        return self.high

    def value(self, step: int) -> float:
        """Return the strength; the first call of a new step takes what the last one observed into account.

        Raises:
            TrainingError: A loss was negative or not finite.
        """
        if step != int(self.step):
            clean, robust = self.losses.tolist()
            self.strength.fill_(self._next(self.strength.item(), clean, robust))
            self.losses.zero_()
            self.step.fill_(step)
        return self.strength.item()

    def observe(self, clean_loss: Tensor | float, robust_loss: Tensor | float) -> None:
        """Add the losses, both at least 0, to those of this step."""
        for place, loss in enumerate((clean_loss, robust_loss)):
            self.losses[place] += loss.detach() if isinstance(loss, Tensor) else loss

    def _next(self, strength: float, clean: float, robust: float) -> float:
        if not (math.isfinite(clean) and math.isfinite(robust) and clean >= 0 and robust >= 0):
            raise TrainingError(
                f"SteeredStrength: expected losses of at least 0, found {clean} (clean) and {robust} (robust)"
            )
        if clean == robust == 0:  # nothing was observed, or there is nothing left to compare
            return strength
        ratio = min(1.0, clean / robust) if robust > 0 else 1.0
        return min(self.high, max(self.low, strength * math.exp(self.rate * (ratio - self.target))))


def _not_negative(value: float, key: str) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise RecipeError(f"{key}: expected a strength of at least 0, found {value}")
    return value

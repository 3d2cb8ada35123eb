"""How far a student can be driven from its teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor

from limbeck.attacks.pgd import Norm, Pgd
from limbeck.errors import RecipeError
from limbeck.ground.described import Described
from limbeck.ground.randomness import generator

CHUNK = 100


@final
class Disagreement(Described):
    """The distance of student and teacher on inputs, and on the worst inputs that a fresh attack finds near them.

    * `gap_to_teacher`: mean |S - T| of the images that both make, in [0, 2].
    * `worst_gap_to_teacher`: the same after PGD, whose start is random and which no training has seen.

    Args:
        radius: ε > 0 in units of the input: how far the attack goes from it.
        norm: "l2" bounds the length of the change of a sample, "linf" every element.
        steps: Of PGD, of length 2.5 radius / steps, at least 3.
        samples: How many inputs are attacked.

    Raises:
        RecipeError: An argument is out of its range.
    """

    room: ClassVar[str] = "disagreement"

    def __init__(self, radius: float, norm: Norm = "l2", *, steps: int = 20, samples: int = 500) -> None:
        for name, value, least in (("steps", steps, 3), ("samples", samples, 1)):
            if value < least:
                raise RecipeError(f"Disagreement.{name}: expected a whole number of at least {least}, found {value}")
        self.radius, self.norm, self.steps, self.samples = radius, norm, steps, samples
        self._attack(None, None)  # refuses radius and norm

    def check(self, low: float, high: float) -> None:
        """Refuse a radius that is no small change of inputs in [low, high], before anything is trained.

        Raises:
            RecipeError: It is not.
        """
        self._attack(low, high)

    def measure(
        self,
        student: Callable[..., Tensor],
        teacher: Callable[..., Tensor],
        input: Tensor,
        *condition: Tensor,
        place: Callable[[Tensor, Tensor], Tensor] = lambda point, start: point,
        bounds: tuple[float | None, float | None] = (None, None),
    ) -> dict[str, float]:
        """Return both figures.

        Args:
            student: From an input (N, ...), and `condition`, to images (N, C, H, W), differentiable.
            teacher: The same.
            input: (N, ...) on their device; the first `samples` are used.
            condition: What both are called with beside it, such as labels (N,).
            place: Where a point (first argument) near an input (second) really is, such as on the prior's shell.
            bounds: Smallest and largest value of the input.
        """
        attack = self._attack(*bounds)
        gaps: list[Tensor] = []
        worst: list[Tensor] = []
        parts = zip(*(torch.split(t[: self.samples], CHUNK) for t in (input, *condition)), strict=True)
        for number, (start, *given) in enumerate(parts):

            def gap(point: Tensor, start: Tensor = start, given: list[Tensor] = given) -> Tensor:
                point = place(point, start)
                return (student(point, *given) - teacher(point, *given)).abs().flatten(1).mean(1)

            draw = generator("disagreement", number)
            drawn = {n: d.sample(len(start), draw).to(start.device) for n, d in attack.draws(start.shape[1:]).items()}
            point = attack(gap, start, drawn)
            with torch.no_grad():
                gaps.append(gap(start))
                worst.append(gap(point))
        return {
            "gap_to_teacher": float(torch.cat(gaps).mean()),
            "worst_gap_to_teacher": float(torch.cat(worst).mean()),
        }

    def _attack(self, low: float | None, high: float | None) -> Pgd:
        return Pgd(self.radius, 2.5 * self.radius / self.steps, self.steps, self.norm, low=low, high=high)

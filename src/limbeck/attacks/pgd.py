"""Projected gradient ascent (Madry et al. 2018, arXiv:1706.06083)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, final, get_args

import torch
from torch import Tensor

from limbeck.attacks.base import (
    Attack,
    Bounds,
    Loss,
    check_radius,
    loss_and_gradient,
    loss_at,
    per_sample,
    strength_or,
)
from limbeck.errors import require
from limbeck.types import Draw

Norm = Literal["linf", "l2"]


@final
class Pgd(Attack):
    """Steps uphill, each projected back into the ball about the input and into the bounds (section 2.1).

    A step is `step` times the sign of the gradient ("linf") or the gradient of length 1 ("l2"). Of all points that were
    visited, the clean input included, each sample keeps the one with the highest loss, so the loss never ends below
    that of the clean input. It costs `steps` forward and backward passes and one forward pass for each start, and one
    more forward pass for the clean input.

    Args:
        radius: ε > 0, the radius of the ball in units of the input: 16/255 is the literature's 8/255.
        step: Length of a step, in (0, radius]; where a strength replaces the radius, it keeps its proportion.
        steps: How many, at least 1.
        norm: "linf" bounds every element, "l2" the length of the change of a whole sample.
        random_start: Start at a point drawn uniformly from the ball rather than at the input.
        restarts: How many starts, of which each sample keeps the best; more than 1 needs `random_start`.
        low: Smallest value of the input; null for none.
        high: Largest value of the input; null for none.
        name: Prefix of what is drawn, different for each attack of a mixture.

    Raises:
        RecipeError: An argument is out of its range.
    """

    def __init__(
        self,
        radius: float = 16 / 255,
        step: float = 4 / 255,
        steps: int = 10,
        norm: Norm = "linf",
        *,
        random_start: bool = True,
        restarts: int = 1,
        low: float | None = -1.0,
        high: float | None = 1.0,
        name: str = "pgd",
    ) -> None:
        self.bounds, self.name = Bounds("Pgd", low, high), name
        of_elements = norm == "linf"
        self.radius = self.bounds.check_change(radius, "radius") if of_elements else check_radius(radius, "Pgd.radius")
        self.step = check_radius(step, "Pgd.step")
        require("Pgd.step", step <= radius, f"a step no larger than the ball (radius {radius:g})", step)
        require("Pgd.steps", steps >= 1, "at least 1", steps)
        require("Pgd.norm", norm in get_args(Norm), "'linf' or 'l2'", norm)
        require("Pgd.restarts", restarts >= 1, "at least 1", restarts)
        require(
            "Pgd.restarts", random_start or restarts == 1, "1 without random_start: all starts are the same", restarts
        )
        self.steps, self.norm, self.restarts, self.random_start = steps, norm, restarts, random_start

    def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
        """Return the place of each start in a ball of radius 1."""
        if not self.random_start:
            return {}
        starts = (self.restarts, *shape)
        if self.norm == "linf":
            return {f"{self.name}.start": Draw(starts, "uniform")}
        return {f"{self.name}.direction": Draw(starts), f"{self.name}.length": Draw((self.restarts,), "uniform")}

    def __call__(self, loss: Loss, input: Tensor, drawn: Mapping[str, Tensor], strength: float | None = None) -> Tensor:
        """Return the visited points of the highest loss."""
        radius = strength_or(self.radius, strength, "Pgd")
        clean = self.bounds.admit(input)
        if self.norm == "l2" and strength is None:
            self.bounds.check_length(radius, clean[0].numel(), "radius")
        if radius == 0:
            return clean
        best = _Best(clean)
        if self.random_start:
            best.offer(clean, loss_at(loss, clean, "Pgd"))
        for restart in range(self.restarts):
            self._climb(loss, clean, self._start(clean, drawn, restart, radius), radius, best)
        return best.point

    def _climb(self, loss: Loss, clean: Tensor, point: Tensor, radius: float, best: _Best) -> None:
        step = self.step * radius / self.radius
        for _ in range(self.steps):
            value, gradient = loss_and_gradient(loss, point, "Pgd")
            best.offer(point, value)
            point = self._project(point + step * self._direction(gradient), clean, radius)
        best.offer(point, loss_at(loss, point, "Pgd"))

    def _start(self, clean: Tensor, drawn: Mapping[str, Tensor], restart: int, radius: float) -> Tensor:
        if not self.random_start:
            return clean
        if self.norm == "linf":
            offset = 2 * drawn[f"{self.name}.start"][:, restart].to(clean) - 1
        else:  # a ball of D dimensions has the share r^D of its volume within r
            direction = _unit(drawn[f"{self.name}.direction"][:, restart].to(clean))
            length = drawn[f"{self.name}.length"][:, restart].to(clean) ** (1 / clean[0].numel())
            offset = per_sample(length, clean) * direction
        return self._project(clean + radius * offset, clean, radius)

    def _direction(self, gradient: Tensor) -> Tensor:
        return gradient.sign() if self.norm == "linf" else _unit(gradient)

    def _project(self, point: Tensor, clean: Tensor, radius: float) -> Tensor:
        """Return a point of the ball and the bounds; the clamp leaves no change longer, as `clean` is within them."""
        change = point - clean
        if self.norm == "linf":
            change = change.clamp(-radius, radius)
        else:
            length = per_sample(_length(change), change)
            change = change * (radius / length.clamp(min=radius))
        return self.bounds.clamp(clean + change)


class _Best:
    """Of the points offered, each sample's of the highest loss; `start` where no loss is a number."""

    def __init__(self, start: Tensor) -> None:
        self.point = start
        self.value: Tensor | None = None

    def offer(self, point: Tensor, value: Tensor) -> None:
        before = torch.full_like(value, -math.inf) if self.value is None else self.value
        higher = value > before
        self.value = torch.where(higher, value, before)
        self.point = torch.where(per_sample(higher, point), point, self.point)


def _length(vectors: Tensor) -> Tensor:
    """Return the L2 length of each sample (N,)."""
    length: Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1)
    return length


def _unit(vectors: Tensor) -> Tensor:
    """Return each sample at length 1; a zero stays zero."""
    length = per_sample(_length(vectors), vectors)
    return vectors / length.where(length > 0, 1)

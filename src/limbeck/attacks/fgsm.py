"""The fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from limbeck.attacks.base import Attack, Bounds, Loss, loss_and_gradient, strength_or
from limbeck.types import Draw


@final
class Fgsm(Attack):
    """One step of the whole radius: x + ε sign(∇ₓ loss), clamped to the bounds (section 4).

    The loss may come out lower than it was: a step this long can jump over a peak. One forward and backward pass.

    Args:
        radius: ε > 0, the largest change of an element in units of the input: 16/255 is the literature's 8/255.
        low: Smallest value of the input; null for none.
        high: Largest value of the input; null for none.

    Raises:
        RecipeError: The radius is not above 0 or is more than half the range, or `low` is not below `high`.
    """

    def __init__(self, radius: float = 16 / 255, *, low: float | None = -1.0, high: float | None = 1.0) -> None:
        self.bounds = Bounds("Fgsm", low, high)
        self.radius = self.bounds.check_change(radius, "radius")

    def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
        """Return nothing: there is no chance in it."""
        return {}

    def __call__(self, loss: Loss, input: Tensor, drawn: Mapping[str, Tensor], strength: float | None = None) -> Tensor:
        """Return the changed input."""
        radius = strength_or(self.radius, strength, "Fgsm")
        clean = self.bounds.admit(input)
        _, gradient = loss_and_gradient(loss, clean, "Fgsm")
        return self.bounds.clamp(clean + radius * gradient.sign())

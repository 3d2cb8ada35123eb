"""Noise: blind attacks that ask no loss, and so work where a model hides its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from limbeck.attacks.base import Attack, Bounds, Loss, strength_or
from limbeck.types import Draw


@final
class GaussianNoise(Attack):
    """Adds σ times a standard normal to every element, clamped to the bounds: no ball holds it.

    Args:
        deviation: σ > 0, the strength, in units of the input: a tenth of an image's range is 0.2.
        low: Smallest value of the input; null for none.
        high: Largest value of the input; null for none.
        name: Prefix of what is drawn, different for each attack of a mixture.

    Raises:
        RecipeError: The deviation is not above 0 or is more than half the range, or `low` is not below `high`.
    """

    def __init__(
        self,
        deviation: float = 0.1,
        *,
        low: float | None = -1.0,
        high: float | None = 1.0,
        name: str = "gaussian",
    ) -> None:
        self.bounds, self.name = Bounds("GaussianNoise", low, high), name
        self.deviation = self.bounds.check_change(deviation, "deviation")

    def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
        """Return a standard normal of the input's shape."""
        return {f"{self.name}.noise": Draw(tuple(shape))}

    def __call__(self, loss: Loss, input: Tensor, drawn: Mapping[str, Tensor], strength: float | None = None) -> Tensor:
        """Return the noisy input; `loss` is not called."""
        clean = self.bounds.admit(input)
        noise = drawn[f"{self.name}.noise"].to(clean)
        return self.bounds.clamp(clean + strength_or(self.deviation, strength, "GaussianNoise") * noise)


@final
class UniformNoise(Attack):
    """Moves every element by a number drawn uniformly from [-ε, ε), clamped to the bounds.

    Args:
        radius: ε > 0, the strength, in units of the input: 16/255 is the literature's 8/255.
        low: Smallest value of the input; null for none.
        high: Largest value of the input; null for none.
        name: Prefix of what is drawn, different for each attack of a mixture.

    Raises:
        RecipeError: The radius is not above 0 or is more than half the range, or `low` is not below `high`.
    """

    def __init__(
        self,
        radius: float = 16 / 255,
        *,
        low: float | None = -1.0,
        high: float | None = 1.0,
        name: str = "uniform",
    ) -> None:
        self.bounds, self.name = Bounds("UniformNoise", low, high), name
        self.radius = self.bounds.check_change(radius, "radius")

    def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
        """Return uniform numbers of the input's shape."""
        return {f"{self.name}.noise": Draw(tuple(shape), "uniform")}

    def __call__(self, loss: Loss, input: Tensor, drawn: Mapping[str, Tensor], strength: float | None = None) -> Tensor:
        """Return the noisy input; `loss` is not called."""
        clean = self.bounds.admit(input)
        noise = 2 * drawn[f"{self.name}.noise"].to(clean) - 1
        return self.bounds.clamp(clean + strength_or(self.radius, strength, "UniformNoise") * noise)

"""The contract of an attack: a small change of an input that makes a loss large.

Attacks know nothing of models. What they maximise is a function from the input to one number a sample, so the same
attack runs on images, on the latents of a generator, and on a segmentation network, whose number is the mean over
pixels (see `objectives`). Whoever makes that function decides which network it asks, and in which mode: an attack
neither sets nor restores training or evaluation mode, and a network in training mode moves its batch-norm statistics
with every call.

Strengths and steps are in units of the input. Images are in [-1, 1], twice the range of the literature's [0, 1]: what
a paper calls 8/255 is 16/255 (0.0627) here, and an L2 radius of 0.5 is 1.0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.ground.described import Described
from limbeck.types import Draw

Loss = Callable[[Tensor], Tensor]
"""From an input (N, ...) to the loss of each sample (N,), which an attack makes large."""

_SLACK = 1e-5  # how far rounding may carry an image out of its bounds


class Attack(Described, ABC):
    """A change of a whole batch, the same in one process or many: what is random in it is drawn by the engine."""

    room: ClassVar[str] = "attacks"

    @abstractmethod
    def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
        """Return what has to be drawn, by name; names are unique among attacks and do not depend on `shape`.

        Args:
            shape: Shape of one sample of the input, e.g. (C, H, W).
        """

    def check_strength(self, most: float) -> None:
        """Refuse a strength that no image can be changed by; one that is a length (L2) depends on the image's size.

        Args:
            most: The largest that the attack will be called with.

        Raises:
            RecipeError: It is one.
        """
        bounds: Bounds | None = getattr(self, "bounds", None)
        if bounds is not None and most > 0 and getattr(self, "norm", "linf") == "linf":
            bounds.check_change(most, "strength")

    @abstractmethod
    def __call__(self, loss: Loss, input: Tensor, drawn: Mapping[str, Tensor], strength: float | None = None) -> Tensor:
        """Return the changed input, detached, of the same shape and dtype.

        Samples do not influence each other unless `loss` lets them. No gradient reaches a parameter, and none that is
        there is touched.

        Args:
            loss: What to make large, (N, ...) to (N,); differentiable unless the attack is blind.
            input: (N, ...), within the attack's bounds.
            drawn: What `draws` declared.
            strength: Replaces the attack's own radius, at least 0; None leaves it.

        Raises:
            RecipeError: The strength is negative, the input is out of bounds, or the loss is not one number a sample
                or has no gradient with respect to the input.
        """


@dataclass(frozen=True)
class Bounds:
    """The values that an input may have.

    Attributes:
        owner: The attack whose bounds they are: named in messages.
        low: The smallest, or None.
        high: The largest, or None.
    """

    owner: str
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise RecipeError(f"{self.owner}.low, high: expected low < high, found {self.low} and {self.high}")

    def check_length(self, value: float, elements: int, argument: str) -> None:
        """Refuse a length that leads from any input of so many elements to a constant one, as `check_change` does.

        Raises:
            RecipeError: It is one.
        """
        if self.low is not None and self.high is not None:
            most = (self.high - self.low) / 2 * math.sqrt(elements)
            found = f"{value:g}; divide it by 127.5 if it is in steps of 8 bits"
            if value > most:
                raise RecipeError(
                    f"{self.owner}.{argument}: expected at most {most:.4g}, a length that leads from any input of"
                    f" {elements} numbers in [{self.low:g}, {self.high:g}] to plain grey, found {found}"
                )

    def check_change(self, value: float, argument: str) -> float:
        """Return the largest change of one element after checking that it is above 0 and no more than half the range.

        By half the range every image can be made one grey, so that nothing is left to recognise: whoever asks for more
        means steps of 8 bits, such as the literature's 8/255. Where there are no bounds any number above 0 will do.

        Raises:
            RecipeError: It is not.
        """
        key = f"{self.owner}.{argument}"
        check_radius(value, key)
        if self.low is None or self.high is None or value <= (self.high - self.low) / 2:
            return value
        width = self.high - self.low
        found = f"{value:g}; what a paper calls {value:g}/255 is {value * width / 255:.4f} here"
        raise RecipeError(
            f"{key}: expected at most {width / 2:g}, half the range of an input in [{self.low:g}, {self.high:g}], found"
            f" {found}"
        )

    def admit(self, input: Tensor) -> Tensor:
        """Return `input`, detached, rid of rounding errors outside the bounds.

        Raises:
            RecipeError: It is not of floats, or is out of bounds by more than rounding.
        """
        if not input.is_floating_point():
            raise RecipeError(f"{self.owner}: expected an input of floats, found {input.dtype}")
        lowest, highest = input.detach().aminmax()
        if (self.low is not None and lowest < self.low - _SLACK) or (
            self.high is not None and highest > self.high + _SLACK
        ):
            raise RecipeError(
                f"{self.owner}: expected an input in [{self.low}, {self.high}], found values from {lowest:.6g} to"
                f" {highest:.6g}; scale it, or set low and high (null for none, as latents need)"
            )
        return self.clamp(input.detach())

    def clamp(self, point: Tensor) -> Tensor:
        """Return the nearest point within the bounds."""
        return point if self.low is None and self.high is None else point.clamp(self.low, self.high)


def check_radius(value: float, key: str) -> float:
    """Return `value` after checking that it is a number above 0.

    Raises:
        RecipeError: It is not. The message names `key`.
    """
    if not (math.isfinite(value) and value > 0):
        raise RecipeError(f"{key}: expected a number above 0, found {value}")
    return value


def strength_or(own: float, strength: float | None, owner: str) -> float:
    """Return `strength`, or the attack's own where that is None.

    Raises:
        RecipeError: The strength is negative or not finite.
    """
    if strength is not None and not (math.isfinite(strength) and strength >= 0):
        raise RecipeError(f"{owner}: expected a strength of at least 0, found {strength}")
    return own if strength is None else strength


def loss_at(loss: Loss, point: Tensor, owner: str) -> Tensor:
    """Return the loss (N,) at `point`, detached.

    It is not computed under `no_grad`: versions of torch differ in whether the weights that autocast casts there stay
    in its cache without their gradient, for the training step that follows.
    """
    with torch.enable_grad():
        return _checked(loss(point), point, owner).detach()


def loss_and_gradient(loss: Loss, point: Tensor, owner: str) -> tuple[Tensor, Tensor]:
    """Return the loss (N,) at `point` and the gradient of each sample's loss (N, ...), both detached.

    Raises:
        RecipeError: There is no gradient with respect to the input, or not one loss a sample.
    """
    with torch.enable_grad():
        place = point.detach().requires_grad_()
        value = _checked(loss(place), point, owner)
        return value.detach(), input_gradient(value.sum(), place, owner)


def input_gradient(value: Tensor, place: Tensor, owner: str, *, again: bool = False) -> Tensor:
    """Return the gradient of the scalar `value` with respect to `place` alone; `again` keeps the graph for another.

    Raises:
        RecipeError: There is none.
    """
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, place, retain_graph=again, allow_unused=True)
    if gradient is None:
        raise RecipeError(
            f"{owner}: expected a loss with a gradient with respect to its input, found none; the model cuts it"
            " (no_grad, detach, rounding), so only blind attacks such as noise can be used on it"
        )
    return gradient


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Return `values` (N,) as (N, 1, ..., 1), ready to meet `like` (N, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _checked(value: Tensor, point: Tensor, owner: str) -> Tensor:
    if value.shape != (len(point),):
        raise RecipeError(
            f"{owner}: expected a loss of one number a sample ({len(point)},), found shape {tuple(value.shape)}"
        )
    return value

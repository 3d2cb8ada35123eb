"""Penalties on a discriminator's gradient, which keep it smooth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, final

from torch import Tensor

from limbeck.errors import require
from limbeck.losses import gan
from limbeck.terms.base import Answers, Term
from limbeck.terms.game import JUDGED
from limbeck.terms.scene import Scene
from limbeck.types import Draw


class Penalty(Term):
    """A penalty on every n-th step, n times as large there (lazy regularisation, Karras et al. 2020, section 3.1).

    Args:
        weight: Its factor, at least 0.
        every: Steps from one penalty to the next, at least 1.

    Raises:
        RecipeError: An argument is out of its range.
    """

    player: ClassVar[str | None] = "discriminator"
    about: ClassVar[Sequence[Answers]] = JUDGED
    wants = ("discriminator",)
    differentiates: Literal["once", "twice", "forward"] = "twice"

    def __init__(self, weight: float, every: int) -> None:
        super().__init__()
        require(f"{type(self).__name__}.weight", weight >= 0, "a number of at least 0", weight)
        require(f"{type(self).__name__}.every", every >= 1, "a whole number of at least 1", every)
        self.weight, self.every = weight, every

    def due(self, scene: Scene) -> bool:
        """Return whether it is this step's turn."""
        return scene.step % self.every == 0


@final
class R1(Penalty):
    """γ/2 E[‖∇D(x)‖²] at real images (Mescheder et al. 2018, eq. 9).

    Args:
        weight: γ of at least 0.
        every: Steps from one penalty to the next; it is that many times as large.
    """

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    def forward(self, scene: Scene) -> Tensor:
        """Return the penalty."""
        return self.every * self.weight * gan.r1_penalty(partial(scene.score, "discriminator"), scene.real)


@final
class GradientPenalty(Penalty):
    """λ E[(‖∇D(x̂)‖ - 1)²] at images x̂ between real and generated ones (Gulrajani et al. 2017, eq. 3).

    Args:
        weight: λ of at least 0.
        every: Steps from one penalty to the next; it is that many times as large.
    """

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    def draws(self) -> Mapping[str, Draw]:
        """Return where between real and generated it looks."""
        return {"epsilon": Draw((), "uniform")}

    def forward(self, scene: Scene) -> Tensor:
        """Return the penalty."""
        score, epsilon = partial(scene.score, "discriminator"), scene.drawn["epsilon"]
        return self.every * self.weight * gan.gradient_penalty(score, scene.real, scene.fake.detach(), epsilon)

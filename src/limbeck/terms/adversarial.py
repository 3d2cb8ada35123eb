"""The two sides of a GAN: tell real from generated, and deceive (Goodfellow et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from torch import Tensor

from limbeck.errors import require
from limbeck.losses import gan
from limbeck.terms.base import Answers, Cast, Term
from limbeck.terms.game import JUDGED, Game, game_of, scores
from limbeck.terms.scene import Scene


@final
class RealFake(Term):
    """The adversarial loss of the discriminator; it says which game the method plays.

    Args:
        loss: "logistic" (Goodfellow et al. 2014), "hinge" (Lim & Ye 2017), or "wasserstein" (Arjovsky et al. 2017),
            which needs a `GradientPenalty`.

    Raises:
        RecipeError: None of these.
    """

    player: ClassVar[str | None] = "discriminator"
    about: ClassVar[Sequence[Answers]] = JUDGED
    wants = ("discriminator",)

    def __init__(self, loss: Game = "logistic") -> None:
        super().__init__()
        require("RealFake.loss", loss in gan.LOSSES, f"one of {', '.join(gan.LOSSES)}", loss)
        self.game: Game = loss

    def forward(self, scene: Scene) -> Tensor:
        """Return the loss of the scores of real and generated images."""
        return gan.LOSSES[self.game][0](*scores(scene))


@final
class Adversarial(Term):
    """The adversarial loss of the student: what it makes is to be taken for real.

    Args:
        loss: As in `RealFake`; null for the discriminator's own.

    Raises:
        RecipeError: None of these.
    """

    about: ClassVar[Sequence[Answers]] = JUDGED
    wants = ("discriminator",)

    def __init__(self, loss: Game | None = None) -> None:
        super().__init__()
        require("Adversarial.loss", loss in (None, *gan.LOSSES), f"one of {', '.join(gan.LOSSES)}", loss)
        self.loss = loss

    def join(self, cast: Cast) -> None:
        """Take over the discriminator's game."""
        self.loss = self.loss or game_of(cast.terms)

    def forward(self, scene: Scene) -> Tensor:
        """Return the loss of the scores of generated images, with gradient to the student."""
        assert self.loss is not None
        return gan.LOSSES[self.loss][1](scene.score("discriminator", scene.fake))

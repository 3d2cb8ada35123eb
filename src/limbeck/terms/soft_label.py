"""What the teacher's discriminator teaches the student's: its soft labels, on images and at its boundary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from limbeck.attacks.boundary import BoundarySearch
from limbeck.errors import RecipeError, require
from limbeck.losses import gan
from limbeck.losses.soft_label import soft_label
from limbeck.terms.base import Answers, Cast, Term
from limbeck.terms.game import game_of, scores
from limbeck.terms.scene import Scene

Calibration = tuple[float, float]


class _OfLogOdds(Term):
    """A term of scores that have to be log-odds."""

    player: ClassVar[str | None] = "discriminator"
    about: ClassVar[Sequence[Answers]] = ("images",)

    def __init__(self, temperature: float, calibration: Calibration | None) -> None:
        super().__init__()
        require(f"{type(self).__name__}.temperature", temperature > 0, "a number above 0", temperature)
        self.temperature, self.calibration = temperature, calibration

    def join(self, cast: Cast) -> None:
        """Refuse scores that are no log-odds."""
        game = game_of(cast.terms)
        if self.calibration is None and game != "logistic":
            raise RecipeError(
                f"soft labels need scores that are log-odds, and those of the {game} loss are not: use the logistic"
                " loss, or give calibration: [scale, offset] from limbeck.losses.calibration.calibrate"
            )

    def log_odds(self, score: Tensor) -> Tensor:
        """Return scores as log-odds."""
        scale, offset = self.calibration or (1.0, 0.0)
        return score if self.calibration is None else scale * score + offset


@final
class SoftLabel(_OfLogOdds):
    """α CE(hard) + (1 - α) T² KL(teacher ‖ student) of the discriminators, on real plus generated images.

    Both see the images alike (augmented). It contains the hard label: to use it alone, set `real_fake` to 0. Without
    a teacher it is the cross-entropy of the hard label.

    Args:
        alpha: α in [0, 1], the share of the hard label.
        temperature: T > 0.
        calibration: (scale, offset) of `losses.calibration.calibrate`, which make the scores of both discriminators
            log-odds; needed unless the loss is logistic.

    Raises:
        RecipeError: An argument is out of its range.
    """

    wants = ("discriminator",)

    def __init__(self, alpha: float = 0.5, temperature: float = 1.0, calibration: Calibration | None = None) -> None:
        super().__init__(temperature, calibration)
        require("SoftLabel.alpha", 0 <= alpha <= 1, "a number in [0, 1]", alpha)
        self.alpha = alpha
        self.has_teacher = False

    def join(self, cast: Cast) -> None:
        """Look for the teacher's discriminator.

        Raises:
            RecipeError: There is a teacher without one, or scores are no log-odds.
        """
        super().join(cast)
        self.has_teacher = cast.has("teacher_discriminator")
        if cast.has("teacher") and not self.has_teacher:
            raise RecipeError("SoftLabel needs the teacher's discriminator (teacher_discriminator), and there is none")

    def forward(self, scene: Scene) -> Tensor:
        """Return the loss of the scores of real and generated images."""
        real, fake = (self.log_odds(score) for score in scores(scene))
        if not self.has_teacher:
            return gan.logistic_discriminator(real, fake)
        with torch.no_grad():
            real_label = self.log_odds(scene.score("teacher_discriminator", scene.real))
            fake_label = self.log_odds(scene.score("teacher_discriminator", scene.fake))
        teach = partial(soft_label, alpha=self.alpha, temperature=self.temperature)
        return teach(real, real_label, real=True).mean() + teach(fake, fake_label, real=False).mean()


@final
class BoundarySoftLabel(_OfLogOdds):
    """T² KL(teacher ‖ student) of the discriminators on images between which the teacher's cannot decide.

    They are searched from real and generated ones; one from which the boundary was not reached counts as 0.

    Args:
        search: Finds them, with the threshold "half".
        temperature: T > 0.
        calibration: As in `SoftLabel`.
    """

    wants = ("discriminator", "teacher_discriminator")

    def __init__(
        self, search: BoundarySearch, temperature: float = 1.0, calibration: Calibration | None = None
    ) -> None:
        super().__init__(temperature, calibration)
        self.search = search

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean divergence at the teacher's boundary."""
        pairs = zip(*(scene.shown("teacher_discriminator", x) for x in (scene.real, scene.fake.detach())), strict=True)
        images, *condition = (torch.cat(pair) for pair in pairs)
        critic = scene.stage.network("teacher_discriminator")
        samples, reached = self.search(lambda x: self.log_odds(critic(x, *condition)), images)
        with torch.no_grad():
            label = self.log_odds(critic(samples, *condition).flatten())
        own = zip(*(scene.shown("discriminator", x) for x in (scene.real, scene.fake.detach())), strict=True)
        _, *condition = (torch.cat(pair) for pair in own)
        score = self.log_odds(scene.stage.network("discriminator")(samples, *condition).flatten())
        return (soft_label(score, label, alpha=0.0, temperature=self.temperature, real=True) * reached).mean()

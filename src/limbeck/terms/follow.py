"""What a student follows of its teacher: its logits, by any logit loss, and its features, by any feature loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

from torch import Tensor

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.losses.gather import masked_mean
from limbeck.losses.segmentation import pixel_rows
from limbeck.terms.base import Answers, Cast, Term
from limbeck.terms.scene import Scene
from limbeck.types import VOID, Draw


@final
class FollowLogits(Term):
    """How the student's logits follow the teacher's; of a segmenter those of every pixel.

    The survey's α CE + (1 - α) KL is this with `Kd` beside `CrossEntropy`, α and 1 - α their weights. Void pixels do
    not count where the loss needs their class.

    Args:
        loss: Any loss of logits, such as `Kd`.
    """

    about: ClassVar[Sequence[Answers]] = ("logits", "logits of pixels")
    wants = ("teacher",)

    def __init__(self, loss: LogitLoss) -> None:
        super().__init__()
        self.loss = loss
        self.couples = loss.couples
        self.of_pixels = False

    def join(self, cast: Cast) -> None:
        """Note whether the logits are those of pixels."""
        self.of_pixels = cast.answers == "logits of pixels"

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean of the loss."""
        student, teacher, label = scene.output(self.who), scene.teacher_output, scene.truth
        if not self.of_pixels:
            found: Tensor = self.loss(student, teacher, label)
            return found.mean()
        assert label is not None
        label = label.flatten()
        known = label != VOID
        value: Tensor = self.loss(pixel_rows(student), pixel_rows(teacher), label.where(known, 0))
        return masked_mean(value, known) if self.loss.needs_label and value.ndim else value.mean()


def as_term(given: Term | LogitLoss | FeatureLoss) -> Term:
    """Return a loss of logits or features as a term, and a term as it is."""
    if isinstance(given, LogitLoss):
        return FollowLogits(given)
    if isinstance(given, FeatureLoss):
        return FollowFeatures(given)
    require("terms", isinstance(given, Term), "a term, or a loss of logits or features", type(given).__name__)
    return given


@final
class FollowFeatures(Term):
    """How the student's features, or the relations of its samples, follow the teacher's.

    Args:
        loss: Any loss of features, such as `Hint`, `Rkd` or `FeatureMatching`, with the module paths it compares.
    """

    wants = ("teacher",)

    def __init__(self, loss: FeatureLoss) -> None:
        super().__init__()
        self.loss = loss
        self.couples = loss.couples

    def paths(self) -> Mapping[str, Sequence[str]]:
        """Return the loss's paths."""
        return {"student": list(self.loss.paths), "teacher": list(self.loss.paths.values())}

    def join(self, cast: Cast) -> None:
        """Let the loss make what it owns for the shapes of the features.

        Raises:
            RecipeError: It needs the class of every pixel, and there is none.
        """
        kind = type(self.loss).__name__
        told = not self.loss.needs_label or cast.answers == "logits of pixels"
        self.needs = ("index",) if self.loss.needs_index else ()
        require(kind, told, "a student that tells the class of every pixel, as masks are compared", cast.answers)
        own = self.paths()
        self.loss.fit_to(cast.shapes("student", own["student"]), cast.shapes("teacher", own["teacher"]))

    def draws(self) -> Mapping[str, Draw]:
        """Return what the loss draws."""
        return self.loss.draws()

    def forward(self, scene: Scene) -> Tensor:
        """Return the value of the loss."""
        own = self.paths()
        mine, goal = scene.features("student", own["student"]), scene.features("teacher", own["teacher"])
        value: Tensor = self.loss(mine, goal, scene.truth, scene.batch.index, scene.drawn)
        return value

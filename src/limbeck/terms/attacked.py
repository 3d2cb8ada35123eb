"""A student that is attacked while it learns: what it says to x', the image x as its method's attack changed it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, final

from torch import Tensor

from limbeck.errors import require
from limbeck.losses.kd import cross_entropy, softened_kl
from limbeck.losses.tensors import kl_divergence, positive, precise
from limbeck.networks.handling.modes import evaluating
from limbeck.terms.base import Answers, Cast, SampleTerm
from limbeck.terms.scene import Scene


class AttackedScene(Scene):
    """A step in which the student is attacked. While the attack searches, the student is in evaluation mode."""

    @property
    def there(self) -> Scene:
        """The same step at x'; networks say there what they say to the attacked images."""
        return self.once("attacked", self._attack)

    @property
    def robust(self) -> Tensor:
        """S(x')."""
        return self.there.student_output

    @property
    def before(self) -> Tensor:
        """S(x) in evaluation mode, detached."""
        return self.once("before", self._before)

    def _attack(self) -> Scene:
        with evaluating(self.stage.network("student")):
            image = self.stage.attacked(self)  # type: ignore[attr-defined]  # AdversarialMethod has it
        return self.elsewhere(image=image)

    def _before(self) -> Tensor:
        student = self.stage.network("student")
        with evaluating(student):
            return self.stage.call(student, self.batch).detach()


class AttackedTerm(SampleTerm):
    """A term of a method whose student is attacked."""

    about: ClassVar[Sequence[Answers]] = ("logits",)
    scene: ClassVar[type[Scene]] = AttackedScene

    def each(self, scene: Scene) -> Tensor:
        """Return the loss of each image (N,)."""
        assert isinstance(scene, AttackedScene)  # as `scene` says
        return self.at(scene)

    @abstractmethod
    def at(self, scene: AttackedScene) -> Tensor:
        """Return the loss of each image (N,)."""


@final
class SoftAnswers(AttackedTerm):
    """T² KL(T(x) ‖ S(·)): the student is to say what the teacher says undisturbed, attacked or not.

    ARD (Goldblum et al. 2020, arXiv:1905.09747, eq. 3) and RSLAD (Zi et al. 2021, arXiv:2108.07969, eq. 8). In place
    of a teacher that is not there, the label itself is the soft label: then it is the cross-entropy.

    Args:
        at: "attacked" for S(x'), or "clean" for S(x).
        temperature: T > 0.

    Raises:
        RecipeError: An argument is out of its range.
    """

    def __init__(self, at: Literal["attacked", "clean"] = "attacked", temperature: float = 1.0) -> None:
        super().__init__()
        require("SoftAnswers.at", at in ("attacked", "clean"), "attacked or clean", at)
        positive(temperature, "SoftAnswers.temperature")
        self.place, self.temperature, self.has_teacher = at, temperature, False

    def join(self, cast: Cast) -> None:
        """Look for a teacher."""
        self.has_teacher = cast.has("teacher")

    def at(self, scene: AttackedScene) -> Tensor:
        """Return the divergence of each image (N,)."""
        logits = scene.robust if self.place == "attacked" else scene.student_output
        if not self.has_teacher:
            return cross_entropy(logits, scene.batch.need("label", "SoftAnswers"))
        return softened_kl(logits, scene.teacher_output, self.temperature)


@final
class Stability(AttackedTerm):
    """KL(S(x) ‖ S(x')), with gradient to both: how far the attack carries the answer (Zhang et al. 2019, eq. 5).

    With a power it is the introspection of IAD (Zhu et al. 2022, arXiv:2106.04928): (1 - T(x')_y^β) KL(S(x) ‖ S(x')).
    The less sure the teacher is of an attacked image, the more the student holds on to its own answer before.

    Args:
        power: β of at least 0; null for 1 in place of the factor, so that no teacher is asked.

    Raises:
        RecipeError: `power` is below 0.
    """

    def __init__(self, power: float | None = None) -> None:
        super().__init__()
        require("Stability.power", power is None or power >= 0, "a number of at least 0", power)
        self.power = power
        self.wants = () if power is None else ("teacher",)

    def at(self, scene: AttackedScene) -> Tensor:
        """Return the divergence of each image (N,)."""
        moved = kl_divergence(precise(scene.student_output), precise(scene.robust))
        return moved if self.power is None else (1 - self._trust(scene, self.power)) * moved

    @staticmethod
    def _trust(scene: AttackedScene, power: float) -> Tensor:
        """Return T(x')_y^power, (N,) in [0, 1]: how sure the teacher is of the label after the attack."""
        label = scene.batch.need("label", "Stability")
        return precise(scene.there.teacher_output.detach()).softmax(1).gather(1, label[:, None]).squeeze(1) ** power

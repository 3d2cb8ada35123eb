"""A student that is attacked while it learns: adversarial training, with a teacher or without.

x' is the image x as an attack changes it to make a goal large; S and T are student and teacher. While the attack
searches for x', the student is in evaluation mode, as in the published code of TRADES and RSLAD; its losses are then
computed in training mode. In place of a teacher that is not there, the label itself is the soft label: then ARD is
plain adversarial training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, final

from torch import Tensor, nn

from limbeck.attacks import objectives
from limbeck.attacks.base import Attack
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import Strength
from limbeck.losses.gather import gathered
from limbeck.methods.base import Default, Method, Terms
from limbeck.terms.attacked import AttackedScene
from limbeck.terms.base import Answers
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.terms.scene import Scene
from limbeck.terms.under_attack import UnderAttack
from limbeck.types import Batch, Draw, Update


class AdversarialMethod(Method):
    """One player, the student, that is attacked in every step. Subclasses say with which goal.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: Another one with the same classes, or None.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        attack: What changes the images; null for `Pgd()`, ten steps within 16/255 (the literature's 8/255).
        strength: Replaces the attack's own radius in every step: fixed, scheduled, or steered by the student's losses
            on the label before and after the attack. To steer it, the student sees the clean images in every step.

    Raises:
        RecipeError: The student does not say which images it takes, or is its own teacher; the strength is no change
            of an image; or a term cannot work.
    """

    answers: ClassVar[Answers] = "logits"
    scene: ClassVar[type[Scene]] = AttackedScene
    needs: ClassVar[tuple[str, ...]] = ("image", "label")

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        terms: Terms | None = None,
        attack: Attack | None = None,
        strength: Strength | None = None,
    ) -> None:
        super().__init__()
        self.attack = Pgd() if attack is None else attack
        self.strength = strength
        if strength is not None:
            self.attack.check_strength(strength.most)
        self.cast({"student": student}, {"teacher": teacher}, terms)
        self.input()  # an attack has to know the shape of the images

    def teacher_paths(self) -> Sequence[str]:
        """Return the teacher's output on the clean images, and the features that are compared there."""
        return ["", *self.taps("teacher")] if self.has("teacher") else []

    def draws(self) -> Mapping[str, Draw]:
        """Return what the terms and the attack draw."""
        return {**super().draws(), **self.attack.draws(self.input()[1])}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        scene = self.enter(batch, step)
        assert isinstance(scene, AttackedScene)
        if self.strength is not None:
            truth = scene.truth
            assert truth is not None  # as `needs` says
            clean, robust = (objectives.cross_entropy(z.detach(), truth) for z in (scene.student_output, scene.robust))
            self.strength.observe(gathered(clean).mean(), gathered(robust).mean())
        yield self.update_of("student", scene)

    def attacked(self, scene: AttackedScene) -> Tensor:
        """Return x': the images as the attack changes them to make the goal large."""
        strength = None if self.strength is None else self.strength.value(scene.step)
        batch, student = scene.batch, self.student
        image = batch.need("image", type(self).__name__)
        return self.attack(lambda x: self.goal(scene, student(x)), image, batch.drawn, strength)

    @abstractmethod
    def goal(self, scene: AttackedScene, logits: Tensor) -> Tensor:
        """Return what the attack makes large (N,), given the student's logits (N, K, ...) on changed images."""


def misclassified(scene: AttackedScene, logits: Tensor) -> Tensor:
    """Return the cross-entropy with the true class (N,), the mean over pixels if it is theirs: most attacks' goal."""
    truth = scene.truth
    assert truth is not None  # as the method's `needs` says
    return objectives.cross_entropy(logits, truth)


@final
class AdversarialTraining(AdversarialMethod):
    """Plain adversarial training, without any teacher (Madry et al. 2018, arXiv:1706.06083, eq. 2.1).

    The attack makes the cross-entropy large. By default:

    * `student.robust`: CE(S(x'), y) (`UnderAttack` around a `CrossEntropy`).
    * `student.cross_entropy`: CE(S(x), y) (`CrossEntropy`), off unless weighed.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "student.robust": Default(lambda: UnderAttack(CrossEntropy())),
        "student.cross_entropy": Default(CrossEntropy, 0.0),
    }
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "label_smoothing": "student.robust: {class_path: UnderAttack, init_args: {term: {class_path: CrossEntropy,"
        " init_args: {label_smoothing: ...}}}}",
    }

    def __init__(
        self,
        student: nn.Module,
        *,
        terms: Terms | None = None,
        attack: Attack | None = None,
        strength: Strength | None = None,
    ) -> None:
        super().__init__(student, terms=terms, attack=attack, strength=strength)

    def goal(self, scene: AttackedScene, logits: Tensor) -> Tensor:
        """Return the cross-entropy with the label."""
        return misclassified(scene, logits)

"""A segmenter that is attacked while it learns, with a teacher or without (Xu et al. 2021; Goldblum et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

from torch import Tensor, nn

from limbeck.attacks.base import Attack
from limbeck.attacks.strength import Strength
from limbeck.errors import require
from limbeck.losses.kd import Kd
from limbeck.methods.adversarial import AdversarialMethod, misclassified
from limbeck.methods.base import Default, Terms
from limbeck.methods.of_pixels import OfPixels
from limbeck.terms.attacked import AttackedScene
from limbeck.terms.follow import FollowLogits
from limbeck.terms.pixel_cross_entropy import PixelCrossEntropy
from limbeck.terms.under_attack import UnderAttack
from limbeck.types import Batch, Update


@final
class AdversarialSegment(OfPixels, AdversarialMethod):
    """One player: x' is the image x as an attack changes it to make the mean cross-entropy of its pixels large.

    S and T are student and teacher. While the attack searches for x', the student is in evaluation mode. By default:

    * `student.cross_entropy`: CE(S(x), y), of every pixel that is not void (`PixelCrossEntropy`).
    * `student.robust`: CE(S(x'), y) (`UnderAttack` around the same). Half of each is the paper's training (Xu et al.
      2021, arXiv:2003.06555).
    * `student.follow`: KL(T(x) ‖ S(x')) of every pixel (`UnderAttack` around `FollowLogits`): attacked, the student is
      to say what the teacher says undisturbed (ARD, Goldblum et al. 2020, arXiv:1905.09747, eq. 3). Only with a
      teacher.

    Further terms are at hand, as in `Segment`, of the student undisturbed or, in an `UnderAttack`, at x'.

    Args:
        student: Takes images (N, C, H, W), gives logits (N, K, H, W), and states its `channels`.
        teacher: Another network with the same classes.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        size: Height and width of the training images; one number for squares.
        attack: What changes the images; null for `Pgd()`, ten steps within 16/255 (the literature's 8/255).
        strength: Replaces the attack's own radius in every step: fixed, scheduled, or steered by the student's losses
            on the true masks before and after the attack. To steer it, the student sees the clean images in every step.

    Raises:
        RecipeError: The student does not say which images it takes, or is its own teacher, or a term cannot work with
            these networks; while training, images of another size.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "student.cross_entropy": Default(PixelCrossEntropy, 0.5),
        "student.robust": Default(lambda: UnderAttack(PixelCrossEntropy()), 0.5),
        "student.follow": Default(lambda: UnderAttack(FollowLogits(Kd(1.0))), 0.5),
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        size: int | tuple[int, int],
        terms: Terms | None = None,
        attack: Attack | None = None,
        strength: Strength | None = None,
    ) -> None:
        self.shown_at(size)  # first, as terms join in the constructor of the family
        super().__init__(student, teacher, terms=terms, attack=attack, strength=strength)

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        found, expected = tuple(batch.need("image", "AdversarialSegment").shape[1:]), self.input()[1]
        require("AdversarialSegment.size", found == expected, f"the images' {found}", expected)
        return super().updates(batch, step)

    def goal(self, scene: AttackedScene, logits: Tensor) -> Tensor:
        """Return the mean cross-entropy of each image's pixels."""
        return misclassified(scene, logits)

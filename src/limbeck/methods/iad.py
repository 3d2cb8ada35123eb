"""Introspective adversarial distillation (Zhu et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, final

from torch import Tensor

from limbeck.methods.adversarial import AdversarialMethod, misclassified
from limbeck.methods.base import Default
from limbeck.terms.attacked import AttackedScene, SoftAnswers, Stability
from limbeck.terms.cross_entropy import CrossEntropy


@final
class Iad(AdversarialMethod):
    """Introspective adversarial distillation (Zhu et al. 2022, arXiv:2106.04928).

    The less sure the teacher is of an attacked image, the more the student holds on to its own answer before the
    attack. This is the paper's IAD-I as its authors' code has it: eq. 4 weighs the teacher's term by T(x')_y^β as well,
    the code does not. The attack makes the cross-entropy large. By default:

    * `student.cross_entropy`: CE(S(x), y) (`CrossEntropy`), off as in the code.
    * `student.robust`: τ² KL(T_τ(x) ‖ S_τ(x')) (`SoftAnswers`).
    * `student.introspection`: (1 - T(x')_y^β) KL(S(x) ‖ S(x')), β the paper's 0.1 (`Stability` with a power); the paper
      switches it on after 60 of 200 epochs, `{weight: 1, from: 0.3}`. Without a teacher it is not there.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: A robust one with the same classes.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "student.cross_entropy": Default(CrossEntropy, 0.0),
        "student.robust": Default(SoftAnswers),
        "student.introspection": Default(partial(Stability, 0.1)),
    }
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "temperature": "student.robust: {class_path: SoftAnswers, init_args: {temperature: ...}}",
        "power": "student.introspection: {class_path: Stability, init_args: {power: ...}}",
    }

    def goal(self, scene: AttackedScene, logits: Tensor) -> Tensor:
        """Return the cross-entropy with the label."""
        return misclassified(scene, logits)

"""Robust soft label adversarial distillation (Zi et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, final

from torch import Tensor

from limbeck.attacks import objectives
from limbeck.methods.adversarial import AdversarialMethod, misclassified
from limbeck.methods.base import Default
from limbeck.terms.attacked import AttackedScene, SoftAnswers


@final
class Rslad(AdversarialMethod):
    """Robust soft label adversarial distillation (Zi et al. 2021, arXiv:2108.07969, eq. 7 and 8).

    No label is used: the attack carries the student away from the teacher's answer on x, and the student follows that
    answer on x and on x'. By default:

    * `student.clean`: KL(T(x) ‖ S(x)) (`SoftAnswers` at "clean"); 1 - α = 1/6.
    * `student.robust`: KL(T(x) ‖ S(x')) (`SoftAnswers`); α = 5/6.

    The divergence is summed over the K classes. The authors' code takes their mean: with its learning rate, divide the
    weights by K.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: A robust one with the same classes.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "student.clean": Default(partial(SoftAnswers, "clean"), 1 / 6),
        "student.robust": Default(SoftAnswers, 5 / 6),
    }

    def goal(self, scene: AttackedScene, logits: Tensor) -> Tensor:
        """Return the divergence from the teacher's answer on the clean image."""
        if not self.has("teacher"):
            return misclassified(scene, logits)
        return objectives.kl_divergence(logits, scene.teacher_output)

"""Adversarially robust distillation (Goldblum et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, final

from torch import Tensor

from limbeck.methods.adversarial import AdversarialMethod, misclassified
from limbeck.methods.base import Default
from limbeck.terms.attacked import AttackedScene, SoftAnswers
from limbeck.terms.cross_entropy import CrossEntropy


@final
class Ard(AdversarialMethod):
    """Adversarially robust distillation (Goldblum et al. 2020, arXiv:1905.09747, eq. 3).

    (1 - α) CE(S(x), y) + α τ² KL(T_τ(x) ‖ S_τ(x')): the student, attacked, is to say what the teacher says undisturbed.
    The attack makes the cross-entropy large. The weights are (1 - α) and α; by default α is 1, as in the paper on
    CIFAR-10, and τ its 30. By default:

    * `student.cross_entropy`: CE(S(x), y) (`CrossEntropy`), off unless weighed.
    * `student.robust`: τ² KL(T_τ(x) ‖ S_τ(x')) (`SoftAnswers`).

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
        "student.cross_entropy": Default(CrossEntropy, 0.0),
        "student.robust": Default(partial(SoftAnswers, temperature=30.0)),
    }
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "temperature": "student.robust: {class_path: SoftAnswers, init_args: {temperature: ...}}"
    }

    def goal(self, scene: AttackedScene, logits: Tensor) -> Tensor:
        """Return the cross-entropy with the label."""
        return misclassified(scene, logits)

"""Adversarial training that trades accuracy against stability (Zhang et al. 2019, TRADES)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from torch import Tensor, nn

from limbeck.attacks import objectives
from limbeck.attacks.base import Attack
from limbeck.attacks.strength import Strength
from limbeck.methods.adversarial import AdversarialMethod
from limbeck.methods.base import Default, Terms
from limbeck.terms.attacked import AttackedScene, Stability
from limbeck.terms.cross_entropy import CrossEntropy


@final
class Trades(AdversarialMethod):
    """Adversarial training without any teacher that trades accuracy against stability (Zhang et al. 2019).

    arXiv:1901.08573, eq. 5 and algorithm 1. The attack carries the student's answer away from its own on x, where the
    gradient is 0: it has to start at random. By default:

    * `student.cross_entropy`: CE(S(x), y) (`CrossEntropy`).
    * `student.robust`: KL(S(x) ‖ S(x')), with gradient to both (`Stability`); its weight 6 is the paper's 1/λ.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "student.cross_entropy": Default(CrossEntropy),
        "student.robust": Default(Stability, 6.0),
    }
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "label_smoothing": "student.cross_entropy: {class_path: CrossEntropy, init_args: {label_smoothing: ...}}",
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
        """Return KL(S(x) ‖ S(x'))."""
        return objectives.kl_divergence(logits, scene.before)

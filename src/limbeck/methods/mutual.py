"""Two classifiers that learn together and from each other (Zhang et al. 2018, "Deep Mutual Learning")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

from torch import nn

from limbeck.methods.base import Default, Method, Terms
from limbeck.terms.base import Answers
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.terms.mutual import MutualLearning
from limbeck.types import Batch, Update


@final
class Mutual(Method):
    """Two players, each the other's teacher: there is none that was trained before.

    Each network minimises L_C + D_KL(other ‖ own) (eqs. 1 to 6). As in algorithm 1 the peer learns from the answers
    that the student gives after it has moved. The control arm is `method: Supervised`. By default:

    * `student.cross_entropy`, `peer.cross_entropy`: cross-entropy with the label, in nats (`CrossEntropy`).
    * `student.mutual`, `peer.mutual`: KL divergence from the other's probabilities, in nats (`MutualLearning`).

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K): the one that is kept.
        peer: Another one, of any architecture.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.

    Raises:
        RecipeError: The two are the same network, or a term cannot work with them.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "student.cross_entropy": Default(CrossEntropy),
        "student.mutual": Default(MutualLearning),
        "peer.cross_entropy": Default(CrossEntropy),
        "peer.mutual": Default(MutualLearning),
    }
    answers: ClassVar[Answers] = "logits"
    needs: ClassVar[tuple[str, ...]] = ("image", "label")

    def __init__(self, student: nn.Module, peer: nn.Module, *, terms: Terms | None = None) -> None:
        super().__init__()
        self.cast({"student": student, "peer": peer}, {}, terms)

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update, then the peer's."""
        for player in ("student", "peer"):
            yield self.update_of(player, self.enter(batch, step, learners=(player,)))

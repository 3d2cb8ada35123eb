"""Two classifiers that learn together and from each other (Zhang et al. 2018, "Deep Mutual Learning")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.kd import softened_kl
from limbeck.losses.tensors import precise
from limbeck.methods.legacy import Legacy
from limbeck.types import Batch, Update


@final
class Mutual(Legacy):
    """Two players, each the other's teacher: there is none that was trained before.

    Each network minimises L_C + D_KL(other ‖ own) (eqs. 1 to 6). As in algorithm 1 the peer learns from the answers
    that the student gives after it has moved. The control arm is `method: Supervised`.

    * `student.cross_entropy`, `peer.cross_entropy`: cross-entropy with the label, in nats.
    * `student.mutual`, `peer.mutual`: KL divergence from the other's probabilities, in nats.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K): the one that is kept.
        peer: Another one, of any architecture.

    Raises:
        RecipeError: The two are the same network, or the data has no labels.
    """

    weights: ClassVar[Mapping[str, float]] = {
        "student.cross_entropy": 1.0,
        "student.mutual": 1.0,
        "peer.cross_entropy": 1.0,
        "peer.mutual": 1.0,
    }

    def __init__(self, student: nn.Module, peer: nn.Module) -> None:
        super().__init__()
        if peer is student:
            raise RecipeError("mutual.peer: expected another network than the student, found the same")
        self.student, self.peer = student, peer

    def players(self) -> Mapping[str, nn.Module]:
        """Return both networks."""
        return {"student": self.student, "peer": self.peer}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update, then the peer's."""
        if batch.image is None or batch.label is None:
            raise RecipeError("mutual: expected data with images and labels, found none; choose a labelled set")
        for player, own, other in (("student", self.student, self.peer), ("peer", self.peer, self.student)):
            logits = own(batch.image)
            with torch.no_grad():
                answer = other(batch.image)
            learn: Mapping[str, Callable[[], Tensor]] = {
                "cross_entropy": partial(_cross_entropy, logits, batch.label),
                "mutual": partial(_follow, logits, answer),
            }
            yield Update(player, learn)


def _cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(precise(logits), label)


def _follow(logits: Tensor, answer: Tensor) -> Tensor:
    return softened_kl(logits, answer, 1.0).mean()

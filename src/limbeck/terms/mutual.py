"""Two networks that are each other's teacher (Zhang et al. 2018, "Deep Mutual Learning")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from torch import Tensor

from limbeck.losses.kd import softened_kl
from limbeck.terms.base import Answers, SampleTerm
from limbeck.terms.scene import Scene


@final
class MutualLearning(SampleTerm):
    """KL divergence of a player's probabilities from the other one's, in nats (eqs. 2 and 5)."""

    player: ClassVar[str | None] = None
    about: ClassVar[Sequence[Answers]] = ("logits",)
    wants = ("peer",)

    def each(self, scene: Scene) -> Tensor:
        """Return the divergence of each image (N,)."""
        other = "student" if self.who == "peer" else "peer"
        return softened_kl(scene.output(self.who), scene.output(other), 1.0)

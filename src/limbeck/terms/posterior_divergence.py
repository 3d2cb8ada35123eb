"""The teacher's posterior as a soft label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, final

from torch import Tensor

from limbeck.losses.vae import kl_between, kl_through_map
from limbeck.terms.base import Answers, SampleTerm
from limbeck.terms.scene import Scene
from limbeck.terms.vae_scene import VaeScene


@final
class PosteriorDivergence(SampleTerm):
    """KL(q_T(z | x) ‖ q_S(z | x)) by value of the student's latent: the teacher's mean and variance as a soft label.

    Where the student's latent is smaller, the teacher's is taken through the map of the method (`LatentMap`).
    """

    about: ClassVar[Sequence[Answers]] = ("images",)
    scene: ClassVar[type[Scene]] = VaeScene
    wants = ("teacher",)

    def each(self, scene: Scene) -> Tensor:
        """Return the divergence of each image (N,), in [0, ∞) but for rounding."""
        assert isinstance(scene, VaeScene) and scene.stage.map is not None
        mapped, goal, mine = scene.stage.map, scene.posterior("teacher"), scene.posterior("student")
        found = kl_between(*goal, *mine) if mapped.identity else kl_through_map(mapped.basis, *goal, *mine)
        return found / math.prod(mine.mean.shape[1:])

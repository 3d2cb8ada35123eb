"""Weights that the recipe gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from limbeck.weighting.base import Weighting


class Scheduled(Weighting):
    """Adds the losses up, each times its own weight, constant or by a `Schedule`.

    Args:
        weights: Weights by "player.loss".
        defaults: Every loss that the method may yield with its default weight (`Method.losses`).

    Raises:
        RecipeError: A name in `weights` that is not in `defaults`, or a weight below 0.
    """

    def combine(self, losses: Mapping[str, Tensor], progress: float, shared: Sequence[Parameter]) -> Tensor:
        """Return the weighted sum of the losses."""
        if len(losses) == 1:
            ((name, only),) = losses.items()
            weight = self.weight(name, progress)
            return only if weight == 1 else weight * only
        return torch.stack([self.weight(name, progress) * loss for name, loss in losses.items()]).sum()

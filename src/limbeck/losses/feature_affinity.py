"""Feature affinity (FAKD): which places of an image look alike to a network (He et al. 2020, ICIP)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import place_cosines, pooled_alike, same_shape


def feature_affinity(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean|A_s - A_t| of each sample (N,), in [0, 2] (He et al. 2020, eq. 2 to 4).

    A = F̂ᵀ F̂ (HW, HW), where F̂ (C, HW) holds the features of every place, of length 1: the cosines between places.
    The number of channels may differ, so nothing has to be learnt to compare two networks.

    Args:
        student: (N, C, H, W).
        teacher: (N, C', H', W'); where height and width differ, both are average-pooled to the smaller.

    Raises:
        RecipeError: The numbers of samples differ.
    """
    mine, goal = map(place_cosines, pooled_alike(student, teacher))
    same_shape(mine, goal, "feature_affinity")
    return (mine - goal).abs().mean((1, 2))


@final
class FeatureAffinity(FeatureLoss):
    """The student's places are to be as alike as the teacher's (FAKD, He et al. 2020, eq. 1).

    The loss is the mean over pairs of `feature_affinity`, averaged over samples. It takes (HW)² numbers a sample: use
    it on small images.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Check that all features are maps."""
        pairs(self, student, teacher, "maps")

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the mean over pairs."""
        each = zip(student, teacher, strict=True)
        return torch.stack([feature_affinity(s, t).mean() for s, t in each]).mean()

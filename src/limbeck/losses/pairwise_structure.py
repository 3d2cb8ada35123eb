"""Pair-wise distillation: which parts of an image look alike to a network (SKD, Liu et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import place_cosines, pooled_alike, same_shape


def pairwise_structure(student: Tensor, teacher: Tensor, pool: float = 0.5) -> Tensor:
    """Return mean (A_s - A_t)² of each sample (N,), in [0, 4] (Liu et al. 2020, arXiv:1903.04197, eq. 2).

    A is the affinity of the nodes of an image: a_ij = f_iᵀ f_j / (‖f_i‖ ‖f_j‖) (eq. 3), where a node f_i stands for a
    rectangle of places. The number of channels may differ, so nothing has to be learnt to compare two networks.

    The paper averages the features of a rectangle, and can leave distant nodes out; its code takes the maximum of each
    channel, and all nodes, and so does this. The code also holds the lengths ‖f‖ fixed when it differentiates; here
    the gradient is that of the formula.

    Args:
        student: (N, C, H, W).
        teacher: (N, C', H', W'); where height and width differ, both are average-pooled to the smaller.
        pool: Height and width of a rectangle, as a share of the map's in (0, 1], rounded down, at least one place;
            what is left at the lower and right side makes smaller ones.

    Raises:
        RecipeError: The numbers of samples differ.
    """
    mine, goal = (place_cosines(_nodes(features, pool)) for features in pooled_alike(student, teacher))
    same_shape(mine, goal, "pairwise_structure")
    return (mine - goal).square().mean((1, 2))


def _nodes(features: Tensor, pool: float) -> Tensor:
    height, width = (max(1, int(pool * places)) for places in features.shape[2:])
    return F.max_pool2d(features, (height, width), ceil_mode=True)


@final
class PairwiseStructure(FeatureLoss):
    """The parts of an image are to be as alike for the student as for the teacher (SKD, Liu et al. 2020, eq. 2).

    It owns nothing. The loss is the sum over pairs of `pairwise_structure`, averaged over samples.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}; maps only.
        pool: Height and width of the parts, as a share of the map's in (0, 1]; the code's half makes 4 to 9 parts.
            The loss takes the square of their number for each sample.

    Raises:
        RecipeError: `pool` is out of its range.
    """

    def __init__(self, paths: Mapping[str, str], pool: float = 0.5) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("PairwiseStructure.pool", 0 < pool <= 1, "a share in (0, 1]", pool)
        self.pool = pool

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
        """Return the sum over pairs."""
        each = zip(student, teacher, strict=True)
        return torch.stack([pairwise_structure(s, t, self.pool).mean() for s, t in each]).sum()

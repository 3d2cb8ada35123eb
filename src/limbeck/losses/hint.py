"""Hints: a layer of the student predicts a layer of the teacher through a regressor (Romero et al. 2015, FitNets)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import pointwise, pooled_alike, precise, same_shape


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean (u - r)² of each sample (N,), in [0, ∞) (Romero et al. 2015, eq. 3).

    u is the teacher's hint layer, r the regression of the student's guided layer. The paper's eq. 3 is ½ Σ (u - r)².
    The code with which later papers measured it (that of Tian et al. 2020) takes the mean, so that a weight means the
    same for every layer; this follows it.

    Args:
        student: (N, C, H, W) or (N, D), after the regressor.
        teacher: The same width; where height and width differ, both are average-pooled to the smaller.

    Raises:
        RecipeError: The widths differ.
    """
    student, teacher = pooled_alike(student, teacher)
    same_shape(student, teacher, "hint")
    return (student - teacher).square().flatten(1).mean(1)


@final
class Hint(FeatureLoss):
    """Regress the teacher's features from the student's by L2 (FitNets, Romero et al. 2015, eq. 3).

    Each pair owns a regressor: a 1x1 convolution, or a linear layer for vectors. (The paper's is a convolution as
    large as the difference in size asks for; here sizes are made equal by average pooling to the smaller.) The loss
    is the sum over pairs of `hint`, averaged over samples. In the paper it initialises the lower half of the student
    before distillation; here it is a term like any other, and a schedule of its weight gives the two stages.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        self.regressors = nn.ModuleList()

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make a regressor for each pair: two maps, or two vectors."""
        shapes = pairs(self, student, teacher, "alike")
        self.regressors = nn.ModuleList(pointwise(mine, mine[0], goal[0]) for mine, goal in shapes)

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs."""
        triples = zip(self.regressors, student, teacher, strict=True)
        return torch.stack([hint(regress(precise(s)), t).mean() for regress, s, t in triples]).sum()

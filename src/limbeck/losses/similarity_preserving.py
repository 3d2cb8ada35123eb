"""Similarity-preserving distillation: images alike for the teacher are alike for the student (Tung & Mori 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from limbeck.losses.base import FeatureLoss, check_paths
from limbeck.losses.gather import gathered
from limbeck.losses.tensors import full_precision, precise, related, same_shape, unit


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1/N² ‖G_T - G_S‖²_F, a scalar in [0, 4/N] (Tung & Mori 2019, section 3).

    G is Q Qᵀ with every row divided by its length, Q the flattened features. Couples the batch.

    Args:
        student: (N, ...).
        teacher: (N, ...), of any other shape.

    Raises:
        RecipeError: The numbers of samples differ.
    """
    mine, goal = _similarity(student), _similarity(teacher)
    same_shape(mine, goal, "similarity preserving")
    related(mine, "similarity preserving")
    return (goal - mine).square().mean()


def _similarity(features: Tensor) -> Tensor:
    rows = precise(features).flatten(1)
    with full_precision(rows):
        return unit(rows @ rows.T)


@final
class SimilarityPreserving(FeatureLoss):
    """Match the similarities of all pairs of samples of a batch (Tung & Mori 2019, section 3).

    It owns nothing and takes features of any shapes. The loss is the sum over pairs of layers of
    `similarity_preserving`. It couples the batch, over all processes; the paper weighs it by 3000.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
    """

    couples = True

    def __init__(self, paths: Mapping[str, str]) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs of layers."""
        terms = [similarity_preserving(gathered(s), gathered(t)) for s, t in zip(student, teacher, strict=True)]
        return torch.stack(terms).sum()

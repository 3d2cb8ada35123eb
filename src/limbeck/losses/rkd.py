"""Relational knowledge distillation: the distances and angles between samples (Park et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, check_paths
from limbeck.losses.gather import gathered
from limbeck.losses.tensors import embedding, full_precision, related, same_shape, unit


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1/N² Σ_ij h(ψ(s_i, s_j) - ψ(t_i, t_j)), a scalar in [0, ∞) (RKD-D, Park et al. 2019, section 3.2.1).

    ψ(x, y) = ‖x - y‖₂ / μ, μ the mean distance of the pairs that are apart; h is Huber's loss, ½ d² for |d| <= 1 and
    |d| - ½ beyond. The paper sums over pairs i ≠ j, its code takes the mean over all N²; this follows the code.
    Couples the batch.

    Args:
        student: Embeddings (N, D).
        teacher: Embeddings (N, D'), of any width.

    Raises:
        RecipeError: The numbers of samples differ.
    """
    mine, goal = _distances(student), _distances(teacher)
    same_shape(mine, goal, "rkd")
    related(mine, "rkd")
    return F.smooth_l1_loss(mine, goal)


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1/N³ Σ_ijk h(cos ∠ s_j s_i s_k - cos ∠ t_j t_i t_k), a scalar in [0, 3/2] (RKD-A, section 3.2.2).

    h is Huber's loss. Samples that coincide span no angle: their cosine is 0. The mean over all N³, as in the code.
    Couples the batch; memory grows with N² D and N³.

    Args:
        student: Embeddings (N, D).
        teacher: Embeddings (N, D'), of any width.

    Raises:
        RecipeError: The numbers of samples differ.
    """
    mine, goal = _cosines(student), _cosines(teacher)
    same_shape(mine, goal, "rkd")
    related(mine, "rkd")
    return F.smooth_l1_loss(mine, goal)


def _distances(features: Tensor) -> Tensor:
    rows = embedding(features)
    apart: Tensor = torch.linalg.vector_norm(rows[:, None] - rows, dim=2)  # its gradient at 0 is 0
    mean = apart.sum() / (apart > 0).sum().clamp_min(1)
    return apart / mean.where(mean > 0, 1)


def _cosines(features: Tensor) -> Tensor:
    rows = embedding(features)
    direction = unit(rows - rows[:, None], 2)
    with full_precision(rows):
        return direction @ direction.mT


@final
class Rkd(FeatureLoss):
    """Match the distances and the angles between the samples of a batch (RKD-DA, Park et al. 2019, section 3.2).

    It owns nothing and takes widths that differ; maps are averaged over their positions. The loss is the sum over
    pairs of layers of distance * `rkd_distance` + angle * `rkd_angle`. It couples the batch, over all processes.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
        distance: Weight of the distances, at least 0; 25 as in the paper's classification.
        angle: Weight of the angles, at least 0; 50 as there.

    Raises:
        RecipeError: A weight is below 0, or both are 0.
    """

    couples = True

    def __init__(self, paths: Mapping[str, str], distance: float = 25.0, angle: float = 50.0) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("Rkd.distance", 0 <= distance < math.inf, "a number of at least 0", distance)
        require("Rkd.angle", 0 <= angle < math.inf, "a number of at least 0", angle)
        require("Rkd.angle", distance + angle > 0, "a number above 0 where distance is 0", angle)
        self.distance = distance
        self.angle = angle

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs of layers."""
        total = embedding(student[0]).new_zeros(())
        for features, goals in zip(student, teacher, strict=True):
            mine, goal = gathered(embedding(features)), gathered(embedding(goals))
            if self.distance:
                total = total + self.distance * rkd_distance(mine, goal)
            if self.angle:
                total = total + self.angle * rkd_angle(mine, goal)
        return total

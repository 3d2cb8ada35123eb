"""Probabilistic knowledge transfer: who is whose neighbour, as probabilities (Passalis & Tefas 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from limbeck.losses.base import FeatureLoss, check_paths
from limbeck.losses.gather import gathered
from limbeck.losses.tensors import embedding, full_precision, related, same_shape

EPSILON = 1e-7


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1/N² Σ_ij p_ij log(p_ij / q_ij), a scalar in [0, ∞) (Passalis & Tefas 2018, section 3).

    p (teacher) and q (student) are the conditional probabilities K_ij / Σ_k K_ik, under the cosine kernel
    K(a, b) = ½ (aᵀb / (‖a‖ ‖b‖) + 1). The paper leaves out i = j and sums; its code keeps the diagonal,
    takes the mean, and adds ε = 1e-7 to lengths and probabilities; this follows the code. Couples the batch.

    Args:
        student: Embeddings (N, D).
        teacher: Embeddings (N, D'), of any width.

    Raises:
        RecipeError: The numbers of samples differ.
    """
    q, p = _neighbours(student), _neighbours(teacher)
    same_shape(q, p, "pkt")
    related(q, "pkt")
    return (p * ((p + EPSILON) / (q + EPSILON)).log()).mean()


def _neighbours(features: Tensor) -> Tensor:
    rows = embedding(features)
    length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)  # its gradient at 0 is 0
    rows = rows / (length + EPSILON)
    with full_precision(rows):
        kernel = (rows @ rows.T + 1) / 2
    return kernel / kernel.sum(1, keepdim=True)


@final
class Pkt(FeatureLoss):
    """Match the probabilities with which samples are neighbours (Passalis & Tefas 2018, section 3).

    It owns nothing and takes widths that differ; maps are averaged over their positions. The loss is the sum over
    pairs of layers of `pkt`. It couples the batch, over all processes; its numbers are small (the code of Tian et al.
    2020 weighs it by 30000).

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
        terms = [pkt(gathered(embedding(s)), gathered(embedding(t))) for s, t in zip(student, teacher, strict=True)]
        return torch.stack(terms).sum()

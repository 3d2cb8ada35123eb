"""Correlation congruence: the correlations between the samples of a batch (Peng et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, check_paths
from limbeck.losses.gather import gathered
from limbeck.losses.tensors import embedding, full_precision, related, same_shape, unit


def gaussian_correlation(features: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Return Σ_{p=0}^P e^{-2γ} (2γ)^p / p! (xᵀy)^p for all pairs of samples (N, N) (Peng et al. 2019, section 3.3).

    This is the Taylor expansion of the Gaussian kernel exp(-γ ‖x - y‖²) of embeddings scaled to length 1. Near the
    range of the kernel, [e^{-4γ}, 1].

    Args:
        features: Embeddings (N, D).
        gamma: γ > 0.
        order: P >= 1.
    """
    rows = unit(embedding(features))
    with full_precision(rows):
        cosine = rows @ rows.T
    powers = [(2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)]
    return math.exp(-2 * gamma) * torch.stack(powers).sum(0)


def correlation_congruence(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Return 1/N² ‖K(t) - K(s)‖²_F, a scalar in [0, 1] or little above (CC, Peng et al. 2019, section 3.2).

    K is `gaussian_correlation`. This follows the paper. What circulates under its name in collections of losses, by
    way of code that the authors shared, is another loss: the product of neighbouring samples' differences in a learned
    embedding, with no kernel and no pairs. Couples the batch.

    Args:
        student: Embeddings (N, D).
        teacher: Embeddings (N, D'), of any width.
        gamma: γ > 0; 0.4 in the paper.
        order: P >= 1; 2 in the paper.

    Raises:
        RecipeError: The numbers of samples differ.
    """
    mine, goal = (gaussian_correlation(f, gamma, order) for f in (student, teacher))
    same_shape(mine, goal, "correlation congruence")
    related(mine, "correlation congruence")
    return (goal - mine).square().mean()


@final
class CorrelationCongruence(FeatureLoss):
    """Match the correlations of all pairs of samples under a Gaussian kernel (Peng et al. 2019, section 3).

    It owns nothing and takes widths that differ; maps are averaged over their positions. The loss is the sum over
    pairs of layers of `correlation_congruence`. It couples the batch, over all processes. The paper also draws its
    batches so that they hold several samples a class; that is the data's matter, not this loss's.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
        gamma: γ > 0 of the kernel.
        order: P >= 1, where its Taylor series ends.

    Raises:
        RecipeError: `gamma` is not above 0, or `order` below 1.
    """

    couples = True

    def __init__(self, paths: Mapping[str, str], gamma: float = 0.4, order: int = 2) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("CorrelationCongruence.gamma", 0 < gamma < math.inf, "a number above 0", gamma)
        require("CorrelationCongruence.order", 1 <= order <= 100, "a whole number from 1 to 100", order)
        self.gamma = gamma
        self.order = order

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs of layers."""
        rows = ((gathered(embedding(s)), gathered(embedding(t))) for s, t in zip(student, teacher, strict=True))
        return torch.stack([correlation_congruence(s, t, self.gamma, self.order) for s, t in rows]).sum()

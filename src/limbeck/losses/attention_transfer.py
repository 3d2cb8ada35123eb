"""Attention transfer: the student looks where the teacher looks (Zagoruyko & Komodakis 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import pooled_alike, same_shape, unit


def attention_transfer(student: Tensor, teacher: Tensor, power: float = 2.0) -> Tensor:
    """Return mean_i (Q_S/‖Q_S‖₂ - Q_T/‖Q_T‖₂)²_i of each sample (N,), in [0, 2/HW] (Zagoruyko & Komodakis, eq. 2).

    Q = vec(Σ_c |A_c|^p) is the attention map of a feature map A (section 3.1). The paper's eq. 2 takes the norm of the
    difference; its code takes the mean of the squares, and this follows the code. A map of zeros has no attention:
    its Q is 0.

    Args:
        student: (N, C, H, W).
        teacher: (N, C', H', W'), any width; where height and width differ, both are average-pooled to the smaller.
        power: p >= 1; larger looks at the strongest positions only.

    Raises:
        RecipeError: The numbers of samples differ.
    """
    student, teacher = (unit(a.abs().pow(power).sum(1).flatten(1)) for a in pooled_alike(student, teacher))
    same_shape(student, teacher, "attention transfer")
    return (student - teacher).square().mean(1)


@final
class AttentionTransfer(FeatureLoss):
    """Match where the energy of the feature maps lies (Zagoruyko & Komodakis 2017, eq. 2).

    It owns nothing. The loss is the sum over pairs of `attention_transfer`, averaged over samples; the paper's code
    weighs it by β/2 = 500 or so.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}; maps only.
        power: p >= 1, the exponent of the activations.

    Raises:
        RecipeError: `power` is below 1.
    """

    def __init__(self, paths: Mapping[str, str], power: float = 2.0) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("AttentionTransfer.power", 1 <= power < math.inf, "a number of at least 1", power)
        self.power = power

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Check that each pair is two maps."""
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
        terms = [attention_transfer(s, t, self.power).mean() for s, t in zip(student, teacher, strict=True)]
        return torch.stack(terms).sum()

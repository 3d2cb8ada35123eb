"""Variational information distillation: the student tells much about the teacher (Ahn et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import pointwise, pooled_alike, precise, same_shape

FLOOR = 1e-5
"""ε: no variance is smaller."""


def vid(mean: Tensor, teacher: Tensor, raw: Tensor) -> Tensor:
    """Return mean_{c,i} ½ (log σ_c² + (t_{c,i} - μ_{c,i})² / σ_c²) of each sample (N,), above ½ log ε.

    This is -log q(t | s) of a Gaussian q without its constant ½ log 2π, with σ_c² = log(1 + exp α_c) + ε
    (Ahn et al. 2019, section 2.1). The paper sums over channels and positions; the code of Tian et al. 2020,
    which measured it beside the other losses, takes the mean, and this follows it.

    Args:
        mean: μ(s), (N, C, H, W) or (N, C).
        teacher: t, the same width; where height and width differ, both are average-pooled to the smaller.
        raw: α (C,).

    Raises:
        RecipeError: The widths differ.
    """
    mean, teacher = pooled_alike(mean, teacher)
    same_shape(mean, teacher, "vid")
    variance = (F.softplus(precise(raw)) + FLOOR).reshape(-1, *[1] * (mean.ndim - 2))
    return 0.5 * (variance.log() + (teacher - mean).square() / variance).flatten(1).mean(1)


@final
class Vid(FeatureLoss):
    """Maximise a lower bound of the information that the student's features hold about the teacher's (Ahn et al. 2019).

    Each pair owns μ, three 1x1 convolutions (or linear layers, for vectors) with ReLU between, and a variance for
    each of the teacher's channels. The loss is the sum over pairs of `vid`, averaged over samples; it may be negative.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
        variance: σ² of every channel at the start, above 1e-5.

    Raises:
        RecipeError: `variance` is not above 1e-5.
    """

    def __init__(self, paths: Mapping[str, str], variance: float = 5.0) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("Vid.variance", FLOOR < variance < math.inf, f"a number above {FLOOR:g}", variance)
        self.variance = variance
        self.means = nn.ModuleList()
        self.raw = nn.ParameterList()

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make a mean and variances for each pair: two maps, or two vectors."""
        shapes = pairs(self, student, teacher, "alike")
        self.means = nn.ModuleList(_regressor(mine, goal) for mine, goal in shapes)
        over = self.variance - FLOOR
        start = over + math.log(-math.expm1(-over))  # softplus⁻¹ = log(exp x - 1), without overflow
        self.raw = nn.ParameterList(nn.Parameter(torch.full((goal[0],), start)) for _, goal in shapes)

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs."""
        rows = zip(self.means, self.raw, student, teacher, strict=True)
        return torch.stack([vid(mean(precise(s)), t, raw).mean() for mean, raw, s, t in rows]).sum()


def _regressor(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Sequential:
    width = teacher[0]
    first, *rest = (pointwise(student, inputs, width, bias=False) for inputs in (student[0], width, width))
    return nn.Sequential(first, nn.ReLU(), rest[0], nn.ReLU(), rest[1])

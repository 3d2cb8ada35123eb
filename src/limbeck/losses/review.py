"""Knowledge review: every level of the student learns from the teacher's shallower levels (Chen et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import precise, same_shape


def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Return Σ_l w_l mean(pool_l(s) - pool_l(t))² / Σ_l w_l of each sample (N,), in [0, ∞) (HCL, Chen et al. 2021).

    The levels are the map itself (w = 1) and its averages over 4x4, 2x2 and 1x1 fields (w = ½, ¼, ⅛, as far as they
    are smaller than the map). The paper (section 3.4) names the pyramid; the weights are those of its code.

    Args:
        student: (N, C, H, W).
        teacher: The same shape.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student, teacher, "hierarchical context")
    student, teacher = precise(student), precise(teacher)
    total, weight, weights = (student - teacher).square().flatten(1).mean(1), 1.0, 1.0
    for size in (4, 2, 1):
        if size >= student.shape[2]:
            continue
        weight /= 2
        pooled = F.adaptive_avg_pool2d(student - teacher, size)  # pooling is linear
        total = total + weight * pooled.square().flatten(1).mean(1)
        weights += weight
    return total / weights


class _Fusion(nn.Module):
    """Attention-based fusion (ABF, section 3.3): a level's features and what came from the deeper ones, weighed."""

    def __init__(self, inputs: int, width: int, outputs: int, deepest: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))
        self.leave = nn.Sequential(nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.attend = None if deepest else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())

    def forward(self, features: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what is compared with the teacher (N, C_T, *size), and what goes on to the shallower level."""
        fused: Tensor = self.enter(features)
        if self.attend is not None and deeper is not None:
            deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
            attention = self.attend(torch.cat([fused, deeper], 1))
            fused = fused * attention[:, :1] + deeper * attention[:, 1:]
        if list(fused.shape[2:]) != list(size):
            fused = F.interpolate(fused, list(size), mode="nearest")
        return self.leave(fused), fused


@final
class Review(FeatureLoss):
    """Compare each teacher level with the student's same and deeper levels, fused (Chen et al. 2021, section 3).

    From the deepest level to the shallowest, a fusion (ABF) joins a level of the student with the residual of the
    deeper ones and gives a map of the teacher's size, which `hierarchical_context` compares with the teacher's. The
    loss is the sum over levels, averaged over samples. Vectors (D,) count as maps (D, 1, 1): the paper's code adds
    the pooled features as the deepest level. The fusions have batch normalisation: a batch needs two samples.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}, from
            shallow to deep.
        width: Channels inside the fusions; the code's 512, and never more than the deepest student level has.

    Raises:
        RecipeError: `width` is below 1.
    """

    def __init__(self, paths: Mapping[str, str], width: int = 512) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("Review.width", width >= 1, "a whole number of at least 1", width)
        self.width = width
        self.fusions = nn.ModuleList()

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make a fusion for each level.

        Raises:
            RecipeError: The levels do not go from large to small maps, or are neither maps nor vectors.
        """
        shapes = pairs(self, student, teacher, "any")
        heights = [(*mine, 1)[1] for mine, _ in shapes]
        if heights != sorted(heights, reverse=True):
            raise RecipeError(
                f"Review.paths: expected student layers from shallow to deep, found maps of height {heights};"
                " list them in the order in which the student runs them"
            )
        width = min(self.width, shapes[-1][0][0])
        self.fusions = nn.ModuleList(
            _Fusion(mine[0], width, goal[0], deepest=level == len(shapes) - 1)
            for level, (mine, goal) in enumerate(shapes)
        )

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over levels."""
        levels = list(zip(self.fusions, map(_as_map, student), map(_as_map, teacher), strict=True))
        terms, residual = [], None
        for fuse, mine, goal in reversed(levels):
            seen, residual = fuse(mine, residual, goal.shape[2:])
            terms.append(hierarchical_context(seen, goal).mean())
        return torch.stack(terms).sum()


def _as_map(features: Tensor) -> Tensor:
    return precise(features if features.ndim == 4 else features[:, :, None, None])

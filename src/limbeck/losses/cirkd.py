"""Cross-image relations inside a batch: which pixels of other images look alike (CIRKD, Yang et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.gather import gathered, own_part
from limbeck.losses.tensors import full_precision, kl_divergence, pooled_alike, precise, same_shape, unit


def cross_image(student: Tensor, teacher: Tensor, temperature: float = 0.1, images: slice = slice(None)) -> Tensor:
    """Return 1/N Σ_j 1/P Σ_a KL(σ(S^t_ij[a] / τ) ‖ σ(S^s_ij[a] / τ)) of each image i, in nats, in [0, ∞).

    S_ij = F_i F_jᵀ are the cosines of the P pixels of image i with those of image j, row a those of pixel a, and σ the
    softmax over a row (Yang et al. 2022, arXiv:2204.06986, mini-batch-based pixel-to-pixel distillation). j goes over
    all images of the batch, i itself included, as in the published code; like that code it has no τ². It couples the
    batch, and holds about 2 (N P)² numbers.

    Args:
        student: (N, C, H, W).
        teacher: (N, C', H, W), of any other width.
        temperature: τ > 0.
        images: Which images i are asked for, e.g. those of this process.

    Raises:
        RecipeError: The numbers of samples or places differ.
    """
    same_shape(student[:, 0], teacher[:, 0], "cross_image")
    mine, goal = (unit(precise(features).flatten(2).transpose(1, 2), dim=2) for features in (student, teacher))
    terms = []
    for s, t in zip(mine[images], goal[images], strict=True):  # (P, C): all rows at once would need as much again
        terms.append(kl_divergence(_relations(t, goal) / temperature, _relations(s, mine) / temperature).mean())
    return torch.stack(terms)


def _relations(pixels: Tensor, batch: Tensor) -> Tensor:
    """Return the cosines (P, N, P) of the pixels (P, C) of one image with those of each of a batch (N, P, C)."""
    with full_precision(pixels):
        return (pixels @ batch.flatten(0, 1).T).reshape(-1, *batch.shape[:2])


@final
class Cirkd(FeatureLoss):
    """Match how alike the pixels of any two images of a batch are (CIRKD, Yang et al. 2022); see `CirkdMemory` too.

    It owns nothing, and takes void pixels like others: it needs no masks. The loss is the sum over pairs of
    `cross_image`, averaged over samples. It couples the batch, over all processes.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}; maps only.
        pool: Side of the squares of places that are averaged beforehand; 1 for none. The code has 1, and 2 as an
            option. Work and memory go with the square of the number of places in a batch.
        temperature: τ > 0.

    Raises:
        RecipeError: A number is out of its range.
    """

    couples = True

    def __init__(self, paths: Mapping[str, str], pool: int = 1, temperature: float = 0.1) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("Cirkd.pool", pool >= 1, "a whole number of at least 1", pool)
        require("Cirkd.temperature", 0 < temperature < math.inf, "a number above 0", temperature)
        self.pool, self.temperature = pool, temperature

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
        return torch.stack([self._pair(s, t) for s, t in zip(student, teacher, strict=True)]).sum()

    def _pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        small = [F.avg_pool2d(features, self.pool, ceil_mode=True) for features in pooled_alike(student, teacher)]
        mine, goal = map(gathered, small)
        return cross_image(mine, goal, self.temperature, own_part(len(student))).mean()

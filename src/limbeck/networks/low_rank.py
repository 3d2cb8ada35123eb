"""Fewer weights for a convolution that is already trained: a smaller rank, or fewer channels.

Both ask how what is lost looks from behind the layer, so they weigh it by the second moment E[x xᵀ] (C, C) of the
channels x (C,) that the layer takes, over images and places.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-4  # of the largest variance: below that a direction counts as never seen
RIDGE = 1e-6  # of the mean variance, so that channels which are always alike do not make a system singular


def second_moment(hidden: Tensor) -> Tensor:
    """Return E[x xᵀ] (C, C) of the channels of maps (N, C, H, W)."""
    channels = hidden.transpose(0, 1).flatten(1)
    return channels @ channels.T / channels.shape[1]


def tucker2(weight: Tensor, rank: int, moment: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a convolution as three: to `rank` channels, among them, and from them (Kim et al. 2016, arXiv:1511.06530).

    The two factors are the leading directions of the weight, unfolded along either side (eq. 3 with the higher-order
    singular value decomposition of De Lathauwer et al. 2000 in the place of iterations); here of the weight seen by
    inputs of the given second moment.

    Args:
        weight: (O, I, h, w).
        rank: At most O and I; at O and I nothing is lost.
        moment: (I, I), of the inputs.

    Returns:
        before (rank, I), core (rank, rank, h, w) and after (O, rank), weight ≈ after · core · before.
    """
    values, vectors = torch.linalg.eigh(moment)
    spread = values.clamp(min=SMALLEST * float(values.max())).sqrt()
    root, inverse = (vectors * s @ vectors.T for s in (spread, 1 / spread))
    seen = torch.einsum("oihw,ij->ojhw", weight, root)
    after = torch.linalg.svd(seen.flatten(1), full_matrices=False).U[:, :rank]
    inner = torch.linalg.svd(seen.transpose(0, 1).flatten(1), full_matrices=False).U[:, :rank]
    core = torch.einsum("ojhw,os,jr->srhw", seen, after, inner)
    return inner.T @ inverse, core, after


def kept_channels(weight: Tensor, count: int, moment: Tensor) -> tuple[list[int], Tensor]:
    """Choose the channels of which a convolution can best guess the others, one after the other.

    Channel pruning with the least-squares correction of what follows (He et al. 2017, arXiv:1707.06168, eq. 1; the
    choice is greedy as in Luo et al. 2017, arXiv:1707.06342, algorithm 1).

    Args:
        weight: (O, I, h, w) of the convolution that takes the channels.
        count: How many of I are kept.
        moment: (I, I), of the channels.

    Returns:
        The kept channels in their order, and the weight (O, count, h, w) for them alone.
    """
    if count == len(moment):
        return list(range(count)), weight
    importance = torch.einsum("oihw,ojhw->ij", weight, weight)
    ridge = RIDGE * float(moment.diagonal().mean())

    def guess(kept: list[int]) -> Tensor:
        among = moment[kept][:, kept] + ridge * torch.eye(len(kept)).to(moment)
        found: Tensor = torch.linalg.solve(among, moment[kept]).T
        return found  # (I, kept)

    def lost(kept: list[int]) -> float:
        return float(((moment - guess(kept) @ moment[kept]) * importance).sum())

    kept: list[int] = []
    for _ in range(count):
        others = (channel for channel in range(len(moment)) if channel not in kept)
        kept = min((sorted([*kept, channel]) for channel in others), key=lost)
    return kept, torch.einsum("oihw,ik->okhw", weight, guess(kept))

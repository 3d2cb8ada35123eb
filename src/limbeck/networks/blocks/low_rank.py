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


def tucker2(weight: Tensor, inner: int, outer: int, moment: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a convolution as three: to fewer channels, among fewer, and from them (Kim et al. 2016, arXiv:1511.06530).

    The two factors are the leading directions of the weight, unfolded along either side (eq. 3 with the higher-order
    singular value decomposition of De Lathauwer et al. 2000 in the place of iterations); here of the weight seen by
    inputs of the given second moment.

    Args:
        weight: (O, I, h, w).
        inner: Rank on the side of the inputs, at most I; at I nothing is lost there.
        outer: Rank on the side of the outputs, at most O.
        moment: (I, I), of the inputs.

    Returns:
        before (inner, I), core (outer, inner, h, w) and after (O, outer), weight ≈ after · core · before.
    """
    values, vectors = torch.linalg.eigh(moment)
    spread = values.clamp(min=SMALLEST * float(values.max())).sqrt()
    root, inverse = (vectors * s @ vectors.T for s in (spread, 1 / spread))
    seen = torch.einsum("oihw,ij->ojhw", weight, root)
    after = torch.linalg.svd(seen.flatten(1), full_matrices=False).U[:, :outer]
    before = torch.linalg.svd(seen.transpose(0, 1).flatten(1), full_matrices=False).U[:, :inner]
    core = torch.einsum("ojhw,os,jr->srhw", seen, after, before)
    return before.T @ inverse, core, after


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
    kept: list[int] = []
    left = moment.clone()  # of every channel, what those that are kept do not tell
    for _ in range(count):
        gain = ((left @ importance) * left).sum(1) / (left.diagonal().clamp(min=0) + ridge)
        gain[kept] = -torch.inf
        best = int(gain.argmax())
        kept.append(best)
        left = left - torch.outer(left[:, best], left[best]) / (left[best, best] + ridge)
    kept.sort()
    among = moment[kept][:, kept] + ridge * torch.eye(count).to(moment)
    guess = torch.linalg.solve(among, moment[kept]).T  # (I, count)
    return kept, torch.einsum("oihw,ik->okhw", weight, guess)

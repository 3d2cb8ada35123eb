"""Filling holes with features from elsewhere in the image (Yu et al. 2018, arXiv:1801.07892, section 4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARPNESS = 10.0  # λ of the softmax over places, as in the authors' code
FAR = 1e4  # what the score of a place that cannot be looked at loses


class ContextualAttention(nn.Module):
    """Every 3x3 patch becomes the mean of the known patches, weighted by how much they look like it.

    s = cos(f, b) of all patches f and known patches b (their eq. 1), weights softmax(λ s) over b; patches are laid over
    each other where they overlap. Places are all compared with all, so memory grows with the square of their number.
    Attention is not propagated to neighbours (their eq. 2). What is taken from elsewhere is joined to the features by a
    1x1 convolution.

    Args:
        width: Channels C of the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(2 * width, width, 1)

    def forward(self, hidden: Tensor, known: Tensor) -> Tensor:
        """Return features (N, C, h, w) of features (N, C, h, w) and where the image is wholly known (N, 1, h, w)."""
        found: Tensor = self.merge(torch.cat([hidden, borrowed(hidden, known)], 1))
        return found


def borrowed(hidden: Tensor, known: Tensor) -> Tensor:
    """Return features (N, C, h, w) put together from the 3x3 patches that are wholly known.

    Where an image has no such patch, all of its patches can be looked at.
    """
    size = hidden.shape[2:]
    patches = F.unfold(hidden, 3, padding=1)  # (N, 9 C, P)
    usable = -F.max_pool2d(-known, 3, stride=1, padding=1).flatten(2)  # (N, 1, P); beyond the edge all is known
    unit = F.normalize(patches, dim=1)
    score = SHARPNESS * unit.mT @ unit + (usable - 1) * FAR  # (N, P, P), of every place for every source
    moved = patches @ score.softmax(2).mT
    overlap = F.fold(torch.ones_like(patches[:1]), size, 3, padding=1)
    return F.fold(moved, size, 3, padding=1) / overlap

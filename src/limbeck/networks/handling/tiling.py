"""Restoring images that are too large for memory, piece by piece, and images seen from eight sides."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Restoration = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) to images (N, C', sH, sW), for any H and W."""


def tiled(restore: Restoration, image: Tensor, tile: int, overlap: int, scale: int = 1) -> Tensor:
    """Return restore(image), computed from overlapping squares of which only the inner parts are kept.

    It is the same wherever the network sees no further than `overlap` pixels and, if it halves images, `tile` and
    `overlap` are multiples of its stride; a network that looks at the whole image (channel attention) sees a tile
    instead.

    Args:
        restore: What to do with a square.
        image: (N, C, H, W).
        tile: Height and width of the kept part of a square, in pixels of `image`.
        overlap: Pixels of surroundings on each side, as far as the image goes.
        scale: How many times larger the result is.
    """
    height, width = image.shape[2:]
    rows = []
    for top in range(0, height, tile):
        row = []
        for left in range(0, width, tile):
            first, from_left = max(0, top - overlap), max(0, left - overlap)
            square = image[..., first : top + tile + overlap, from_left : left + tile + overlap]
            made = restore(square)
            down, right = (top - first) * scale, (left - from_left) * scale
            kept = min(tile, height - top) * scale, min(tile, width - left) * scale
            row.append(made[..., down : down + kept[0], right : right + kept[1]])
        rows.append(torch.cat(row, 3))
    return torch.cat(rows, 2)


def from_all_sides(restore: Restoration, image: Tensor) -> Tensor:
    """Return the mean of what a network makes of an image turned and flipped in all eight ways, each turned back.

    The self-ensemble of Timofte et al. 2016 and Lim et al. 2017 (arXiv:1707.02921, section 3.4): eight times the cost.
    """
    made = []
    for turn in range(4):
        for flip in (False, True):
            seen = torch.rot90(image, turn, (2, 3))
            found = restore(seen.flip(3) if flip else seen)
            made.append(torch.rot90(found.flip(3) if flip else found, -turn, (2, 3)))
    return torch.stack(made).mean(0)

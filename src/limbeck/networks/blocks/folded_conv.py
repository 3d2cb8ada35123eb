"""Convolutions of images whose pixels, two by two, stand as channels: a quarter of the places, four times the channels.

The numbers are the same as those of the convolutions of the image itself. A CPU computes 8 or 16 channels at once, or
none: with a few of them at a large size, most of its work would be for nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fold_conv(weight: Tensor) -> Tensor:
    """Return the kernel that makes folded outputs of folded inputs, to be used with `padding="same"`.

    A kernel of side 9 becomes one of side 5; that of side 3 remains one.

    Args:
        weight: (O, C, side, side), of an odd side, of `F.conv2d(image, weight, padding="same")`.

    Returns:
        (4 O, 4 C, s, s), for `F.pixel_unshuffle(image, 2)` of an image of even height and width.
    """
    half = weight.shape[2] // 2
    reach = (half + 1) // 2  # of the new kernel
    side = 2 * (2 * reach + 1)
    padded = F.pad(weight, (2 * reach + 1 - half,) * 4)
    # The kernel as the pixel in this row and column of the four sees it.
    seen = [padded[:, :, 1 - row :, 1 - column :][:, :, :side, :side] for row in (0, 1) for column in (0, 1)]
    return F.pixel_unshuffle(torch.stack(seen, 1).flatten(0, 1), 2)


def fold_doubling(weight: Tensor) -> Tensor:
    """Return the kernel that makes folded outputs of plain inputs, with a row and a column of zeros before these.

    Args:
        weight: (C, O, 3, 3), of `F.conv_transpose2d(image, weight, stride=2)` without the last row and column.

    Returns:
        (4 O, C, 2, 2).
    """
    turned = F.pad(weight.transpose(0, 1), (0, 1, 0, 1)).flip(2, 3)
    seen = [turned[:, :, 1 - row :: 2, 1 - column :: 2] for row in (0, 1) for column in (0, 1)]
    return torch.stack(seen, 1).flatten(0, 1)

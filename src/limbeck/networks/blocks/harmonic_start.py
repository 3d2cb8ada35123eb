"""A start for networks that fill holes: nearly the harmonic filling, by cascadic multigrid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SWEEPS = 8  # over the holes at every size


def harmonic_start(image: Tensor, known: Tensor) -> Tensor:
    """Return images whose holes are about as Δu = 0 would have them, in a handful of operations a pixel.

    Halved down to a single pixel, then enlarged and smoothed at every size (the cascade of Bornemann and Deuflhard
    1996, with Jacobi's iteration); at the edge of the image nothing flows. `DiffusionInpainting` solves the equation.

    Args:
        image: (N, C, H, W); what it says in the holes is of no account.
        known: (N, 1, H, W), 1 where the image is known and 0 in the holes.

    Returns:
        (N, C, H, W), the known pixels as they were; 0 where nothing at all of an image is known.
    """
    image = image * known
    if max(image.shape[2:]) == 1:
        return image
    there, coarse = (F.avg_pool2d(t, 2, ceil_mode=True) for t in (known, image))
    coarse = harmonic_start(coarse / there.clamp(min=1e-6), (there > 0).to(image))
    filled = F.interpolate(coarse, size=image.shape[2:], mode="bilinear")
    for _ in range(SWEEPS):
        filled = _mean_of_neighbours(torch.where(known > 0, image, filled))
    return torch.where(known > 0, image, filled)


def _mean_of_neighbours(image: Tensor) -> Tensor:
    around = F.pad(image, (1, 1, 1, 1), mode="replicate")
    above, below = around[..., :-2, 1:-1], around[..., 2:, 1:-1]
    left, right = around[..., 1:-1, :-2], around[..., 1:-1, 2:]
    return (above + below + left + right) / 4

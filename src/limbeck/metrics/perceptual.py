"""How far two images are apart in the features of a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.errors import DataError

EPSILON = 1e-10  # beside the norm of the channels, as in the authors' code


def perceptual_distance(
    features: Sequence[Tensor], references: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> Tensor:
    """Return Σ_l mean_hw Σ_c w_lc (φ̂_lc - φ̂'_lc)², φ̂ the features of a place over their norm (Zhang et al. 2018).

    Eq. 1 of arXiv:1801.03924, the distance of which LPIPS is the form with the authors' network, its five layers and
    their trained weights. What is below 0 in `weights` is refused, as the authors train them under that constraint.

    Args:
        features: (N, C_l, H_l, W_l) of each layer l.
        references: The same of the images to compare with.
        weights: (C_l,) of each layer; None for 1 everywhere, half of which is one minus the cosine.

    Returns:
        (N,), at least 0; 0 for equal features, and without weights at most 4 a layer.

    Raises:
        DataError: The shapes differ, the weights do not fit, or one is negative.
    """
    if not features or len(features) != len(references) or len(features) != len(weights or features):
        found = f"{len(features)}, {len(references)} and {'none' if weights is None else len(weights)}"
        raise DataError(
            f"perceptual_distance: expected features, references, weights of the same layers, found {found}"
        )
    total = []
    for layer, (one, other) in enumerate(zip(features, references, strict=True)):
        if one.shape != other.shape or one.ndim != 4:
            found = f"{tuple(one.shape)} and {tuple(other.shape)}"
            raise DataError(f"perceptual_distance: expected two equal shapes (N, C, H, W), found {found}")
        square = (_unit(one) - _unit(other)).square()
        if weights is not None:
            square = square * _checked(weights[layer], square)
        total.append(square.sum(1).mean((1, 2)))
    return torch.stack(total).sum(0)


def _unit(features: Tensor) -> Tensor:
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    return wide / (wide.square().sum(1, keepdim=True).sqrt() + EPSILON)


def _checked(weight: Tensor, square: Tensor) -> Tensor:
    """Return a layer's weights (C, 1, 1) on the device of what they weigh."""
    if weight.shape != square.shape[1:2]:
        raise DataError(f"perceptual_distance: expected weights ({square.shape[1]},), found {tuple(weight.shape)}")
    if bool((weight < 0).any()):
        raise DataError(f"perceptual_distance: expected weights of at least 0, found {float(weight.min()):.3g}")
    return weight.to(square)[:, None, None]

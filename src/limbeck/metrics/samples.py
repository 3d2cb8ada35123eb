"""What every set of features or logits is checked for before it is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import DataError


def checked(a: Tensor, b: Tensor, least_a: int, least_b: int) -> tuple[Tensor, Tensor]:
    """Return two sets of features (N, D) and (M, D) as `finite` does, both in the wider precision of the two.

    Raises:
        DataError: Features that are not finite, of different dimensions, or fewer than the least.
    """
    a, b = finite(a, "features", least_a), finite(b, "features", least_b)
    if a.shape[1] != b.shape[1]:
        raise DataError(f"features to compare: expected one dimension, found {a.shape[1]} and {b.shape[1]}")
    wider = torch.promote_types(a.dtype, b.dtype)
    return a.to(wider), b.to(a.device, wider)


def finite(values: Tensor, what: str, least: int) -> Tensor:
    """Return values (N, K) without gradients, in float64 if they are, else in float32.

    Raises:
        DataError: NaN, infinity, another shape, or fewer than the least.
    """
    if values.ndim != 2 or len(values) < least:
        raise DataError(f"{what}: expected two axes (N, D) with N >= {least}, found {tuple(values.shape)}")
    low, high = values.aminmax(dim=1)  # NaN where there is one
    bad = int((~(low.isfinite() & high.isfinite())).sum())
    if bad:
        raise DataError(
            f"{what}: expected finite numbers, found NaN or infinity in {bad} of {len(values)} samples;"
            " the images or the weights they come from are damaged"
        )
    return values.detach() if values.dtype == torch.float64 else values.detach().float()

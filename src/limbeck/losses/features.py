"""How far tensors of the student are from the teacher's: images, or features at chosen layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.losses.gather import gathered
from limbeck.losses.tensors import precise, same_shape

EPSILON = 1e-3


def l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean absolute difference of each sample (N,), in [0, ∞); in [0, 2] for images.

    Args:
        student: (N, ...).
        teacher: (N, ...), the same shape.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student, teacher, "l1")
    return (precise(student) - precise(teacher)).abs().flatten(1).mean(1)


def l2(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of each sample (N,), in [0, ∞); in [0, 4] for images.

    Args:
        student: (N, ...).
        teacher: (N, ...), the same shape.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student, teacher, "l2")
    return (precise(student) - precise(teacher)).square().flatten(1).mean(1)


def charbonnier(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of √((s - t)² + ε²) of each sample (N,), ε = 1e-3: an L1 distance that is smooth at 0.

    Charbonnier et al. 1994; Lai et al. 2017 (arXiv:1704.03915), eq. 3.

    Args:
        student: (N, ...).
        teacher: (N, ...), the same shape.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student, teacher, "charbonnier")
    return ((precise(student) - precise(teacher)).square() + EPSILON**2).sqrt().flatten(1).mean(1)


DISTANCES = {"l1": l1, "l2": l2, "charbonnier": charbonnier}
"""Distances of images by the name that methods know them by."""


def feature_matching(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return 1/L Σ_l mean|s_l - t_l| of each sample (N,), in [0, ∞) (Wang et al. 2018, eq. 4).

    Every layer counts the same, whatever its size.

    Args:
        student: L feature tensors (N, ...).
        teacher: L feature tensors of the same shapes.

    Raises:
        RecipeError: The shapes of a pair differ.
    """
    return torch.stack([l1(s, t) for s, t in zip(student, teacher, strict=True)]).mean(0)


def mean_matching(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return 1/L Σ_l mean|E_n s_l - E_n t_l|, a scalar in [0, ∞): L1 distances of what batches have on average.

    Salimans et al. 2016 (arXiv:1606.03498), section 3.1, there with the squared L2 norm and with real images in the
    teacher's place. Images are free to differ from their counterparts as long as a batch as a whole looks alike: it is
    never above the mean of `feature_matching`. Means are over the (micro-)batch of all processes.

    Args:
        student: L feature tensors (N, ...).
        teacher: L feature tensors of the same shapes, but for N.

    Raises:
        RecipeError: The shapes of a pair differ in more than N.
    """
    on_average = [[gathered(precise(each)).mean(0, keepdim=True) for each in side] for side in (student, teacher)]
    return feature_matching(*on_average).mean()

"""What a picture shows and how it is painted: content, style and smoothness in the features of a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.losses.tensors import full_precision, precise, same_shape

EPSILON = 1e-5  # in the variance of a channel
TINY = 1e-12  # so that nothing is divided by 0
SHARE = 1e-2  # of the teacher's mean variance, below which no channel's variance is taken to be


def gram(features: Tensor) -> Tensor:
    """Return F Fᵀ / (C H W) (N, C, C), F the features (C, HW) (Gatys et al. 2016; Johnson et al. 2016, eq. 3).

    It says which features come together, and nothing of where.

    Args:
        features: (N, C, H, W).
    """
    flat = precise(features).flatten(2)
    with full_precision(flat):
        found: Tensor = flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])
    return found


def gram_distance(features: Tensor, style: Tensor) -> Tensor:
    """Return ‖G - G_s‖² of each sample (N,), in [0, ∞) (Johnson et al. 2016, arXiv:1603.08155, eq. 4).

    Args:
        features: (N, C, H, W).
        style: Gram matrices (N, C, C) or (1, C, C).

    Raises:
        RecipeError: The numbers of channels differ.
    """
    found = gram(features)
    same_shape(found, style.expand_as(found) if style.shape[1:] == found.shape[1:] else style, "style")
    return (found - style).square().sum((1, 2))


def content_distance(features: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    """Return Σ_l ‖φ_l - φ'_l‖² / ‖φ'_l‖² of each sample (N,): about 1, whatever the network.

    Johnson et al. 2016, eq. 2, divide by the number of features, so that a weight would fit one network alone.

    Args:
        features: (N, C_l, H_l, W_l) of each layer l.
        goals: The same shapes.

    Raises:
        RecipeError: The shapes differ.
    """
    each = []
    for found, goal in zip(map(precise, features), map(precise, goals), strict=True):
        same_shape(found, goal, "content")
        each.append((found - goal).flatten(1).square().sum(1) / goal.flatten(1).square().sum(1).clamp(min=TINY))
    return torch.stack(each).sum(0)


def style_distance(features: Sequence[Tensor], grams: Sequence[Tensor]) -> Tensor:
    """Return Σ_l ‖G_l - G'_l‖² / ‖G'_l‖² of each sample (N,): about 1, whatever the network (see `gram_distance`).

    Args:
        features: (N, C_l, H_l, W_l) of each layer l.
        grams: Gram matrices (N, C_l, C_l) or (1, C_l, C_l).

    Raises:
        RecipeError: The numbers of channels differ.
    """
    pairs = zip(features, grams, strict=True)
    return torch.stack([gram_distance(f, g) / g.square().sum((1, 2)).clamp(min=TINY) for f, g in pairs]).sum(0)


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every channel, (N, C) each (Huang & Belongie 2017, eq. 5 and 6)."""
    features = precise(features)
    mean, variance = features.mean((2, 3)), features.var((2, 3), correction=0)
    return mean, (variance + EPSILON).sqrt()


def statistics_distance(features: Tensor, other: Tensor) -> Tensor:
    """Return ‖μ - μ'‖ + ‖σ - σ'‖ of each sample (N,), in [0, ∞) (Huang & Belongie 2017, arXiv:1703.06868, eq. 13).

    Args:
        features: (N, C, H, W).
        other: (N, C, H', W').

    Raises:
        RecipeError: The numbers of samples or channels differ.
    """
    (mean, spread), (their_mean, their_spread) = statistics(features), statistics(other)
    same_shape(mean, their_mean, "statistics")
    found: Tensor = (mean - their_mean).norm(dim=1) + (spread - their_spread).norm(dim=1)
    return found


def statistics_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean over channels of KL(N(μ_t, σ_t²) ‖ N(μ_s, σ_s²)) of each sample (N,), in nats.

    The statistics of a channel are taken for a distribution, and the teacher's for a soft label. A channel that is
    silent in an image would make it as large as 1e8, so that no variance, of either, counts as less than a hundredth
    of the teacher's mean over the channels of the image.

    Args:
        teacher: Features (N, C, H, W) of what the teacher painted.
        student: Features (N, C, H', W') of what the student painted.

    Raises:
        RecipeError: The numbers of samples or channels differ.
    """
    (goal, width), (mean, spread) = statistics(teacher), statistics(student)
    same_shape(mean, goal, "statistics")
    least = (SHARE * width.square().mean(1, keepdim=True)).sqrt()
    width, spread = width.maximum(least), spread.maximum(least)
    each = (width.square() + (goal - mean).square()) / (2 * spread.square()) + (spread / width).log() - 0.5
    return each.mean(1)


def total_variation(image: Tensor) -> Tensor:
    """Return mean|∂x| + mean|∂y| of each image (N, C, H, W): (N,), in [0, 4] (Johnson et al. 2016, section 3.2)."""
    image = precise(image)
    rows = (image[..., 1:, :] - image[..., :-1, :]).abs().flatten(1).mean(1)
    columns = (image[..., 1:] - image[..., :-1]).abs().flatten(1).mean(1)
    return torch.nan_to_num(rows) + torch.nan_to_num(columns)

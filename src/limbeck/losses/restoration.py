"""How far a restored image is from another: spectra, and distributions of every value.

A distribution is given by its mean and the logarithm of its scale, both (N, ...): the standard deviation σ of a
Gaussian, or the b of a Laplace distribution, whose density is exp(-|x - μ| / b) / 2b.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.losses.tensors import precise, same_shape


def spectral(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean |Re| + |Im| of F(s) - F(t) of each sample (N,), F the orthonormal 2D Fourier transform.

    Every frequency counts alike, and high ones, which hold little of an image's energy, are not drowned (Cho et al.
    2021, arXiv:2108.05054, eq. 5, at one scale).

    Args:
        student: Images (N, C, H, W).
        teacher: Images of the same shape.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student, teacher, "spectral")
    difference = torch.fft.fft2(precise(student) - precise(teacher), norm="ortho")
    return torch.view_as_real(difference).abs().sum(-1).flatten(1).mean(1)


def laplace_nll(image: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the mean over values of |x - μ| / b + log 2b, in nats a value (N,)."""
    same_shape(mean, image, "likelihood")
    log_scale = precise(log_scale)
    each = (precise(image) - precise(mean)).abs() * (-log_scale).exp() + log_scale + math.log(2)
    return each.flatten(1).mean(1)


def gaussian_nll(image: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the mean over values of (x - μ)² / 2σ² + log σ + ½ log 2π, in nats a value (N,)."""
    same_shape(mean, image, "likelihood")
    log_scale = precise(log_scale)
    each = (precise(image) - precise(mean)).square() * (-2 * log_scale).exp() / 2 + log_scale
    return each.flatten(1).mean(1) + math.log(2 * math.pi) / 2


def laplace_kl(mean: Tensor, log_scale: Tensor, student_mean: Tensor, student_log_scale: Tensor) -> Tensor:
    """Return KL(Laplace(μ, b) ‖ Laplace(μ_s, b_s)), the mean over values (N,), in nats, in [0, ∞).

    With d = |μ - μ_s|: (b e^{-d/b} + d) / b_s + log b_s - log b - 1 (Meyer 2021, arXiv:2102.00060, eq. 4).

    Args:
        mean: μ of the teacher (N, ...).
        log_scale: log b of the teacher.
        student_mean: μ_s, of the same shape.
        student_log_scale: log b_s.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student_mean, mean, "soft_label")
    m, s, ms, ss = (precise(t) for t in (mean, log_scale, student_mean, student_log_scale))
    distance = (m - ms).abs()
    each = ((-distance * (-s).exp()).exp() * s.exp() + distance) * (-ss).exp() + ss - s - 1
    return each.flatten(1).mean(1)


def gaussian_kl(mean: Tensor, log_scale: Tensor, student_mean: Tensor, student_log_scale: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) ‖ N(μ_s, σ_s²)), the mean over values (N,), in nats, in [0, ∞).

    (σ² + (μ - μ_s)²) / 2σ_s² + log σ_s - log σ - ½.

    Args:
        mean: μ of the teacher (N, ...).
        log_scale: log σ of the teacher.
        student_mean: μ_s, of the same shape.
        student_log_scale: log σ_s.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student_mean, mean, "soft_label")
    m, s, ms, ss = (precise(t) for t in (mean, log_scale, student_mean, student_log_scale))
    each = ((2 * s).exp() + (m - ms).square()) * (-2 * ss).exp() / 2 + ss - s - 0.5
    return each.flatten(1).mean(1)


DISTRIBUTIONS = {"laplace": (laplace_nll, laplace_kl), "gaussian": (gaussian_nll, gaussian_kl)}
"""The negative log-likelihood and the divergence of each distribution."""

"""The terms of a variational autoencoder's bound, and divergences between posteriors; all in nats.

Posteriors are given by their mean and log variance, both (N, ...). Images are in [-1, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.tensors import full_precision, precise, same_shape

LEVEL = 2 / 255  # between two of the 256 values of a pixel in [-1, 1]
SMALLEST = 1e-6  # a probability, or a part of one, that is smaller is taken for it: float32 near 1 is no finer


def kl_from_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return ½ (μ² + σ² - 1 - log σ²), the KL(N(μ, σ²) ‖ N(0, 1)) of every latent dimension (N, ...), in [0, ∞).

    Kingma & Welling 2014 (arXiv:1312.6114), appendix B.
    """
    mean, log_variance = precise(mean), precise(log_variance)
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def free_bits(divergence: Tensor, least: float) -> Tensor:
    """Return Σ_j max(λ, mean over the batch of KL_j), a scalar: what is below λ is not worth compressing further.

    Kingma et al. 2016 (arXiv:1606.04934), eq. 15, each latent dimension a group. It couples the samples of a batch.

    Args:
        divergence: KL of every dimension (N, ...).
        least: λ of at least 0, in nats.
    """
    return divergence.mean(0).clamp(min=least).sum()


def kl_between(mean: Tensor, log_variance: Tensor, student_mean: Tensor, student_log_variance: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) ‖ N(μ_s, σ_s²)) of diagonal Gaussians, summed over their dimensions: (N,), in [0, ∞).

    Σ_j ½ ((σ² + (μ - μ_s)²) / σ_s² - 1 + log σ_s² - log σ²): the teacher's parameters are the soft label.

    Args:
        mean: μ of the teacher (N, ...).
        log_variance: log σ² of the teacher.
        student_mean: μ_s, of the same shape.
        student_log_variance: log σ_s².

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student_mean, mean, "posterior")
    m, v, ms, vs = (precise(t) for t in (mean, log_variance, student_mean, student_log_variance))
    each = ((v - vs).exp() + (m - ms).square() * (-vs).exp() - 1 + vs - v) / 2
    return each.flatten(1).sum(1)


def kl_through_map(
    basis: Tensor, mean: Tensor, log_variance: Tensor, student_mean: Tensor, student_log_variance: Tensor
) -> Tensor:
    """Return KL(N(A μ, A Σ Aᵀ) ‖ N(μ_s, Σ_s)), summed over positions: (N,), in [0, ∞) but for rounding.

    A has orthonormal rows, so A Σ Aᵀ is a proper covariance, with C = A Σ Aᵀ

        ½ (tr(Σ_s⁻¹ C) + (A μ - μ_s)ᵀ Σ_s⁻¹ (A μ - μ_s) - d + log det Σ_s - log det C)

    and A z of a standard normal z is standard normal too.

    Args:
        basis: A, (d, D), over the first axis of a latent; further axes are positions.
        mean: μ of the teacher (N, D, ...).
        log_variance: The diagonal of log Σ.
        student_mean: μ_s (N, d, ...).
        student_log_variance: The diagonal of log Σ_s.

    Raises:
        RecipeError: The shapes do not fit.
    """
    if mean.shape[1] != basis.shape[1] or student_mean.shape[1] != basis.shape[0]:
        found = f"{mean.shape[1]} and {student_mean.shape[1]}"
        raise RecipeError(f"posterior: expected latents of {basis.shape[1]} and {basis.shape[0]}, found {found}")
    with full_precision(mean):
        basis = basis.to(mean.device, torch.float64)  # in float32 Cholesky fails where variances are e^20 apart
        m, v, ms, vs = (t.double().flatten(2).movedim(1, -1) if t.ndim > 2 else t.double()[:, None] for t in (
            mean, log_variance, student_mean, student_log_variance
        ))  # fmt: skip
        covariance = (basis * v.exp()[..., None, :]) @ basis.T
        log_det = 2 * torch.linalg.cholesky(covariance).diagonal(dim1=-2, dim2=-1).log().sum(-1)
        spread = (covariance.diagonal(dim1=-2, dim2=-1) + (m @ basis.T - ms).square()) * (-vs).exp()
        each: Tensor = (spread + vs - 1).sum(-1) - log_det
    return (each.sum(1) / 2).to(precise(mean).dtype)


def bernoulli_nll(image: Tensor, mean: Tensor) -> Tensor:
    """Return -Σ [x log p + (1 - x) log(1 - p)] of each sample (N,), with image and mean taken from [-1, 1] to [0, 1].

    For pixels that are not 0 or 1 this is no likelihood, but its best mean is still the right one.

    Args:
        image: (N, C, H, W) in [-1, 1].
        mean: What the decoder returns, of the same shape.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(mean, image, "bernoulli")
    x, p = (precise(image) + 1) / 2, ((precise(mean) + 1) / 2).clamp(SMALLEST, 1 - SMALLEST)
    return -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)


def gaussian_nll(image: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return Σ [½ ((x - μ) / σ)² + log σ + ½ log 2π] of each sample (N,): a density, so it can be below 0.

    With σ learned this is σ-VAE (Rybkin et al. 2021, arXiv:2006.13202).

    Args:
        image: (N, C, H, W).
        mean: μ, of the same shape.
        log_scale: log σ, which broadcasts.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(mean, image, "gaussian")
    log_scale = precise(log_scale)
    z = (precise(image) - precise(mean)) * (-log_scale).exp()
    return (0.5 * z.square() + log_scale + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def discretized_gaussian_nll(image: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return -Σ log P(x) of each sample (N,), where a pixel has 256 values: a probability, so it is at least 0.

    P(x) = Φ((x + ½δ - μ) / σ) - Φ((x - ½δ - μ) / σ), δ = 2/255; the lowest value takes all that is below it and the
    highest all that is above (as Salimans et al. 2017, arXiv:1701.05517, eq. 2, have it for the logistic).

    Args:
        image: (N, C, H, W), of values -1, -1 + δ, ..., 1.
        mean: μ, of the same shape.
        log_scale: log σ, which broadcasts.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(mean, image, "discretized_gaussian")
    x, rest = precise(image), (precise(image) - precise(mean))
    slope = (-precise(log_scale)).exp()
    # Φ is precise where it is small, so a pixel above the mean is taken for its mirror image below it. Of a value at
    # the end of the range that half of the line remains which begins at its inner edge.
    inward = torch.where(x > 0, -rest, rest)
    distance = torch.where(rest > 0, rest, -rest)  # not abs(), whose gradient at 0 is no end's
    end = x.abs() > 1 - LEVEL / 2
    high = (LEVEL / 2 + torch.where(end, inward, -distance)) * slope
    log_high, log_low = _log_ndtr(high), _log_ndtr(high - LEVEL * slope)
    between = (-(log_low - log_high).clamp(max=-SMALLEST).expm1()).log()  # log(1 - Φ(low) / Φ(high))
    log_p = log_high + torch.where(end, 0, between)
    return -log_p.flatten(1).sum(1)


def _log_ndtr(z: Tensor) -> Tensor:
    """Return log Φ(z) of finite z. `torch.special.log_ndtr` has the same values, but a gradient that rounding ruins."""
    tail, body = z.clamp(max=-1), z.clamp(min=-1)
    far = (torch.special.erfcx(-tail / math.sqrt(2)) / 2).log() - tail.square() / 2
    return torch.where(z < -1, far, torch.special.log_ndtr(body))

"""The teacher discriminator's probability as a soft label for the student's discriminator.

Knowledge distillation (Hinton et al. 2015) of the two-class decision "real or generated": a score is a log-odds, so
σ(score) is the probability of "real". A score that is not a log-odds is made one by `calibration.calibrate`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.tensors import precise, same_shape


def bernoulli_kl(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² KL(p ‖ q) for p = σ(teacher / T) and q = σ(student / T), in [0, ∞).

    KL(p ‖ q) = p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q)), all logarithms taken from the log-odds. T²
    keeps the size of the gradient when T changes (Hinton et al. 2015, section 2).

    Args:
        teacher: Log-odds (N,).
        student: Log-odds (N,).
        temperature: T > 0; above 1 it softens both.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(student, teacher, "soft label")
    teacher, student = precise(teacher) / temperature, precise(student) / temperature
    real = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    fake = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return temperature**2 * (real + fake)


def soft_label(student: Tensor, teacher: Tensor, *, real: bool, alpha: float = 0.5, temperature: float = 1.0) -> Tensor:
    """Return α CE(hard ‖ q) + (1 - α) T² KL(p_T ‖ q_T), one value a sample (N,), in [0, ∞).

    The cross-entropy is at temperature 1: -log q for real images and -log(1 - q) for generated ones.

    Args:
        student: Log-odds (N,) of the student's discriminator.
        teacher: Log-odds (N,) of the teacher's discriminator for the same images.
        real: Whether the images are real (hard label 1) or generated (0).
        alpha: α in [0, 1], the share of the hard label.
        temperature: T > 0.

    Raises:
        RecipeError: The shapes differ.
    """
    hard = F.softplus(-precise(student) if real else precise(student))
    return alpha * hard + (1 - alpha) * bernoulli_kl(teacher, student, temperature)

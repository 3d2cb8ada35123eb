"""Knowledge distillation by softened class probabilities (Hinton et al. 2015), and the objectives made of it."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.base import LogitLoss
from limbeck.losses.tensors import class_labels, kl_divergence, logit_pair, not_negative, positive, precise


def softened_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² KL(softmax(t / T) ‖ softmax(s / T)) of each sample (N,), in nats, in [0, ∞).

    It is the sum over classes, not their mean. T² keeps the size of the gradient when T changes (Hinton et al. 2015,
    section 2); for large T the loss tends to half the squared distance of the centred logits, divided by K.

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K); they get no gradient.
        temperature: T > 0; above 1 it softens both.

    Raises:
        RecipeError: The shapes differ, or the temperature is not above 0.
    """
    positive(temperature, "Kd.temperature")
    student, teacher = logit_pair(student, teacher, "Kd")
    return temperature**2 * kl_divergence(teacher / temperature, student / temperature)


def cross_entropy(student: Tensor, label: Tensor) -> Tensor:
    """Return -log softmax(s)_y of each sample (N,), in nats, in [0, ∞): the loss of the hard label.

    Args:
        student: Logits (N, K).
        label: Classes y (N,), int64.

    Raises:
        RecipeError: A label is outside [0, K).
    """
    return F.cross_entropy(precise(student), class_labels(label, student, "cross_entropy"), reduction="none")


def soft_and_hard(
    student: Tensor, teacher: Tensor, label: Tensor, alpha: float = 0.5, temperature: float = 4.0
) -> Tensor:
    """Return α CE(s, y) + (1 - α) T² KL(softmax(t / T) ‖ softmax(s / T)) of each sample (N,), in [0, ∞).

    The weighted average of two objectives of Hinton et al. (2015, section 2), the hard one at temperature 1. In a
    recipe the weights of the two losses say the same.

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K); they get no gradient.
        label: Classes y (N,), int64.
        alpha: α in [0, 1], the share of the hard label.
        temperature: T > 0.

    Raises:
        RecipeError: The shapes differ, a label is outside [0, K), or `alpha` or `temperature` is out of its range.
    """
    if not 0 <= alpha <= 1:
        raise RecipeError(f"soft_and_hard.alpha: expected a number in [0, 1], found {alpha}")
    soft = softened_kl(student, teacher, temperature)
    return alpha * cross_entropy(student, label) + (1 - alpha) * soft


def adversarial_training(
    student: Tensor, teacher: Tensor, label: Tensor, weight: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """Return CE(s, y) + λ T² KL(softmax(t / T) ‖ softmax(s / T)) of each sample (N,), in [0, ∞).

    Adversarial training inside distillation: `student` are the logits of the attacked images, `teacher` those of the
    same images unharmed.

    Args:
        student: Logits (N, K) of the attacked images.
        teacher: Logits (N, K) of the clean images; they get no gradient.
        label: Classes y (N,), int64.
        weight: λ of at least 0.
        temperature: T > 0.

    Raises:
        RecipeError: The shapes differ, a label is outside [0, K), or `weight` or `temperature` is out of its range.
    """
    not_negative(weight, "adversarial_training.weight")
    return cross_entropy(student, label) + weight * softened_kl(student, teacher, temperature)


@final
class Kd(LogitLoss):
    """Knowledge distillation: T² KL(teacher ‖ student) of softened probabilities (Hinton et al. 2015).

    Args:
        temperature: T > 0; above 1 it softens both.

    Raises:
        RecipeError: The temperature is not above 0.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        positive(temperature, "Kd.temperature")
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss of each sample (N,); see `softened_kl`."""
        return softened_kl(student, teacher, self.temperature)

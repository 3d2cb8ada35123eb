"""Decoupled knowledge distillation: the target class and the others apart (Zhao et al., CVPR 2022)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.losses.base import LogitLoss
from limbeck.losses.tensors import class_labels, kl_divergence, logit_pair, not_negative, positive, without_target


def tckd(student: Tensor, teacher: Tensor, label: Tensor | None, temperature: float = 1.0) -> Tensor:
    """Return TCKD = T² KL(b(t) ‖ b(s)) of each sample (N,), in nats, in [0, ∞).

    b(z) = (p_y, 1 - p_y) with p = softmax(z / T): target class or not (Zhao et al. 2022, section 3.1).

    Args:
        student: Logits s (N, K).
        teacher: Logits t (N, K); they get no gradient.
        label: Target classes y (N,), int64.
        temperature: T > 0.

    Raises:
        RecipeError: The shapes differ, labels are missing or outside [0, K), or the temperature is not above 0.
    """
    positive(temperature, "Dkd.temperature")
    student, teacher = logit_pair(student, teacher, "Dkd")
    label = class_labels(label, student, "Dkd")
    return temperature**2 * kl_divergence(_binary(teacher / temperature, label), _binary(student / temperature, label))


def _binary(logits: Tensor, label: Tensor) -> Tensor:
    """Return logits (N, 2) of "target" and "not target"; log-sum-exp keeps 1 - p_y exact where p_y rounds to 1."""
    target = logits.gather(1, label[:, None]).squeeze(1)
    return torch.stack([target, without_target(logits, label).logsumexp(1)], dim=1)


def nckd(student: Tensor, teacher: Tensor, label: Tensor | None, temperature: float = 1.0) -> Tensor:
    """Return NCKD = T² KL(p̂(t) ‖ p̂(s)) of each sample (N,), in nats, in [0, ∞).

    p̂(z) is the softmax of z / T over the K - 1 classes other than the target (Zhao et al. 2022, section 3.1).

    Args:
        student: Logits s (N, K).
        teacher: Logits t (N, K); they get no gradient.
        label: Target classes (N,), int64.
        temperature: T > 0.

    Raises:
        RecipeError: The shapes differ, labels are missing or outside [0, K), or the temperature is not above 0.
    """
    positive(temperature, "Dkd.temperature")
    student, teacher = logit_pair(student, teacher, "Dkd")
    label = class_labels(label, student, "Dkd")
    goal, output = without_target(teacher, label), without_target(student, label)
    return temperature**2 * kl_divergence(goal / temperature, output / temperature)


def dkd(
    student: Tensor,
    teacher: Tensor,
    label: Tensor | None,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    target_temperature: float = 4.0,
    non_target_temperature: float = 4.0,
) -> Tensor:
    """Return α TCKD + β NCKD of each sample (N,), in [0, ∞) (Zhao et al. 2022, section 3.3).

    Plain distillation is TCKD + (1 - p_y) NCKD (eq. 7), p_y the teacher's softened probability of the target: it
    hushes what a sure teacher says about the other classes, and β in its place does not.

    The paper has one temperature and writes no T²; its code multiplies both parts by T², and so does this. The code
    hides the target from the softmax by subtracting 1000 from its scaled logit, here it is left out, which is the
    same to rounding for logits of usual size. The code raises the weight of the loss linearly over the first 20
    epochs: in a recipe that is the loss's weight, with `ramp`.

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K); they get no gradient.
        label: Target classes (N,), int64.
        alpha: α of at least 0.
        beta: β of at least 0.
        target_temperature: T > 0 of TCKD.
        non_target_temperature: T > 0 of NCKD.

    Raises:
        RecipeError: The shapes differ, labels are missing or outside [0, K), or a number is out of its range.
    """
    _check(alpha, beta, target_temperature, non_target_temperature)
    target = tckd(student, teacher, label, target_temperature)
    return alpha * target + beta * nckd(student, teacher, label, non_target_temperature)


def _check(alpha: float, beta: float, target_temperature: float, non_target_temperature: float) -> None:
    not_negative(alpha, "Dkd.alpha")
    not_negative(beta, "Dkd.beta")
    positive(target_temperature, "Dkd.target_temperature")
    positive(non_target_temperature, "Dkd.non_target_temperature")


@final
class Dkd(LogitLoss):
    """Decoupled knowledge distillation: α TCKD + β NCKD (Zhao et al. 2022). Needs labels.

    Args:
        alpha: Weight α of at least 0 of the target class.
        beta: Weight β of at least 0 of the other classes; the paper chooses it by how sure the teacher is.
        temperature: T > 0 of both parts.
        target_temperature: T > 0 of the target class; null takes `temperature`.
        non_target_temperature: T > 0 of the other classes; null takes `temperature`.

    Raises:
        RecipeError: A number is out of its range.
    """

    needs_label = True

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        target_temperature: float | None = None,
        non_target_temperature: float | None = None,
    ) -> None:
        super().__init__()
        positive(temperature, "Dkd.temperature")
        self.alpha, self.beta = alpha, beta
        self.target_temperature = temperature if target_temperature is None else target_temperature
        self.non_target_temperature = temperature if non_target_temperature is None else non_target_temperature
        _check(alpha, beta, self.target_temperature, self.non_target_temperature)

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss of each sample (N,); see `dkd`."""
        return dkd(
            student,
            teacher,
            label,
            alpha=self.alpha,
            beta=self.beta,
            target_temperature=self.target_temperature,
            non_target_temperature=self.non_target_temperature,
        )

"""Normalised knowledge distillation: soft target and normalised non-target classes (Yang et al., ICCV 2023)."""

from __future__ import annotations

from typing import final

from torch import Tensor

from limbeck.losses.base import LogitLoss
from limbeck.losses.tensors import class_labels, logit_pair, not_negative, positive, without_target


def nkd(
    student: Tensor, teacher: Tensor, label: Tensor | None, *, gamma: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """Return -p_y log q_y - γ T² Σ_{i≠y} p̂_i log q̂_i of each sample (N,), in nats, in [0, ∞).

    p, q: the softmax of the teacher's and the student's logits at temperature 1. p̂, q̂: the softmax over the K - 1
    classes other than the target, of logits / T (Yang et al. 2023, section 3.1; T is the paper's λ). Both parts are
    cross-entropies: they are not 0 where the student equals the teacher, and the first pulls q_y towards 1 by as much
    as the teacher trusts the label. T² is in the published code and here.

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K); they get no gradient.
        label: Target classes y (N,), int64.
        gamma: γ of at least 0; 1.5 in the paper.
        temperature: T > 0; 1 in the paper.

    Raises:
        RecipeError: The shapes differ, labels are missing or outside [0, K), or a number is out of its range.
    """
    _check(gamma, temperature)
    student, teacher = logit_pair(student, teacher, "Nkd")
    label = class_labels(label, student, "Nkd")
    target = label[:, None]
    trust = teacher.softmax(1).gather(1, target).squeeze(1)
    log_q = student.log_softmax(1).gather(1, target).squeeze(1)
    goal = (without_target(teacher, label) / temperature).softmax(1)
    output = (without_target(student, label) / temperature).log_softmax(1)
    return -trust * log_q - gamma * temperature**2 * (goal * output).sum(1)


def _check(gamma: float, temperature: float) -> None:
    not_negative(gamma, "Nkd.gamma")
    positive(temperature, "Nkd.temperature")


@final
class Nkd(LogitLoss):
    """Normalised knowledge distillation: the soft target, and the other classes among themselves. Needs labels.

    Yang et al. 2023.

    Args:
        gamma: Weight γ of at least 0 of the other classes.
        temperature: T > 0 of the other classes.

    Raises:
        RecipeError: A number is out of its range.
    """

    needs_label = True

    def __init__(self, gamma: float = 1.5, temperature: float = 1.0) -> None:
        super().__init__()
        _check(gamma, temperature)
        self.gamma, self.temperature = gamma, temperature

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss of each sample (N,); see `nkd`."""
        return nkd(student, teacher, label, gamma=self.gamma, temperature=self.temperature)

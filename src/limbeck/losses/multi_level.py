"""Multi-level logit distillation: instances, batch and classes, at several temperatures (Jin et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.base import LogitLoss
from limbeck.losses.gather import gathered
from limbeck.losses.tensors import full_precision, kl_divergence, logit_pair, not_negative, positive


def instance_level(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T² / N Σ_i KL(p_i ‖ q_i), a scalar in [0, ∞); p, q are the softmax (N, K) of logits / T."""
    return temperature**2 * kl_divergence(teacher / temperature, student / temperature).mean()


def batch_level(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ‖p pᵀ - q qᵀ‖² / N, a scalar in [0, N]: how alike two samples are.

    As ‖pᵀ p‖² - 2 ‖pᵀ q‖² + ‖qᵀ q‖², K x K each, where N may be all pixels of a batch; in float64, because it cancels.
    """
    q, p = (student.double() / temperature).softmax(1), (teacher.double() / temperature).softmax(1)
    with full_precision(p):
        pp, pq, qq = ((a.T @ b).square().sum() for a, b in ((p, p), (p, q), (q, q)))
        return ((pp - 2 * pq + qq) / len(p)).to(student.dtype)


def class_level(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ‖pᵀ p - qᵀ q‖² / K, a scalar in [0, 2 N² / K]: which classes go together."""
    q, p = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    with full_precision(p):
        return (p.T @ p - q.T @ q).square().sum() / p.shape[1]


def multi_level(
    student: Tensor,
    teacher: Tensor,
    *,
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
    instance: float = 1.5,
    batch: float = 0.5,
    classes: float = 0.5,
) -> Tensor:
    """Return Σ_T (a L_instance + b L_batch + c L_class), a scalar in [0, ∞) (Jin et al. 2023, section 3).

    The paper adds the three levels with equal weights. It also shows the student two views of each image, weakly and
    strongly augmented; a logit loss sees one view, so this is *not* the paper's method but its loss on that view.
    The default weights are what the published code gives when its two views are the same image: the instance level
    counts the strong view once and the weak one by half, the other levels the weak one by half. The half comes from
    masks of the samples and classes of at most median confidence: the code multiplies them with losses that are
    already reduced to a number, so each mask only scales by its mean. The code's cross-entropy counts both views,
    which is twice this one's.

    It couples the samples of a batch, and so is computed over the batches of all processes, with gradient.

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K); they get no gradient.
        temperatures: Every T > 0, at least one; the paper's prediction augmentation. The code's are the default.
        instance: Weight a of at least 0.
        batch: Weight b of at least 0.
        classes: Weight c of at least 0.

    Raises:
        RecipeError: The shapes differ, there is no temperature, or a number is out of its range.
    """
    _check(temperatures, instance, batch, classes)
    student, teacher = logit_pair(student, teacher, "MultiLevel")
    student, teacher = gathered(student), gathered(teacher)
    levels = [
        instance * instance_level(student, teacher, temperature)
        + batch * batch_level(student, teacher, temperature)
        + classes * class_level(student, teacher, temperature)
        for temperature in temperatures
    ]
    return torch.stack(levels).sum()


def _check(temperatures: Sequence[float], instance: float, batch: float, classes: float) -> None:
    if not temperatures:
        raise RecipeError("MultiLevel.temperatures: expected at least one number above 0, found none")
    for temperature in temperatures:
        positive(temperature, "MultiLevel.temperatures")
    not_negative(instance, "MultiLevel.instance")
    not_negative(batch, "MultiLevel.batch")
    not_negative(classes, "MultiLevel.classes")


@final
class MultiLevel(LogitLoss):
    """Multi-level logit distillation on one view of each image (Jin et al. 2023); see `multi_level`.

    Args:
        temperatures: Every T > 0, at least one.
        instance: Weight of at least 0 of the divergence of each sample.
        batch: Weight of at least 0 of the similarities between samples.
        classes: Weight of at least 0 of the correlations between classes.

    Raises:
        RecipeError: There is no temperature, or a number is out of its range.
    """

    couples = True

    def __init__(
        self,
        temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0),
        instance: float = 1.5,
        batch: float = 0.5,
        classes: float = 0.5,
    ) -> None:
        super().__init__()
        _check(temperatures, instance, batch, classes)
        self.temperatures = tuple(temperatures)
        self.instance, self.batch, self.classes = instance, batch, classes

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar that couples the batch; see `multi_level`."""
        return multi_level(
            student,
            teacher,
            temperatures=self.temperatures,
            instance=self.instance,
            batch=self.batch,
            classes=self.classes,
        )

"""DIST: distillation from a stronger teacher by correlation instead of equality (Huang et al., NeurIPS 2022)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.base import LogitLoss
from limbeck.losses.gather import gathered
from limbeck.losses.tensors import logit_pair, not_negative, positive


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation of each row of `a` with that of `b`, (M, L) to (M,), in [-1, 1].

    ρ = Σ (a - ā)(b - b̄) / (‖a - ā‖ ‖b - b̄‖ + 10⁻⁸), with the published code's 10⁻⁸: a constant row has ρ = 0, and
    rows of tiny spread (columns of classes that are hardly ever predicted) are drawn towards 0.
    """
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    spread = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    correlation: Tensor = (a * b).sum(1) / (spread + 1e-8)
    return correlation


def dist(
    student: Tensor, teacher: Tensor, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """Return T² (β L_inter + γ L_intra), a scalar in [0, 2 T² (β + γ)].

    With p, q the softmax of logits / T, N x K: L_inter = 1 - 1/N Σ_i ρ(q_i, p_i) over rows, how the classes stand to
    each other in a sample, and L_intra = 1 - 1/K Σ_j ρ(q_j, p_j) over columns, how the samples stand to each other
    in a class (Huang et al. 2022, section 4). T² is in the published code of the classification experiments.

    It couples the samples of a batch, and so is computed over the batches of all processes, with gradient.

    Args:
        student: Logits (N, K).
        teacher: Logits (N, K); they get no gradient.
        beta: β of at least 0.
        gamma: γ of at least 0.
        temperature: T > 0; 1 in the paper's ImageNet experiments, 4 in those on CIFAR-100, with β = γ = 2.

    Raises:
        RecipeError: The shapes differ, there are fewer than 2 samples, or a number is out of its range.
    """
    _check(beta, gamma, temperature)
    student, teacher = logit_pair(student, teacher, "Dist")
    student, teacher = gathered(student), gathered(teacher)
    if len(student) < 2:
        raise RecipeError(f"Dist: expected at least 2 samples in a batch to correlate, found {len(student)}")
    q, p = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    inter, intra = 1 - pearson(q, p).mean(), 1 - pearson(q.T, p.T).mean()
    return temperature**2 * (beta * inter + gamma * intra)


def _check(beta: float, gamma: float, temperature: float) -> None:
    not_negative(beta, "Dist.beta")
    not_negative(gamma, "Dist.gamma")
    positive(temperature, "Dist.temperature")


@final
class Dist(LogitLoss):
    """DIST: correlations between classes in a sample and between samples in a class (Huang et al. 2022).

    Args:
        beta: Weight β of at least 0 of the relations between classes.
        gamma: Weight γ of at least 0 of the relations between samples.
        temperature: T > 0.

    Raises:
        RecipeError: A number is out of its range.
    """

    couples = True

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        _check(beta, gamma, temperature)
        self.beta, self.gamma, self.temperature = beta, gamma, temperature

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar that couples the batch; see `dist`."""
        return dist(student, teacher, beta=self.beta, gamma=self.gamma, temperature=self.temperature)

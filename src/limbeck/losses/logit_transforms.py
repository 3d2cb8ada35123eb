"""What can be done to logits before a loss compares them; each is also a loss around any other loss of logits."""

from __future__ import annotations

import math
from typing import Literal, final, get_args

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.base import LogitLoss
from limbeck.losses.tensors import logit_pair, positive, precise

Remainder = Literal["renormalise", "uniform"]

# How far below the largest logit a dropped class is put: exp(-10⁶ / T) is 0 in float64 for every T below 1340.
_DROPPED = 1e6


def standardised(logits: Tensor) -> Tensor:
    """Return (z - mean z) / (std z + 10⁻⁷) over the classes of each sample, (N, K) to (N, K) (Sun et al. 2024).

    Student and teacher then need not agree in range and variance, only in the relations between classes. The result
    does not change when a sample's logits are shifted or multiplied by a positive number. The paper divides the sum
    of squares by K, its code by K - 1, and so does this. Equal logits give 0, with a finite gradient.

    Args:
        logits: (N, K), K of at least 2.
    """
    logits = precise(logits)
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def sharpened(teacher: Tensor, temperature: float) -> Tensor:
    """Return logits (N, K) of the probabilities p^(1/τ) / Σ p^(1/τ), p = softmax(teacher): teacher / τ.

    Args:
        teacher: Logits (N, K).
        temperature: τ > 0; below 1 it sharpens, above 1 it softens.

    Raises:
        RecipeError: The temperature is not above 0.
    """
    positive(temperature, "Sharpened.temperature")
    return precise(teacher) / temperature


def top_k(teacher: Tensor, k: int, remainder: Remainder = "renormalise", temperature: float = 1.0) -> Tensor:
    """Return logits (N, K) that keep the k largest classes of each sample.

    The probability of the other classes, the remainder, is either given to the kept ones in proportion
    ("renormalise": the others get logits 10⁶ below the largest, hence probability 0), or spread over the others in
    equal parts ("uniform": each gets their log-mean-exp, T log(mean exp(z / T))). With "uniform" the kept
    probabilities of softmax(z / T) are unchanged at that T, and only there. Of equal logits any may be kept.

    Args:
        teacher: Logits (N, K).
        k: How many to keep, in [1, K].
        remainder: What becomes of the probability of the others.
        temperature: T > 0 at which "uniform" keeps the probabilities: that of the loss that follows.

    Raises:
        RecipeError: `k` is more than the classes, or an argument is out of its range.
    """
    _check_top_k(k, remainder, temperature)
    teacher = precise(teacher)
    classes = teacher.shape[1]
    if k > classes:
        raise RecipeError(f"TopK.k: expected at most the {classes} classes, found {k}")
    if k == classes:
        return teacher
    kept = torch.zeros_like(teacher, dtype=torch.bool).scatter(1, teacher.topk(k, dim=1).indices, True)
    if remainder == "renormalise":
        return torch.where(kept, teacher, teacher.amax(1, keepdim=True) - _DROPPED)
    others = (teacher / temperature).masked_fill(kept, -math.inf).logsumexp(1, keepdim=True)
    return torch.where(kept, teacher, temperature * (others - math.log(classes - k)))


def _check_top_k(k: int, remainder: str, temperature: float) -> None:
    if k < 1:
        raise RecipeError(f"TopK.k: expected a whole number of at least 1, found {k}")
    if remainder not in get_args(Remainder):
        raise RecipeError(f"TopK.remainder: expected 'renormalise' or 'uniform', found {remainder!r}")
    positive(temperature, "TopK.temperature")


@final
class Standardised(LogitLoss):
    """Logit standardisation: another loss on the z-scores of both networks' logits (Sun et al., CVPR 2024).

    The paper's code uses it with temperature 2. Around `MultiLevel` it standardises all levels, the paper's code only
    the divergence of the instances.

    Args:
        loss: The loss that compares the z-scores.
    """

    def __init__(self, loss: LogitLoss) -> None:
        super().__init__()
        self.loss, self.needs_label, self.couples = loss, loss.needs_label, loss.couples

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return what the loss gives for the standardised logits."""
        student, teacher = logit_pair(student, teacher, "Standardised")
        value: Tensor = self.loss(standardised(student), standardised(teacher), label)
        return value


@final
class Sharpened(LogitLoss):
    """Soft-label sharpening: another loss with the teacher's probabilities raised to 1/τ and renormalised.

    Only the teacher is changed: a loss at temperature T then compares the teacher at T·τ with the student at T, which
    decouples their temperatures.

    Args:
        loss: The loss that follows the sharpened teacher.
        temperature: τ > 0; below 1 it sharpens, above 1 it softens.

    Raises:
        RecipeError: The temperature is not above 0.
    """

    def __init__(self, loss: LogitLoss, temperature: float = 0.5) -> None:
        super().__init__()
        positive(temperature, "Sharpened.temperature")
        self.loss, self.needs_label, self.couples = loss, loss.needs_label, loss.couples
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return what the loss gives for the sharpened teacher."""
        student, teacher = logit_pair(student, teacher, "Sharpened")
        value: Tensor = self.loss(student, sharpened(teacher, self.temperature), label)
        return value


@final
class TopK(LogitLoss):
    """Top-k soft labels: another loss with a teacher that keeps its k largest classes; see `top_k`.

    Args:
        loss: The loss that follows the changed teacher.
        k: How many classes to keep, at least 1.
        remainder: "renormalise" gives the probability of the others to the kept, "uniform" spreads it over the others.
        temperature: T > 0 at which "uniform" keeps the probabilities: that of `loss`.

    Raises:
        RecipeError: An argument is out of its range, or `loss` standardises the logits whose tail is cut off here:
            z-scores of what "renormalise" leaves would say nothing. `Standardised` goes around `TopK`.
    """

    def __init__(
        self, loss: LogitLoss, k: int = 5, remainder: Remainder = "renormalise", temperature: float = 1.0
    ) -> None:
        super().__init__()
        _check_top_k(k, remainder, temperature)
        if any(isinstance(part, Standardised) for part in loss.modules()):
            raise RecipeError("TopK.loss: expected a loss that does not standardise; put Standardised around TopK")
        self.loss, self.needs_label, self.couples = loss, loss.needs_label, loss.couples
        self.k, self.remainder, self.temperature = k, remainder, temperature

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return what the loss gives for the teacher's k largest classes."""
        student, teacher = logit_pair(student, teacher, "TopK")
        goal = top_k(teacher, self.k, self.remainder, self.temperature)
        value: Tensor = self.loss(student, goal, label)
        return value

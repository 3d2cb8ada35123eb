"""Supervised training of a classifier with cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.base import precise
from limbeck.methods.base import Method
from limbeck.types import Batch, Update


@final
class Supervised(Method):
    """One player: the student learns the labels.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K).
        label_smoothing: ε in [0, 1): the label is 1 - ε + ε/K for the true class and ε/K for the others (Szegedy et
            al. 2016, section 7).

    Raises:
        RecipeError: `label_smoothing` is out of its range, or the data has no labels.
    """

    losses: ClassVar[Mapping[str, float]] = {"student.cross_entropy": 1.0}

    def __init__(self, student: nn.Module, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise RecipeError(f"supervised.label_smoothing: expected a number in [0, 1), found {label_smoothing}")
        self.student = student
        self.label_smoothing = label_smoothing

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student."""
        return {"student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update: the mean cross-entropy, in nats."""
        image, label = batch.image, batch.label
        if image is None or label is None:
            raise RecipeError("supervised: expected data with images and labels, found none; choose a labelled set")

        def cross_entropy() -> Tensor:
            logits = precise(self.student(image))
            return F.cross_entropy(logits, label, label_smoothing=self.label_smoothing)

        yield Update("student", {"cross_entropy": cross_entropy})

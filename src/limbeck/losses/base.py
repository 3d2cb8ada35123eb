"""What every loss shares: its numbers are at least float32, and what it compares has one shape.

Losses are pure functions. Those that a recipe can choose between, and those that own something, are also classes: a
`LogitLoss` or a `FeatureLoss` in the file of its function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.types import Draw


def precise(tensor: Tensor) -> Tensor:
    """Return `tensor` as float32 if it is narrower (bf16, fp16), else as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def same_shape(student: Tensor, teacher: Tensor, what: str) -> None:
    """Refuse tensors that would only be compared by broadcasting.

    Raises:
        RecipeError: The shapes differ.
    """
    if student.shape != teacher.shape:
        raise RecipeError(
            f"{what}: expected the same shape of student and teacher,"
            f" found {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


class LogitLoss(nn.Module, ABC):
    """How a student's logits follow a teacher's. A subclass is final, and computes nothing but a pure function.

    A recipe chooses it by name: `logits: {class_path: Kd, init_args: {temperature: 4.0}}`.
    """

    needs_label: ClassVar[bool] = False

    @abstractmethod
    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss of each sample (N,), or a scalar where it couples the samples of a batch.

        Args:
            student: Logits (N, K).
            teacher: Logits (N, K) of the same images, without gradient.
            label: Classes (N,), int64; never None where `needs_label`.

        Raises:
            RecipeError: The shapes differ.
        """


class FeatureLoss(nn.Module, ABC):
    """How a student's features follow a teacher's. What it owns (adapters, variances, memory) trains with the student.

    A recipe chooses it by name and says which modules' outputs it compares:
    `features: {class_path: Hint, init_args: {paths: {layer2: layer2}}}`. It is built before the networks are known,
    so what it owns is made in `fit_to`, which the method calls once with the shapes that the networks show.

    Attributes:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
    """

    paths: Mapping[str, str]
    needs_label: ClassVar[bool] = False
    needs_index: ClassVar[bool] = False

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make what the loss owns for features of these shapes, one sample's each: (C, H, W) or (D,).

        Raises:
            RecipeError: The features of a pair cannot be compared.
        """

    def draws(self) -> Mapping[str, Draw]:
        """Return what the loss needs drawn for every sample, by name; the method passes it on in `drawn`."""
        return {}

    @abstractmethod
    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: Features of each path, (N, C, H, W) or (N, D).
            teacher: The same of the teacher, without gradient.
            label: Classes (N,), int64; never None where `needs_label`.
            index: Positions (N,) in the data set, int64; never None where `needs_index`.
            drawn: What `draws` declared.
        """

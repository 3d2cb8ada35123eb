"""What every loss shares: its numbers are at least float32, and what it compares has one shape."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import RecipeError


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

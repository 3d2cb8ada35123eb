"""Tensors as losses want them: at least float32, of one shape, of a rank they know; logits, labels and vectors.

What is refused is refused in one line that begins with who asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError


def precise(tensor: Tensor) -> Tensor:
    """Return `tensor` as float32 if it is narrower (bf16, fp16), else as it is."""
    return tensor if tensor.dtype == torch.float32 else tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def related(features: Tensor, what: str) -> None:
    """Refuse a batch in which there is nothing to relate: the loss would be 0 whatever the student says.

    Args:
        features: (N, ...).
        what: What asks.

    Raises:
        RecipeError: There are fewer than 2 samples.
    """
    if len(features) < 2:
        raise RecipeError(
            f"{what}: expected at least 2 samples in a batch, as it compares them, found {len(features)}; make"
            " training.batch larger or training.micro_batches fewer"
        )


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


def full_precision(tensor: Tensor) -> torch.autocast:
    """Return a context in which the products of matrices on `tensor`'s device are not narrowed by autocast."""
    return torch.autocast(tensor.device.type, enabled=False)


def unit(vectors: Tensor, dim: int = 1) -> Tensor:
    """Return x / ‖x‖₂ along `dim`; a zero vector stays zero, with a finite gradient."""
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / norm.where(norm > 0, 1)


def embedding(features: Tensor) -> Tensor:
    """Return one vector a sample (N, D), at least float32: maps (N, D, H, W) are averaged over their positions."""
    return precise(features).flatten(2).mean(2) if features.ndim > 2 else precise(features)


def place_cosines(features: Tensor) -> Tensor:
    """Return how alike any two places of an image are: the cosines (N, HW, HW) of features (N, C, H, W), in [-1, 1]."""
    places = unit(precise(features).flatten(2))
    with full_precision(places):
        return places.transpose(1, 2) @ places


def pooled_alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both, at least float32, average-pooled to the smaller height and width; vectors as they are."""
    student, teacher = precise(student), precise(teacher)
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def pointwise(shape: Sequence[int], inputs: int, outputs: int, bias: bool = True) -> nn.Module:
    """Return a linear map of widths: a 1x1 convolution for features (C, H, W), a linear layer for (D,)."""
    return nn.Conv2d(inputs, outputs, 1, bias=bias) if len(shape) == 3 else nn.Linear(inputs, outputs, bias=bias)


def pixel_classes(label: Tensor | None, features: Tensor, what: str) -> Tensor:
    """Return the class of each place of `features` (N, C, h, w): that of the nearest pixel, (N, h, w), int64, or void.

    "Nearest" is the one of the published codes: of the pixels that a place stands for, the upper left.

    Args:
        label: Masks (N, H, W), int64.
        features: (N, C, h, w).
        what: What the message begins with.

    Raises:
        RecipeError: There are no masks, or something else in their place.
    """
    if label is None or label.ndim != 3 or len(label) != len(features) or label.dtype != torch.int64:
        found = "none" if label is None else f"{tuple(label.shape)} {label.dtype}"
        raise RecipeError(
            f"{what}: expected masks ({len(features)}, H, W) int64 with the class of each pixel, found {found};"
            " choose a set with masks"
        )
    return F.interpolate(label[:, None].float(), features.shape[2:], mode="nearest")[:, 0].long()


def positive(value: float, key: str) -> None:
    """Refuse a temperature, or another number, that is not above 0.

    Raises:
        RecipeError: It is 0, negative, infinite or not a number. The message names `key`.
    """
    if not (math.isfinite(value) and value > 0):
        raise RecipeError(f"{key}: expected a number above 0, found {value}")


def not_negative(value: float, key: str) -> None:
    """Refuse a weight below 0.

    Raises:
        RecipeError: It is negative, infinite or not a number. The message names `key`.
    """
    if not (math.isfinite(value) and value >= 0):
        raise RecipeError(f"{key}: expected a number of at least 0, found {value}")


def logit_pair(student: Tensor, teacher: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Return both logits (N, K) in float32 or wider, the teacher's without gradient.

    Raises:
        RecipeError: They are not (N, K) with K of at least 2, or differ in N or K. The message begins with `what`.
    """
    if student.ndim == 2 and teacher.ndim == 2 and student.shape[1] != teacher.shape[1]:
        found = f"{student.shape[1]} of the student and {teacher.shape[1]} of the teacher"
        raise RecipeError(f"{what}: expected logits of the same classes, found {found}; give both the same classes")
    same_shape(student, teacher, what)
    if student.ndim != 2 or student.shape[1] < 2:
        raise RecipeError(f"{what}: expected logits (N, K) of at least 2 classes, found shape {tuple(student.shape)}")
    return precise(student), precise(teacher.detach())


def class_labels(label: Tensor | None, logits: Tensor, what: str) -> Tensor:
    """Return `label` after checking that it numbers the classes of `logits` (N, K).

    Raises:
        RecipeError: There are no labels, they are not whole numbers (N,), or one is outside [0, K).
    """
    samples, classes = logits.shape
    if label is None:
        raise RecipeError(f"{what}: expected labels, found none; choose a labelled set")
    if label.shape != (samples,) or label.dtype != torch.int64:
        raise RecipeError(f"{what}: expected labels ({samples},) int64, found {tuple(label.shape)} {label.dtype}")
    outside = label[(label < 0) | (label >= classes)]
    if outside.numel():
        raise RecipeError(f"{what}: expected labels in [0, {classes}), found {int(outside[0])}")
    return label


def without_target(logits: Tensor, label: Tensor) -> Tensor:
    """Return the logits (N, K - 1) of all classes but each sample's own, in their order."""
    others = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(logits), -1)
    return logits.gather(1, others + (others >= label[:, None]))


def kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(p ‖ q) = Σ p (log p - log q), p = softmax(teacher), q = softmax(student), over the last dimension.

    In nats, in [0, ∞) but for rounding; finite, with its gradient, for any finite logits.
    """
    log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)

"""What every loss shares: its numbers are at least float32, and what it compares has one shape.

Losses are pure functions. Those that a recipe can choose between, and those that own something, are also classes: a
`LogitLoss` or a `FeatureLoss` in the file of its function.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from limbeck.errors import RecipeError, require
from limbeck.types import Draw


def precise(tensor: Tensor) -> Tensor:
    """Return `tensor` as float32 if it is narrower (bf16, fp16), else as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


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


def gathered(tensor: Tensor) -> Tensor:
    """Return the samples of all processes (N, ...), in the order of the global batch, with gradient.

    The gradient of a process comes back from the losses of all of them, so that its mean over the processes is that
    of one process with the whole batch. One process gets `tensor` itself.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return tensor
    found: Tensor = _Gather.apply(tensor.contiguous())  # type: ignore[no-untyped-call]
    return found


class _Gather(torch.autograd.Function):
    """The samples of all processes. torch's own functions for it leave threads that hang or abort at the exit."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[own_part(len(total) // distributed.get_world_size())]


def own_part(count: int) -> slice:
    """Return where the `count` samples of this process stand in what `gathered` returns."""
    rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
    return slice(rank * count, (rank + 1) * count)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask` is true, over the samples of all processes; 0 where there are none.

    A process has only its own part of the sum, so it is scaled such that the mean of what all of them return, by which
    the engine averages gradients, is the mean over the pixels of the global batch.

    Args:
        values: Any shape.
        mask: The same shape, bool.
    """
    same_shape(values, mask, "masked_mean")
    count = mask.sum().to(values.dtype)
    total = values.where(mask, 0).sum()  # what is not finite outside the mask stays outside
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        distributed.all_reduce(count)
        total = total * distributed.get_world_size()
    return total / count.clamp(min=1)


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


class LogitLoss(nn.Module, ABC):
    """How a student's logits follow a teacher's. A subclass is final, and computes nothing but a pure function.

    A recipe chooses it by name: `logits: {class_path: Kd, init_args: {temperature: 4.0}}`.

    Attributes:
        needs_label: Whether `forward` needs the labels. A loss around another one needs what that one needs.
    """

    room: ClassVar[str] = "logit losses"

    needs_label: bool = False

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

    room: ClassVar[str] = "feature losses"

    paths: Mapping[str, str]
    needs_label: ClassVar[bool] = False
    needs_index: ClassVar[bool] = False

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Check these shapes of one sample's features, (C, H, W) or (D,), and make what the loss owns for them.

        Raises:
            RecipeError: The features of a pair cannot be compared.
        """
        pairs(self, student, teacher, "any")

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
            label: Classes (N,), int64, of images, or (N, H, W) of pixels where those are to be told; never None where
                `needs_label`.
            index: Positions (N,) in the data set, int64; never None where `needs_index`.
            drawn: What `draws` declared.
        """


def check_paths(loss: nn.Module, paths: Mapping[str, str]) -> dict[str, str]:
    """Return the paths of a feature loss.

    Raises:
        RecipeError: There are none.
    """
    require(f"{type(loss).__name__}.paths", len(paths) > 0, "{student path: teacher path}", dict(paths))
    return dict(paths)


def pairs(
    loss: FeatureLoss,
    student: Sequence[tuple[int, ...]],
    teacher: Sequence[tuple[int, ...]],
    kind: Literal["maps", "alike", "any"],
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the two shapes of each path.

    Args:
        loss: Whose paths they are.
        student: Shape of one sample's features at each path.
        teacher: The same of the teacher.
        kind: "maps": both are (C, H, W). "alike": both are, or both are (D,). "any": each is one or the other.

    Raises:
        RecipeError: The shapes are of another kind.
    """
    found = list(zip(map(tuple, student), map(tuple, teacher), strict=True))
    expected = {
        "maps": "feature maps (C, H, W)",
        "alike": "two feature maps (C, H, W) or two vectors (D,)",
        "any": "feature maps (C, H, W) or vectors (D,)",
    }[kind]
    for (path, goal), (mine, theirs) in zip(loss.paths.items(), found, strict=True):
        ranks = {len(mine), len(theirs)}
        if not ranks <= ({3} if kind == "maps" else {1, 3}) or (kind == "alike" and len(ranks) == 2):
            raise RecipeError(
                f"{type(loss).__name__} {path!r} -> {goal!r}: expected {expected}, found {mine} and {theirs};"
                " choose other layers"
            )
    return found

"""Supervised training of a classifier, alone or from a teacher (Hinton et al. 2015; Romero et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.losses.tensors import precise
from limbeck.methods.followed import Followed, FollowedLesson
from limbeck.methods.legacy import Legacy
from limbeck.networks.handling.adapters import feature_shapes
from limbeck.networks.handling.frozen import Frozen
from limbeck.types import Batch, Draw, Update


@final
class Supervised(Legacy):
    """One player: the student learns the labels and, from a teacher, its logits, features and relations.

    Without a teacher this is plain training, and so its own control arm: what concerns a teacher is then left aside.
    The survey's α CE + (1 - α) KL is `weights: {student.cross_entropy: α, student.logits: 1 - α}` with `logits: Kd`;
    its CE + λ KL leaves the first weight at 1.

    * `student.cross_entropy`: cross-entropy with the label, in nats.
    * `student.logits`: how the logits follow the teacher's.
    * `student.features`, `student.relations`: how features follow the teacher's. The two are alike, so that two
      kinds of knowledge can be weighted apart.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K).
        teacher: Another one with the same classes.
        label_smoothing: ε in [0, 1): the label is 1 - ε + ε/K for the true class and ε/K for the others (Szegedy et
            al. 2016, section 7).
        logits: How logits follow the teacher's.
        features: How features follow the teacher's; both networks must state their `image_shape`.
        relations: Another such loss.

    Raises:
        RecipeError: `label_smoothing` is out of its range, a feature path names no module, features cannot be
            compared, or the data has no labels.
    """

    weights: ClassVar[Mapping[str, float]] = {
        "student.cross_entropy": 1.0,
        "student.logits": 1.0,
        "student.features": 1.0,
        "student.relations": 1.0,
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        label_smoothing: float = 0.0,
        logits: LogitLoss | None = None,
        features: FeatureLoss | None = None,
        relations: FeatureLoss | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise RecipeError(f"supervised.label_smoothing: expected a number in [0, 1), found {label_smoothing}")
        if teacher is not None and teacher is student:
            raise RecipeError("supervised.teacher: expected another network than the student (a copy), found the same")
        self.student = student
        self.label_smoothing = label_smoothing
        self.teacher = None if teacher is None else Frozen(teacher)
        self.logits = logits
        self.followed = Followed({"features": features, "relations": relations} if teacher is not None else {})
        self.followed.fit_to(lambda taught, paths: _shapes(teacher if taught else student, paths))

    def teacher_paths(self) -> list[str]:
        """Return the teacher's output and the features that are compared."""
        return ["", *self.followed.paths()[1]] if self.teacher is not None else []

    def draws(self) -> Mapping[str, Draw]:
        """Return what the feature losses draw."""
        return self.followed.draws()

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student, together with what its feature losses own."""
        return {"student": self.followed.beside(self.student)}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        if batch.image is None or batch.label is None:
            raise RecipeError("supervised: expected data with images and labels, found none; choose a labelled set")
        lesson = _Lesson(self, batch, batch.image, batch.label)
        losses = {"cross_entropy": lesson.cross_entropy}
        if self.teacher is not None and self.logits is not None:
            losses["logits"] = lesson.logits
        for name, loss in self.followed.losses().items():
            losses[name] = partial(lesson.features, name, loss)
        yield Update("student", losses)


class _Lesson(FollowedLesson):
    """The losses of one step."""

    def __init__(self, method: Supervised, batch: Batch, image: Tensor, label: Tensor) -> None:
        super().__init__((method.student, method.teacher), method.followed, batch, image, label)
        self.method = method

    def cross_entropy(self) -> Tensor:
        """Return the mean cross-entropy with the label."""
        return F.cross_entropy(precise(self.student[0]), self.label, label_smoothing=self.method.label_smoothing)

    def logits(self) -> Tensor:
        """Return the mean of the logit loss."""
        assert self.method.logits is not None
        loss: Tensor = self.method.logits(self.student[0], self.teacher[0], self.label)
        return loss.mean()


def _shapes(network: nn.Module | None, paths: list[str]) -> list[tuple[int, ...]]:
    shape: tuple[int, ...] | None = getattr(network, "image_shape", None)
    if network is None or shape is None:
        raise RecipeError(
            f"supervised.features: expected {type(network).__name__} to state its image_shape (C, H, W), found none"
        )
    weight = next(network.parameters(), torch.empty(0))
    return feature_shapes(network, paths, weight.new_zeros(2, *shape))

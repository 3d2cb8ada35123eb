"""Supervised training of a classifier, alone or from a teacher (Hinton et al. 2015; Romero et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, final

from torch import nn

from limbeck.methods.base import Default, Method, Terms
from limbeck.terms.base import Answers
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.types import Batch, Update


@final
class Supervised(Method):
    """One player: the student learns the labels and, from a teacher, its logits, features and relations.

    Without a teacher this is plain training, and so its own control arm. By default there is one term:

    * `student.cross_entropy`: cross-entropy with the label, in nats (`CrossEntropy`).

    What the student follows of its teacher are further terms: any loss of logits, features or relations, such as
    `terms: {student.logits: Kd}`. The survey's α CE + (1 - α) KL is that with `weights: {student.cross_entropy: α,
    student.logits: 1 - α}`; its CE + λ KL leaves the first weight at 1.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K).
        teacher: Another one with the same classes.
        terms: Terms that replace the default or stand beside it, by "player.term"; null takes it away.

    Raises:
        RecipeError: A term cannot work with these networks.
    """

    defaults: ClassVar[Mapping[str, Default]] = {"student.cross_entropy": Default(CrossEntropy)}
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "label_smoothing": "student.cross_entropy: {class_path: CrossEntropy, init_args: {label_smoothing: ...}}",
        "logits": "student.logits: ...",
        "features": "student.features: ...",
        "relations": "student.relations: ...",
    }
    answers: ClassVar[Answers] = "logits"
    needs: ClassVar[tuple[str, ...]] = ("image", "label")

    def __init__(self, student: nn.Module, teacher: nn.Module | None = None, *, terms: Terms | None = None) -> None:
        super().__init__()
        self.cast({"student": student}, {"teacher": teacher}, terms)

    def teacher_paths(self) -> Sequence[str]:
        """Return the teacher's output and the features that are compared."""
        return ["", *self.taps("teacher")] if self.has("teacher") else []

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        yield self.update_of("student", self.enter(batch, step))

"""Distillation at the decision boundary: where the teacher cannot decide, its soft labels say most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.attacks.boundary import Boundary, BoundarySearch, DeepFoolBoundary
from limbeck.errors import require
from limbeck.losses.gather import own_part, processes
from limbeck.losses.kd import Kd
from limbeck.methods.base import Default, Method, Terms
from limbeck.networks.handling.modes import evaluating
from limbeck.terms.base import Answers
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.terms.follow import FollowLogits
from limbeck.terms.stored_boundary import BoundaryStore, StoredBoundary
from limbeck.types import Batch, Update


@final
class BoundaryDistillation(Method):
    """The survey's three steps, in turn (Heo et al. 2019, arXiv:1805.05532, take samples of the teacher alone).

    1. Images are moved to where the teacher cannot decide between two classes, and stored.
    2. The student learns the teacher's soft labels there, beside those of the images themselves.
    3. The stored samples are renewed by the student's answers: each is moved on to where the *student* cannot decide,
       and the teacher says what is right there. Then it begins again, with new images.

    Every `interval` steps one batch is searched and takes the place of the oldest stored samples; 1 and 3 take turns
    each time the store has been gone through. What is found is learned from the next step on. Only samples that reached
    a boundary are used. Both networks are searched in evaluation mode. By default:

    * `student.cross_entropy`: cross-entropy with the label (`CrossEntropy`).
    * `student.logits`: T² KL(teacher ‖ student) on the images, T = 3 (`Kd`).
    * `student.boundary`: the same on as many stored samples, drawn anew in every step (`StoredBoundary`).

    Without a teacher only the cross-entropy is left: the control arm.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: Another one with the same classes, differentiable with respect to its input.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        search: What finds the boundary; null for five steps of DeepFool towards the two likeliest other classes.
        stored: How many samples are kept, over all processes: a part of every checkpoint.
        interval: Steps from one search to the next, at least 1.

    Raises:
        RecipeError: An argument is out of its range, the student does not say which images it takes; while training,
            the teacher gives no gradients.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "student.cross_entropy": Default(CrossEntropy),
        "student.logits": Default(lambda: FollowLogits(Kd(3.0))),
        "student.boundary": Default(StoredBoundary),
    }
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "temperature": "student.boundary: {class_path: StoredBoundary, init_args: {temperature: ...}},"
        " student.logits: {class_path: Kd, init_args: {temperature: ...}}"
    }
    answers: ClassVar[Answers] = "logits"
    needs: ClassVar[tuple[str, ...]] = ("image", "label")

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        terms: Terms | None = None,
        search: BoundarySearch | None = None,
        stored: int = 1024,
        interval: int = 4,
    ) -> None:
        super().__init__()
        require("stored", stored >= 1, "at least 1", stored)
        require("interval", interval >= 1, "at least 1", interval)
        self.student, self.interval = student, interval
        self.search = DeepFoolBoundary(steps=5, classes=2) if search is None else search
        shape = self.input()[1]
        self.store = None if teacher is None else BoundaryStore(stored, shape)
        self.cast({"student": student}, {"teacher": teacher}, terms)

    def teacher_paths(self) -> Sequence[str]:
        """Return the teacher's output on the images, and the features that are compared there."""
        return ["", *self.taps("teacher")] if self.has("teacher") else []

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update, after the search where one is due."""
        scene = self.enter(batch, step)
        if self.store is not None and step % self.interval == 0:
            self.store.collect(self._search(self.store, batch.need("image", "BoundaryDistillation")))
        yield self.update_of("student", scene)

    def moved(self, player: str, step: int) -> None:
        """Store what was found."""
        super().moved(player, step)
        if self.store is not None:
            self.store.renew()

    def _search(self, store: BoundaryStore, image: Tensor) -> Boundary:
        """Return new samples: at the teacher's boundary near images, or at the student's near the oldest samples."""
        if int(store.written) // store.stored % 2 == 0:
            return self.search(self.network("teacher"), image)
        part = own_part(len(image))
        first = store.found * processes() + int(store.written)  # after what other micro-batches moved on
        oldest = (first + torch.arange(part.start, part.stop, device=image.device)) % store.stored
        with evaluating(self.student):
            return self.search(self.student, store.samples[oldest])

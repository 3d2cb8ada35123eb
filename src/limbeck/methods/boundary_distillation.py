"""Distillation at the decision boundary: where the teacher cannot decide, its soft labels say most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.attacks.boundary import Boundary, BoundarySearch, DeepFoolBoundary
from limbeck.errors import RecipeError
from limbeck.losses.gather import gathered, own_part
from limbeck.losses.kd import cross_entropy, softened_kl
from limbeck.losses.tensors import positive
from limbeck.methods.legacy import Legacy
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.modes import evaluating
from limbeck.types import Batch, Draw, Update


@final
class BoundaryDistillation(Legacy):
    """The survey's three steps, in turn (Heo et al. 2019, arXiv:1805.05532, take samples of the teacher alone).

    1. Images are moved to where the teacher cannot decide between two classes, and stored.
    2. The student learns the teacher's soft labels there, beside those of the images themselves.
    3. The stored samples are renewed by the student's answers: each is moved on to where the *student* cannot decide,
       and the teacher says what is right there. Then it begins again, with new images.

    Every `interval` steps one batch is searched and takes the place of the oldest stored samples; 1 and 3 take turns
    each time the store has been gone through. Only samples that reached a boundary are used. Both networks are searched
    in evaluation mode.

    * `student.cross_entropy`: cross-entropy with the label.
    * `student.logits`: T² KL(teacher ‖ student) on the images.
    * `student.boundary`: the same on as many stored samples, drawn anew in every step.

    Without a teacher only the cross-entropy is left: the control arm.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: Another one with the same classes, differentiable with respect to its input.
        temperature: T > 0.
        search: What finds the boundary; null for five steps of DeepFool towards the two likeliest other classes.
        stored: How many samples are kept, over all processes: a part of every checkpoint.
        interval: Steps from one search to the next, at least 1.

    Raises:
        RecipeError: An argument is out of its range, the student does not say which images it takes; while training,
            the data has no labels, or the teacher gives no gradients.
    """

    weights: ClassVar[Mapping[str, float]] = {
        "student.cross_entropy": 1.0,
        "student.logits": 1.0,
        "student.boundary": 1.0,
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        temperature: float = 3.0,
        search: BoundarySearch | None = None,
        stored: int = 1024,
        interval: int = 4,
    ) -> None:
        super().__init__()
        positive(temperature, "BoundaryDistillation.temperature")
        for name, value in (("stored", stored), ("interval", interval)):
            if value < 1:
                raise RecipeError(f"BoundaryDistillation.{name}: expected at least 1, found {value}")
        shape = getattr(student, "image_shape", None)
        if shape is None:
            found = type(student).__name__
            raise RecipeError(f"BoundaryDistillation: expected {found} to state its image_shape (C, H, W), found none")
        self.student = student
        self.teacher = None if teacher is None else Frozen(teacher)
        self.search = DeepFoolBoundary(steps=5, classes=2) if search is None else search
        self.temperature, self.stored, self.interval = temperature, stored, interval
        self.samples: Tensor
        self.reached: Tensor
        self.written: Tensor
        if teacher is not None:
            self.register_buffer("samples", torch.zeros(stored, *shape))
            self.register_buffer("reached", torch.zeros(stored, dtype=torch.bool))
            self.register_buffer("written", torch.tensor(0))  # how many were ever stored

    def teacher_paths(self) -> list[str]:
        """Return the teacher's output on the images."""
        return [] if self.teacher is None else [""]

    def draws(self) -> Mapping[str, Draw]:
        """Return which stored samples are learned."""
        return {} if self.teacher is None else {"boundary.which": Draw((), "integers", high=self.stored)}

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student."""
        return {"student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update, after the search where one is due."""
        if batch.image is None or batch.label is None:
            raise RecipeError("BoundaryDistillation: expected data with images and labels; choose a labelled set")
        image, label = batch.image, batch.label
        logits = self.student(image)
        losses = {"cross_entropy": lambda: cross_entropy(logits, label).mean()}
        if self.teacher is not None:
            if step % self.interval == 0:
                self._store(self._search(image))
            losses["logits"] = lambda: softened_kl(logits, self._taught(batch), self.temperature).mean()
            losses["boundary"] = lambda: self._at_the_boundary(batch.drawn["boundary.which"])
        yield Update("student", losses)

    def _search(self, image: Tensor) -> Boundary:
        """Return new samples: at the teacher's boundary near images, or at the student's near the oldest samples."""
        assert self.teacher is not None
        if int(self.written) // self.stored % 2 == 0:
            return self.search(self.teacher, image)
        part = own_part(len(image))
        oldest = (self.written + torch.arange(part.start, part.stop, device=image.device)) % self.stored
        with evaluating(self.student):
            return self.search(self.student, self.samples[oldest])

    @torch.no_grad()
    def _store(self, found: Boundary) -> None:
        samples, reached = gathered(found.samples)[: self.stored], gathered(found.reached)[: self.stored]
        place = (self.written + torch.arange(len(samples), device=samples.device)) % self.stored
        self.samples[place], self.reached[place] = samples.to(self.samples), reached
        self.written += len(samples)

    @torch.no_grad()
    def _taught(self, batch: Batch) -> Tensor:
        assert self.teacher is not None and batch.image is not None
        stored = batch.taught.get("")
        return self.teacher(batch.image) if stored is None else stored

    def _at_the_boundary(self, which: Tensor) -> Tensor:
        """Return the mean divergence at the drawn samples; one that reached no boundary counts as 0."""
        assert self.teacher is not None
        place = which % min(int(self.written), self.stored)
        with torch.no_grad():
            answer = self.teacher(self.samples[place])
        divergence = softened_kl(self.student(self.samples[place]), answer, self.temperature)
        return (divergence * self.reached[place]).mean()

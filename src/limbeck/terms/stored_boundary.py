"""Samples at a decision boundary, kept from step to step, and what the student learns there (Heo et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.attacks.boundary import Boundary
from limbeck.errors import require
from limbeck.losses.gather import gathered
from limbeck.losses.kd import softened_kl
from limbeck.losses.tensors import positive, precise
from limbeck.terms.base import Answers, Cast, Term
from limbeck.terms.scene import Scene
from limbeck.types import Draw


@final
class BoundaryStore(nn.Module):
    """The latest samples at a boundary: a part of every checkpoint.

    What is found during a step is stored when the student has moved, so that it does not matter into how many
    micro-batches the step is split.

    Args:
        stored: How many samples are kept, over all processes.
        shape: Shape of one, (C, H, W).
    """

    samples: Tensor
    reached: Tensor
    written: Tensor

    def __init__(self, stored: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.stored = stored
        self.register_buffer("samples", torch.zeros(stored, *shape))
        self.register_buffer("reached", torch.zeros(stored, dtype=torch.bool))
        self.register_buffer("written", torch.tensor(0))  # how many were ever stored
        self._found: list[Boundary] = []

    @property
    def count(self) -> int:
        """How many samples there are."""
        return min(int(self.written), self.stored)

    @property
    def found(self) -> int:
        """How many this process has found in this step."""
        return sum(len(each.samples) for each in self._found)

    def collect(self, found: Boundary) -> None:
        """Take note of what a micro-batch found."""
        self._found.append(found)

    @torch.no_grad()
    def renew(self) -> None:
        """Let what was found in this step, by all processes, take the place of the oldest samples."""
        if not self._found:
            return
        samples = gathered(torch.cat([each.samples for each in self._found]))[: self.stored]
        reached = gathered(torch.cat([each.reached for each in self._found]))[: self.stored]
        place = (self.written + torch.arange(len(samples), device=samples.device)) % self.stored
        self.samples[place], self.reached[place] = samples.to(self.samples), reached
        self.written += len(samples)
        self._found.clear()


@final
class StoredBoundary(Term):
    """T² KL(teacher ‖ student) on stored samples, drawn anew in every step; one that reached no boundary counts as 0.

    Args:
        temperature: T > 0.

    Raises:
        RecipeError: The temperature is out of its range, or the method stores nothing.
    """

    about: ClassVar[Sequence[Answers]] = ("logits",)
    wants = ("teacher",)

    def __init__(self, temperature: float = 3.0) -> None:
        super().__init__()
        positive(temperature, "StoredBoundary.temperature")
        self.temperature = temperature
        self._held: tuple[BoundaryStore, ...] = ()  # a tuple hides it: the store is the method's

    def join(self, cast: Cast) -> None:
        """Find the method's store."""
        store: BoundaryStore | None = getattr(cast, "store", None)
        require("StoredBoundary", store is not None, "a method that stores samples: BoundaryDistillation", "none")
        assert store is not None
        self._held = (store,)

    def draws(self) -> Mapping[str, Draw]:
        """Return which samples are learned."""
        return {"which": Draw((), "integers", high=self._held[0].stored)}

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean divergence at the drawn samples; 0 while nothing is stored."""
        store = self._held[0]
        if store.count == 0:
            return 0.0 * precise(scene.student_output).sum()
        place = scene.drawn["which"] % store.count
        there = scene.elsewhere(image=store.samples[place])
        divergence = softened_kl(there.student_output, there.teacher_output.detach(), self.temperature)
        return (divergence * store.reached[place]).mean()

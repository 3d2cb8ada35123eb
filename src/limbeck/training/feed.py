"""What a step trains on: a function of (seed, step), the same in one process or many, begun or resumed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.data.base import Augmentation, Images
from limbeck.errors import DataError, RecipeError
from limbeck.ground.randomness import generator
from limbeck.tasks.base import Task
from limbeck.training.views import Views
from limbeck.types import KINDS, Batch, Draw, Kind

MOST_WORKERS = 8


class Taught(Protocol):
    """Outputs of a teacher that were computed beforehand (see `teacher_cache`)."""

    def of(self, index: Tensor, view: Tensor) -> dict[str, Tensor]:
        """Return the outputs for images (N,) in these views (N,)."""


@dataclass(frozen=True)
class Material:
    """What the batches of a training are made of.

    Attributes:
        images: What to read.
        task: Makes a method's batch of a data batch.
        augmentation: Applied to `image`, and to what moves with it, or None.
        cache: What the teacher says, computed beforehand, or None.
        kinds: How the fields that the data brings beside those of `KINDS` move with an image.
        views: Augmented views of each image, the same for every seed; None for new ones at every step.
    """

    images: Images
    task: Task
    augmentation: Augmentation | None = None
    cache: Taught | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    views: int | None = None

    @cached_property
    def _views(self) -> Views:
        return Views({} if self.augmentation is None else self.augmentation.draws(), len(self.images))

    def seen(self, index: Tensor, view: Tensor) -> Batch:
        """Return the images (N,) in these views (N,), as a task that draws nothing gives them to a method."""
        return self.task.prepare(self.augmented(self.images.read(index), self._views.drawn(index, view)))

    def drawn(self, index: Tensor, view: Tensor) -> Mapping[str, Tensor]:
        """Return what the augmentation draws for these views; {} where it draws anew at every step."""
        return {} if self.views is None else self._views.drawn(index, view)

    def augmented(self, batch: Batch, drawn: Mapping[str, Tensor]) -> Batch:
        """Return the batch as the augmentation leaves it."""
        if self.augmentation is None:
            return batch
        return augmented(batch, self.augmentation, drawn, {**KINDS, **self.kinds})


class Feed(Dataset[Batch]):
    """Gives this process its part of the batch of every step.

    Args:
        material: What the batches are made of.
        draws: Everything random that a step needs, by name, beside what task and augmentation declare.
        seed: The arm's seed.
        batch: Samples a step, over all processes.
        rank: Number of this process.
        processes: Number of processes.
        workers: Processes that make batches ahead of the step.

    Raises:
        DataError: The batch is larger than the data.
    """

    def __init__(
        self,
        material: Material,
        draws: Mapping[str, Draw],
        *,
        seed: int,
        batch: int,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
    ) -> None:
        size = len(material.images)
        if batch > size:
            raise DataError(f"training.batch: {batch} samples, but the data has only {size}; make it smaller")
        self.material, self.task = material, material.task
        every = together(self.task, draws, material.augmentation)
        fixed = set() if material.views is None or material.augmentation is None else set(material.augmentation.draws())
        self.draws = {name: draw for name, draw in every.items() if name not in fixed}
        self.order = Order(size, batch, seed)
        self.seed, self.batch, self.workers = seed, batch, workers
        share = batch // processes
        self.part = slice(rank * share, (rank + 1) * share)

    def steps(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of steps `first` to `last` - 1, on the CPU."""
        steps = range(first, last)
        if self.workers == 0:
            return map(self.__getitem__, steps)
        pinned = torch.cuda.is_available()  # from where a GPU takes them while it computes
        return _told(DataLoader(self, None, sampler=steps, num_workers=self.workers, pin_memory=pinned))

    def __getitem__(self, step: int) -> Batch:
        """Return this process's part of the batch of a step."""
        material = self.material
        batch = material.images.read(self.order.indices(step)[self.part])
        drawn = {name: self._draw(name, draw, step) for name, draw in self.draws.items()}
        said: Mapping[str, Tensor] = {}
        if material.views is not None or material.cache is not None:
            index, view = batch.need("index", "training.views"), self._epochs(step) % (material.views or 1)
            drawn |= material.drawn(index, view)
            said = material.cache.of(index, view) if material.cache else {}
        seen = material.augmented(batch, drawn)
        return self.task.prepare(seen.replace(drawn=drawn, teacher_outputs=said))

    def _epochs(self, step: int) -> Tensor:
        """Return in which epoch each sample of this process's part of a step lies (N,)."""
        return torch.arange(step * self.batch, (step + 1) * self.batch)[self.part] // self.order.size

    def _draw(self, name: str, draw: Draw, step: int) -> Tensor:
        return draw.sample(self.batch, generator(self.seed, step, name))[self.part]


class Waiting:
    """Yields batches, and knows which part of the time went by until they came.

    Args:
        batches: The batches.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches, self.waited, self.whole = batches, 0.0, 0.0

    def __iter__(self) -> Iterator[Batch]:
        begun = asked = time.perf_counter()
        for batch in self.batches:
            self.waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()
            self.whole = asked - begun

    @property
    def share(self) -> float:
        """The part of the time, in [0, 1]."""
        return self.waited / self.whole if self.whole else 0.0


def workers_for(asked: int | None, images: Images, device: str, processes: int = 1) -> int:
    """Return how many processes make batches ahead: as many as asked for, or what is best on this machine.

    That is some where files are decoded, or where a GPU computes meanwhile. Where the processor trains on what is in
    memory, they would take from the step what they give to it.
    """
    if asked is not None:
        return asked
    if device == "cpu" and not images.streaming:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, max(1, cores // (2 * processes)))


def together(task: Task, draws: Mapping[str, Draw], augmentation: Augmentation | None) -> dict[str, Draw]:
    """Return what is drawn for a step, for the task, the method (`draws`) and the augmentation of the data.

    Raises:
        RecipeError: The augmentation draws under a name of the others: both would do the same to what they change.
    """
    others, own = {**task.draws(), **draws}, augmentation.draws() if augmentation else {}
    if twice := sorted(own.keys() & others.keys()):
        raise RecipeError(
            f"augmentation: expected another name than that of the method's own augmentation, found {', '.join(twice)}"
            " twice; give one of them a `name`"
        )
    return {**others, **own}


def augmented(
    batch: Batch, change: Augmentation, drawn: Mapping[str, Tensor], kinds: Mapping[str, Kind] = KINDS
) -> Batch:
    """Return the batch with its images changed, and with everything moved along that belongs to them.

    The target of a `latent` is no target of the image, and stays.

    Args:
        batch: What was read.
        change: The augmentation.
        drawn: What it needs.
        kinds: How each field moves with an image.

    Raises:
        DataError: A field of no kind; or one of another size than the images, which an augmentation that counts in
            pixels cannot move.
    """
    if batch.image is None:
        return batch
    fields = {**batch.fields, "image": change(batch.image, drawn)}
    for name, pixels in batch.fields.items():
        if name not in kinds:
            raise DataError(f"augmentation: expected a kind of `{name}`, found none; add it to the data's `kinds`")
        of_latent = name == "target" and "latent" in batch.fields
        if name == "image" or kinds[name].moves is None or of_latent:
            continue
        sizes = tuple(batch.image.shape[2:]), tuple(pixels.shape[-2:])
        if sizes[0] != sizes[1] and not change.any_size:
            raise DataError(
                f"augmentation: expected `{name}` in the images' size {sizes[0]}, found {sizes[1]}; leave it out, or"
                " augment by what does the same at any size (Flip, ColourJitter)"
            )
        twin = kinds[name].moves == "alike"
        fields[name] = change(pixels, drawn) if twin else change.move(pixels, drawn, kinds[name])
    return Batch(drawn=batch.drawn, teacher_outputs=batch.teacher_outputs, **fields)


def _told(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches; bad data reads as it does without worker processes, whose errors come with their traceback."""
    try:
        yield from batches
    except DataError as error:
        raise DataError(str(error).splitlines()[-1].removeprefix("limbeck.errors.DataError: ")) from error


class Order:
    """The order of the samples: one permutation after another, each drawn from (seed, epoch)."""

    def __init__(self, size: int, batch: int, seed: int) -> None:
        self.size, self.batch, self.seed = size, batch, seed
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """Return the indices (batch,) of the global batch of `step`; a batch may straddle two epochs."""
        positions = range(step * self.batch, (step + 1) * self.batch)
        begun = positions[0] % self.size
        if begun + self.batch <= self.size:
            return self._of(positions[0] // self.size)[begun : begun + self.batch]
        parts = []
        for epoch in range(positions[0] // self.size, positions[-1] // self.size + 1):
            start = max(positions[0] - epoch * self.size, 0)
            stop = min(positions[-1] + 1 - epoch * self.size, self.size)
            parts.append(self._of(epoch)[start:stop])
        return torch.cat(parts)

    def _of(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            draw = generator(self.seed, epoch, "order")
            self._epoch, self._permutation = epoch, torch.randperm(self.size, generator=draw)
        return self._permutation

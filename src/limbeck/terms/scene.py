"""What the terms of one step share: every network sees every input once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from copy import copy
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from limbeck.networks.handling.tap import Tap
from limbeck.types import Batch

T = TypeVar("T")

Ran = tuple[Tensor, Mapping[str, Tensor]]
"""What a network said, and the outputs of its modules by path."""


class Stage(Protocol):
    """What a scene asks of its method: who plays, and how a network is called."""

    def network(self, who: str) -> nn.Module:
        """Return a network by the name of the method's argument, e.g. "student" or "teacher"."""
        ...

    def taps(self, who: str) -> Sequence[str]:
        """Return the module paths of a network whose outputs the method's terms compare."""
        ...

    def call(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return what a network says to a batch."""
        ...

    def real(self, scene: Scene) -> Tensor:
        """Return what a discriminator is to take for real."""
        ...

    def fake(self, scene: Scene) -> Tensor:
        """Return what the student makes of it."""
        ...

    def shown(self, critic: nn.Module, batch: Batch, image: Tensor) -> tuple[Tensor, ...]:
        """Return what a discriminator is called with to see an image: the image, a label..."""
        ...

    def judge(self, critic: nn.Module, batch: Batch, image: Tensor) -> Tensor:
        """Return a discriminator's scores as one row, (N,), or (N * patches,), of images as it trains on them."""
        ...

    def truth(self, batch: Batch) -> Tensor | None:
        """Return what losses of features and logits are told beside them: classes of images, or of pixels."""
        ...


class Scene:
    """One step as its terms see it.

    Args:
        stage: The method.
        batch: The batch.
        step: The number of the step, from 0.
        learners: The players that move by this scene; others run without a gradient.

    Attributes:
        moved: Whether this is the step at other inputs, which want gradients through every network.
        drawn: What was drawn for the term that looks at the scene, by its own names.
    """

    def __init__(self, stage: Stage, batch: Batch, step: int, learners: Collection[str] = ("student",)) -> None:
        self.stage, self.batch, self.step, self.learners = stage, batch, step, learners
        self.drawn: Mapping[str, Tensor] = batch.drawn
        self._made: dict[Hashable, Any] = {}
        self.moved = False

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when this key was first asked for."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    @property
    def student_output(self) -> Tensor:
        """What the student says."""
        return self.output("student")

    @property
    def teacher_output(self) -> Tensor:
        """What the teacher says to the same, without a gradient to it; as it was stored, where it was."""
        return self.output("teacher")

    @property
    def truth(self) -> Tensor | None:
        """The classes of images (N,), or of pixels (N, H, W); None where there are none."""
        return self.stage.truth(self.batch)

    def output(self, who: str) -> Tensor:
        """Return what a network says: "student", "teacher", or another player."""
        return self._ran(who)[0]

    def features(self, who: str, paths: Sequence[str]) -> list[Tensor]:
        """Return the outputs of the modules at these paths, as a term declared them in `paths`."""
        found = self._ran(who)[1]
        return [found[path] for path in paths]

    @property
    def real(self) -> Tensor:
        """What a discriminator is to take for real."""
        return self.once("real", lambda: self.stage.real(self))

    @property
    def fake(self) -> Tensor:
        """What the student makes, as a discriminator sees it."""
        return self.once("fake", lambda: self.stage.fake(self))

    def score(self, critic: str, image: Tensor) -> Tensor:
        """Return a discriminator's scores of images, augmented if the method says so."""
        return self.stage.judge(self.stage.network(critic), self.batch, image)

    def shown(self, critic: str, image: Tensor) -> tuple[Tensor, ...]:
        """Return what a discriminator is called with to see images as they are."""
        return self.stage.shown(self.stage.network(critic), self.batch, image)

    def elsewhere(self, **inputs: Tensor) -> Scene:
        """Return the same step at other inputs, e.g. `image` as an attack changed it: nothing made here counts there.

        Gradients reach these inputs through the teacher, too.
        """
        there = copy(self)
        there.batch = self.batch.replace(drawn=None, teacher_outputs={}, **inputs)
        there._made, there.moved = {}, True
        return there

    def seen_by(self, term: str) -> Scene:
        """Return this scene with what was drawn for the term of that name; all else is shared."""
        seen = object.__new__(type(self))  # what `copy` does by a longer way: once a term and step
        seen.__dict__.update(self.__dict__)
        prefix = f"{term}."
        seen.drawn = {n.removeprefix(prefix): t for n, t in self.batch.drawn.items() if n.startswith(prefix)}
        return seen

    def _ran(self, who: str) -> Ran:
        return self.once(("ran", who), lambda: self._run(who))

    def _run(self, who: str) -> Ran:
        network, paths, stored = self.stage.network(who), self.stage.taps(who), self.batch.teacher_outputs
        if who == "teacher" and all(path in stored for path in ("", *paths)):
            return stored[""], stored
        with torch.set_grad_enabled(self.moved or who in self.learners), Tap(network, paths) as tap:
            output = self._call(who, network)
        return output, {path: tap[path] for path in paths}

    def _call(self, who: str, network: nn.Module) -> Tensor:
        """Return what a network says; a scene that keeps more of it than that keeps it here."""
        return self.stage.call(network, self.batch)

"""What a student follows of its teacher beside the output: features by module path, and losses that compare them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from limbeck.losses.base import FeatureLoss
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.tap import Tap
from limbeck.types import Batch, Draw

Output = tuple[Tensor, dict[str, Tensor]]
"""What a network returns, and its features by path."""


@final
class Followed(nn.ModuleDict):
    """Feature losses by name. What they own trains with the student.

    Args:
        losses: The losses; None for those that there are not.
    """

    def __init__(self, losses: Mapping[str, FeatureLoss | None]) -> None:
        super().__init__({name: loss for name, loss in losses.items() if loss is not None})

    def fit_to(self, shapes: Callable[[bool, list[str]], list[tuple[int, ...]]]) -> None:
        """Let every loss make what it owns.

        Args:
            shapes: Returns the shapes of one sample's features at module paths, of the teacher or else the student.
        """
        for loss in self.losses().values():
            loss.fit_to(shapes(False, list(loss.paths)), shapes(True, list(loss.paths.values())))

    def losses(self) -> dict[str, FeatureLoss]:
        """Return the losses by name."""
        return {name: loss for name, loss in self.items() if isinstance(loss, FeatureLoss)}

    def paths(self) -> tuple[list[str], list[str]]:
        """Return the module paths that are compared, in the student and in the teacher."""
        mine = dict.fromkeys(path for loss in self.losses().values() for path in loss.paths)
        theirs = dict.fromkeys(path for loss in self.losses().values() for path in loss.paths.values())
        return list(mine), list(theirs)

    def draws(self) -> Mapping[str, Draw]:
        """Return what the losses draw, each under its own name: two of a kind draw apart."""
        return {f"{own}.{name}": d for own, loss in self.losses().items() for name, d in loss.draws().items()}

    def beside(self, student: nn.Module) -> nn.Module:
        """Return the player: the student, together with what the losses own."""
        return nn.ModuleList([student, self]) if any(True for _ in self.parameters()) else student


class FollowedLesson:
    """What the losses of one step share: each network runs once, when it is first asked for.

    Args:
        networks: The student, and the teacher or None.
        followed: The losses of features.
        batch: The batch.
        image: Its images as the student sees them (N, C, H, W).
        label: Classes (N,), or of pixels (N, H, W).
    """

    def __init__(
        self, networks: tuple[nn.Module, Frozen | None], followed: Followed, batch: Batch, image: Tensor, label: Tensor
    ) -> None:
        self.networks, self.batch, self.image, self.label = networks, batch, image, label
        self.mine, self.goal = followed.paths()

    @cached_property
    def student(self) -> Output:
        """The student's answer, and its features by path."""
        return output_of(self.networks[0], self.image, self.mine)

    @cached_property
    def teacher(self) -> Output:
        """The teacher's, without gradient."""
        teacher = self.networks[1]
        assert teacher is not None
        return taught_by(teacher, self.batch, self.image, self.goal)

    def features(self, name: str, loss: FeatureLoss) -> Tensor:
        """Return the value of the feature loss of that name, a scalar."""
        mine = [self.student[1][path] for path in loss.paths]
        theirs = [self.teacher[1][path] for path in loss.paths.values()]
        drawn = {key: self.batch.drawn[f"{name}.{key}"] for key in loss.draws()}
        value: Tensor = loss(mine, theirs, self.label, self.batch.index, drawn)
        return value


def output_of(network: nn.Module, image: Tensor, paths: list[str]) -> Output:
    """Return what a network says to images, and its features at these module paths."""
    with Tap(network, paths) as tap:
        found = network(image)
    return found, {path: tap[path] for path in paths}


def taught_by(teacher: Frozen, batch: Batch, image: Tensor, paths: list[str]) -> Output:
    """Return the same of a teacher, without gradient; as it was stored, where it was."""
    if all(path in batch.taught for path in ("", *paths)):
        return batch.taught[""], dict(batch.taught)
    with torch.no_grad():
        return output_of(teacher.network, image, paths)

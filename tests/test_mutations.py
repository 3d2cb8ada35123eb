"""A test of the tests: a method that breaks one rule of the contract is found out by the check of that rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from method_contract import (
    Case,
    Trainings,
    check_bf16,
    check_control,
    check_copies,
    check_draws,
    check_killing,
    check_losses,
    check_means,
    check_micro_batches,
    check_players,
    check_resuming,
    check_teachers,
)
from torch import Tensor, nn
from toys import ToyTask

from limbeck.methods.base import Method
from limbeck.networks.handling.frozen import Frozen
from limbeck.types import Batch, Draw, Update


class Sound(Method):
    """Two players and a teacher, as plain as can be; the mutants below break it in one place each."""

    weights = {"critic.real_fake": 1.0, "student.adversarial": 0.5, "student.output": 1.0}  # type: ignore[assignment]  # noqa: RUF012
    terms = {}  # type: ignore[assignment]  # noqa: RUF012 (its losses are written out below)

    def __init__(self, teacher: nn.Module | None = None) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 64), nn.Unflatten(1, (1, 8, 8)))
        self.critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        self.teacher = None if teacher is None else Frozen(teacher)

    def draws(self) -> Mapping[str, Draw]:
        return {"noise": Draw((1, 8, 8))}

    def players(self) -> Mapping[str, nn.Module]:
        return {"critic": self.critic, "student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        real, fake = batch.image + 0.1 * self.noise(batch), self.student(batch.latent)
        softplus = nn.functional.softplus
        yield Update(
            "critic", {"real_fake": (softplus(-self.critic(real)) + softplus(self.critic(fake.detach()))).mean()}
        )
        losses = {"adversarial": softplus(-self.critic(fake)).mean()}
        if self.teacher is not None:
            losses["output"] = self.distance(fake, self.teacher(batch.latent))
        yield Update("student", losses)

    def noise(self, batch: Batch) -> Tensor:
        return batch.drawn["noise"]

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        return (image - target).square().mean()


class Raises(Sound):
    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        assert step != 1, "broken"
        yield from super().updates(batch, step)


class Sums(Sound):
    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        return (image - target).square().mean((1, 2, 3)).sum()


class Couples(Sound):
    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        return (image.mean(0) - target.mean(0)).square().mean()


class CountsItsBatches(Sound):
    def __init__(self, teacher: nn.Module | None = None) -> None:
        super().__init__(teacher)
        self.register_buffer("seen", torch.zeros(()))

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        self.seen += 1
        return super().distance(image, target) * self.seen.item()


class ForgetsWhatItCounted(Sound):
    seen = 0

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        self.seen += 1
        return super().distance(image, target) * self.seen


class TrainsItsTeacher(Sound):
    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        if self.teacher is not None:
            self.teacher.network.train()
        return super().updates(batch, step)


class SavesItsTeacher(Sound):
    def __init__(self, teacher: nn.Module | None = None) -> None:
        super().__init__(teacher)
        self.teacher_network = teacher


class Draws(Sound):
    def noise(self, batch: Batch) -> Tensor:
        return torch.randn(len(batch), 1, 8, 8)


class Detached(Sound):
    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        return super().distance(image.detach(), target) + 0 * image.mean()


class SharesAPlayer(Sound):
    def players(self) -> Mapping[str, nn.Module]:
        return {"critic": nn.ModuleList([self.critic, self.student[0]]), "student": self.student}  # type: ignore[index]


class NeedsItsTeacher(Sound):
    def __init__(self, teacher: nn.Module | None = None) -> None:
        super().__init__(teacher)
        self.student.append(nn.Tanh() if teacher is None else nn.Conv2d(1, 1, 1))  # type: ignore[operator]


class AlwaysFull(Sound):
    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        updates = super().updates(batch, step)
        while True:
            with torch.autocast("cpu", enabled=False):
                update = next(updates, None)
            if update is None:
                return
            yield update


class CopiesShareAStudent(Sound):
    def __deepcopy__(self, memo: object) -> Method:
        copy = type(self)(self.teacher.network)
        copy.student = self.student
        return copy


def learns_taught(runs: Trainings) -> None:
    check_resuming(runs, taught=True)


def learns_alone(runs: Trainings) -> None:
    check_resuming(runs, taught=False)


CHECKS: list[Callable[[Trainings], None]] = [
    check_losses,
    check_players,
    check_draws,
    check_teachers,
    check_control,
    learns_taught,
    learns_alone,
    check_killing,
    check_bf16,
    check_means,
    check_micro_batches,
    check_copies,
]
MUTANTS: list[tuple[type[Sound], Callable[[Trainings], None]]] = [
    (Raises, check_killing),
    (Raises, learns_alone),
    (Sums, check_means),
    (Sums, check_micro_batches),
    (Couples, check_micro_batches),
    (CountsItsBatches, check_micro_batches),
    (ForgetsWhatItCounted, learns_taught),
    (TrainsItsTeacher, check_teachers),
    (SavesItsTeacher, check_teachers),
    (Draws, check_draws),
    (Detached, check_losses),
    (SharesAPlayer, check_players),
    (NeedsItsTeacher, check_control),
    (AlwaysFull, check_bf16),
    (CopiesShareAStudent, check_copies),
]


def build(cls: type[Sound], taught: bool) -> Method:
    teacher = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)), nn.BatchNorm2d(1))
    return cls(teacher if taught else None)


def runs_of(cls: type[Sound], folder: Path, coupled: str = "") -> Trainings:
    return Trainings(Case(partial(build, cls), ToyTask(), {}, coupled=coupled), folder)


def test_a_sound_method_passes(tmp_path: Path) -> None:
    runs = runs_of(Sound, tmp_path)
    for check in CHECKS:
        check(runs)


@pytest.mark.parametrize(("mutant", "check"), MUTANTS, ids=lambda value: value.__name__)
def test_a_broken_method_is_found_out(mutant: type[Sound], check: Callable[[Trainings], None], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(runs_of(mutant, tmp_path))


def test_a_coupling_that_is_not_there_may_not_be_claimed(tmp_path: Path) -> None:
    check_micro_batches(runs_of(Couples, tmp_path / "there", "a mean of images"))
    with pytest.raises(AssertionError, match="nothing couples"):
        check_micro_batches(runs_of(Sound, tmp_path / "not", "a mean of images"))


def test_every_check_has_a_mutant() -> None:
    assert {check for _, check in MUTANTS} == set(CHECKS)

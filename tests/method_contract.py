"""What every method keeps to, as checks of one case of it: `contracts/test_methods.py` makes them of every method.

They are functions, so that `test_mutations.py` can show each of them a method that breaks it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import differences, killed, toy_job, trained

from limbeck.data.base import InMemory
from limbeck.methods.base import Method
from limbeck.networks.handling.frozen import Frozen
from limbeck.tasks.base import Task
from limbeck.training.feed import Feed, Material
from limbeck.training.job import Job
from limbeck.types import VOID, Batch, Loss, Update
from limbeck.weighting.scheduled import Scheduled

STEPS = 4
BATCH = 8
MEMORY = "learns from a part of what it remembers"  # the one reason for `Case.coupled` that has a meaning of its own


def images(channels: int = 1) -> InMemory:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (24, channels, 8, 8), generator=draw, dtype=torch.uint8)
    mask = image[:, 0] // 86
    mask[:, :2, :2] = VOID
    mask[::3] = VOID  # nobody has labelled these
    return InMemory(image, torch.arange(24) % 3, mask)


@dataclass(frozen=True)
class Case:
    """One set of options of a method.

    Attributes:
        build: Makes the method, with its teacher or without.
        task: What makes its batches.
        weights: Weights that switch on what is off by default.
        channels: Channels of the images.
        coupled: Why the losses of a batch are not the means over its halves; "" where they are. Batch norm in the
            student is reason enough, and is not named.
    """

    build: Callable[[bool], Method]
    task: Task
    weights: dict[str, float]
    channels: int = 1
    coupled: str = ""

    def method(self, taught: bool = True) -> Method:
        torch.manual_seed(0)
        return self.build(taught)

    def job(self, folder: Path, taught: bool = True, **options: Any) -> Job:
        known = self.method().weights  # those of terms that fall away without a teacher, too
        method = self.method(taught)
        rest = {
            "images": images(self.channels),
            "steps": STEPS,
            "batch": BATCH,
            "ema": 0.9,
            "checkpoint_every": 2,
            "task": self.task,
        } | options
        return toy_job(folder, method, weighting=Scheduled(self.weights, known), **rest)

    def batch(self, method: Method, step: int = 0) -> Batch:
        feed = Feed(Material(images(self.channels), self.task), method.draws(), seed=0, batch=BATCH)
        return next(feed.steps(step, step + 1))


class Trainings:
    """What several checks of a case look at; each is trained or computed when it is first asked for."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self._folder, self._numbers = case, folder, count()

    def folder(self) -> Path:
        """Return a new one."""
        return self._folder / str(next(self._numbers))

    @cached_property
    def taught(self) -> tuple[Job, dict[str, Any]]:
        """A training with the teacher and its final state."""
        job = self.case.job(self.folder())
        return job, trained(job)

    @cached_property
    def alone(self) -> tuple[Job, dict[str, Any]]:
        """The same without the teacher."""
        job = self.case.job(self.folder(), taught=False)
        return job, trained(job)

    @cached_property
    def losses(self) -> tuple[Method, dict[str, list[Tensor]], bool]:
        """A method that nobody trains, every loss of its first steps, and whether it drew something by itself."""
        method = self.case.method()
        before = torch.random.get_rng_state()
        found = numbers(self.case, method)
        return method, found, not torch.equal(torch.random.get_rng_state(), before)


def teachable(method: type[Method] | Method) -> bool:
    cls = method if inspect.isclass(method) else type(method)
    return "teacher" in inspect.signature(cls).parameters


def updates(case: Case, method: Method, change: Callable[[Batch], Batch] = lambda batch: batch) -> Iterator[Update]:
    """Yield the updates of the first steps of a method that nobody trains, on batches that `change` may change."""
    for step in range(STEPS):
        for update in method.updates(change(case.batch(method, step)), step):
            yield update
            method.moved(update.player, step)


def weighted(case: Case, method: Method, found: Iterator[Update]) -> Iterator[tuple[str, Loss]]:
    """Yield the losses of updates that have a weight, by name."""
    weighting = Scheduled(case.weights, method.weights)
    for update in found:
        for short, loss in update.losses.items():
            name = f"{update.player}.{short}"
            if weighting.weight(name, 0.0):
                yield name, loss


def numbers(
    case: Case, method: Method, change: Callable[[Batch], Batch] = lambda batch: batch
) -> dict[str, list[Tensor]]:
    """Return every loss of the first steps that has a weight."""
    values: dict[str, list[Tensor]] = {}
    for name, loss in weighted(case, method, updates(case, method.train(), change)):
        values.setdefault(name, []).append(loss() if callable(loss) else loss)
    return values


def frozen(method: Method) -> list[nn.Module]:
    return [module.network for module in method.modules() if isinstance(module, Frozen)]


def check_losses(runs: Trainings) -> None:
    """They are declared, finite scalars with a gradient to their player."""
    method, values, _ = runs.losses
    players = method.players()
    assert values and set(values) <= set(method.weights)
    for name, losses in values.items():
        parameters = list(players[name.split(".")[0]].parameters())
        assert any(loss != 0 for loss in losses), name
        for loss in losses:
            assert loss.shape == () and loss.isfinite(), name
            slopes = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            reached = any(slope is not None and slope.abs().sum() > 0 for slope in slopes)
            assert reached or loss == 0, name  # a memory has nothing to say before anything is in it


def check_players(runs: Trainings) -> None:
    """They are disjoint and cover what trains."""
    method = runs.case.method()
    players = method.players()
    of = {name: {id(p) for p in module.parameters()} for name, module in players.items()}
    assert sum(len(ids) for ids in of.values()) == len(set().union(*of.values()))
    assert set().union(*of.values()) == {id(p) for p in method.parameters() if p.requires_grad}
    assert {id(p) for p in method.student.parameters()} <= of["student"]
    assert {update.player for update in updates(runs.case, method)} == set(players)


def check_draws(runs: Trainings) -> None:
    """Nothing is drawn outside of `draws`: the same on every rank, and nothing to remember for resuming."""
    _, values, drew = runs.losses
    assert values and not drew


def check_teachers(runs: Trainings) -> None:
    """They never change, and are not saved."""
    job, _ = runs.taught
    before, after = frozen(runs.case.method()), frozen(job.method)
    assert after or not teachable(job.method)
    for teacher, same in zip(after, before, strict=True):
        assert differences(same.state_dict(), teacher.state_dict()) == []
        assert not any(module.training for module in teacher.modules())
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not any(name.startswith("teacher") for name in job.method.state_dict())


def check_control(runs: Trainings) -> None:
    """Without its teacher the method is the control arm: the same players, the same student, and it trains."""
    taught, alone = runs.case.method(), runs.case.method(taught=False)
    assert alone.players().keys() == taught.players().keys()
    assert alone.student.state_dict().keys() == taught.student.state_dict().keys()
    _, state = runs.alone
    assert state["step"] == STEPS and state["counts"]["student"] > 0


def check_resuming(runs: Trainings, taught: bool) -> None:
    """Every player learns, and a training that was killed within a step ends with the same bits as one that was not."""
    _, whole = runs.taught if taught else runs.alone
    before = runs.case.method(taught).state_dict()
    moved = {name.split(".")[0] for name, value in whole["method"].items() if not torch.equal(value, before[name])}
    assert moved >= set(whole["counts"])
    folder = runs.folder()
    killed(runs.case.job(folder, taught), step=3)
    assert [path.name for path in folder.rglob("*.safetensors")] == ["step-000000002.safetensors"]
    assert differences(whole, trained(runs.case.job(folder, taught))) == []


def check_killing(runs: Trainings) -> None:
    """A step that has not ended leaves nothing behind."""
    folder = runs.folder()
    job = runs.case.job(folder)
    killed(job, step=1)
    assert differences(runs.case.method().state_dict(), job.method.state_dict()) != []
    assert not list(folder.rglob("*.safetensors"))


def check_bf16(runs: Trainings) -> None:
    """It trains in bf16, its weights and losses stay in float32, and its first losses are nearly the same."""
    _, whole = runs.taught
    half = trained(runs.case.job(runs.folder(), precision="bf16"))
    assert not {v.dtype for v in half["method"].values()} & {torch.bfloat16, torch.float16}
    assert differences(whole["method"], half["method"]) != []  # it really runs in bf16
    first, other = whole["history"][0], half["history"][0]
    assert other == pytest.approx(first, rel=0.1, abs=0.05)


def check_means(runs: Trainings) -> None:
    """A batch twice over has the losses of the batch: they are means over it, whatever else couples its samples.

    In float64, for an attack follows the signs of gradients, some of which are nothing but rounding.
    """
    case = runs.case
    once, twice = (numbers(case, deepcopy(case.method()).double(), partial(copies, count=n)) for n in (1, 2))
    assert once.keys() == twice.keys()
    for name, values in once.items():
        for value, other in zip(values, twice[name], strict=True):
            # What is learned from a memory is another part of it now, but not twice as much.
            tolerance = 0.3 if case.coupled == MEMORY else 2e-3
            assert other.item() == pytest.approx(value.item(), rel=tolerance, abs=1e-6), name


def copies(batch: Batch, count: int) -> Batch:
    """Return a batch `count` times over, in float64."""
    twice = batch.map(lambda tensor: torch.cat([tensor] * count))
    return twice.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def check_micro_batches(runs: Trainings) -> None:
    """In two micro-batches it takes the same steps, to the same weights where nothing couples the samples of a batch.

    By plain descent, for Adam would make whole steps of the rounding in gradients that are 0.
    """
    case = runs.case
    descent = {name: partial(torch.optim.SGD, lr=1e-2) for name in case.method().players()}
    options = {"optimizers": descent, "clip": 1.0, "ema": None}
    whole, parts = (trained(case.job(runs.folder(), micro_batches=number, **options)) for number in (1, 2))
    assert parts["counts"] == whole["counts"]
    assert [set(row) for row in parts["history"]] == [set(row) for row in whole["history"]]
    statistics = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in case.method().modules())
    pairs = list(zip(whole["history"], parts["history"], strict=True))
    if case.coupled or statistics:
        assert any(row != pytest.approx(other) for row, other in pairs), "nothing couples samples: leave out `coupled`"
        return
    for row, other in pairs:
        assert other == pytest.approx(row, rel=1e-4, abs=1e-6)
    for name, before in case.method().named_parameters():
        value = whole["method"][name]
        way = (value - before).abs().max().item()
        torch.testing.assert_close(parts["method"][name], value, rtol=1e-5, atol=1e-3 * way + 1e-7, msg=name)


def check_copies(runs: Trainings) -> None:
    """A copy is equal and independent."""
    method = runs.case.method()
    copy = deepcopy(method)
    _, expected, _ = runs.losses
    assert differences(expected, numbers(runs.case, copy)) == []
    assert not {id(p) for p in method.parameters()} & {id(p) for p in copy.parameters()}
    for one, other in zip(frozen(method), frozen(copy), strict=True):
        assert one is not other and differences(one.state_dict(), other.state_dict()) == []

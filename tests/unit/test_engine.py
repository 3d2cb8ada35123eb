"""engine.py: a step is a pure function of state, seed and step; everything else is an option that does what it says."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException
from toys import (
    Bare,
    Dying,
    Killed,
    Plain,
    Stopped,
    Streamed,
    ToyGan,
    differences,
    resumed,
    toy_images,
    toy_job,
    trained,
)

from limbeck.data.base import InMemory
from limbeck.data.tensors import TensorImages
from limbeck.errors import CheckpointError, DataError, LimbeckError, RecipeError, TrainingError
from limbeck.ground.hardware import machine
from limbeck.ground.randomness import seed_of
from limbeck.methods.base import Method
from limbeck.networks.handling.frozen import Frozen
from limbeck.run.arm import Setting, Watcher
from limbeck.tasks.generation import Generation
from limbeck.training import arithmetic, launch
from limbeck.training.checkpoint import Checkpoints, load
from limbeck.training.engine import Engine
from limbeck.training.job import Job
from limbeck.training.launch import Interrupted, fit
from limbeck.training.replicas import One
from limbeck.training.watching import Watched
from limbeck.types import Batch, Update
from limbeck.weighting.schedule import Schedule
from limbeck.weighting.scheduled import Scheduled

SGD = {"student": partial(torch.optim.SGD, lr=0.1), "discriminator": partial(torch.optim.SGD, lr=0.1)}


class Numbers(nn.Module):
    """A player that is a handful of numbers."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(values))


class Following(Bare):
    """A student that moves every second step, and a target that follows it (EMA)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.student, self.discriminator = nn.Linear(16, 2), nn.Linear(16, 1)
        self.target: Tensor
        self.register_buffer("target", self.student.weight.detach().clone())
        self.seen: list[tuple[str, int, bool]] = []

    def players(self) -> Mapping[str, nn.Module]:
        return {"student": self.student, "discriminator": self.discriminator}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        assert batch.image is not None
        image = batch.image.flatten(1)
        yield Update("discriminator", {"output": lambda: self.discriminator(image).square().mean()})
        if step % 2:
            difference = self.student(image) - nn.functional.linear(image, 0.5 * self.target)
            yield Update("student", {"output": difference.square().mean()})

    def moved(self, player: str, step: int) -> None:
        self.seen.append((player, step, torch.is_grad_enabled()))
        if player == "student":
            self.target.lerp_(self.student.weight, 0.5)


class Slope(Bare):
    """Attention whose derivative along its input, in forward mode, is to be small."""

    differentiates = "forward"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.student = nn.Linear(4, 12)

    def players(self) -> Mapping[str, nn.Module]:
        return {"student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        assert batch.image is not None
        rows = batch.image.flatten(1).unflatten(1, (4, 4))
        yield Update("student", {"slope": self.slope(rows).square().mean()})

    def slope(self, rows: Tensor) -> Tensor:
        _, slope = torch.func.jvp(self.attention, (rows,), (torch.ones_like(rows),))
        return slope

    def attention(self, rows: Tensor) -> Tensor:
        query, key, value = self.student(rows)[:, None].chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(query, key, value)


class Scripted(Bare):
    """A method whose updates are a function of it, the batch and the step."""

    def __init__(self, script: Callable[[Any, Batch, int], Iterator[Update]], **players: nn.Module) -> None:
        super().__init__()
        self.script, self.names = script, list(players)
        for name, module in players.items():
            self.add_module(name, module)

    def players(self) -> Mapping[str, nn.Module]:
        return {name: self.get_submodule(name) for name in self.names}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        yield from self.script(self, batch, step)


def engine_of(job: Job) -> Engine:
    return Engine(One("cpu"), job)


def run(job: Job, steps: int) -> Engine:
    engine = engine_of(job)
    for batch in engine.feed.steps(0, steps):
        engine.advance(batch)
    return engine


def student_values(job: Job) -> list[list[float]]:
    """Return the student's numbers after every step."""
    engine = engine_of(job)
    values = []
    for batch in engine.feed.steps(0, job.training.steps):
        engine.advance(batch)
        values.append(job.method.student.value.tolist())  # type: ignore[operator, union-attr]
    return values


def downhill(method: Any, batch: Batch, step: int) -> Iterator[Update]:
    """Every number has the slope 1."""
    yield Update("student", {"sum": method.student.value.sum()})


# The pure step

FULL: dict[str, Any] = {"ema": 0.9, "clip": 1.0, "warmup": 3, "schedule": "cosine", "checkpoint_every": 3}
RESUMED: dict[str, dict[str, Any]] = {
    "dropout, R1, batch norm": FULL,
    "bf16": FULL | {"precision": "bf16", "method": {"penalty": False}},
    "channels last": FULL | {"channels_last": True},
    "micro-batches": FULL | {"micro_batches": 4},
    "other optimisers": FULL
    | {
        "optimizers": {
            "student": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
            "discriminator": partial(torch.optim.AdamW, lr=0.01, betas=(0.5, 0.9), amsgrad=True),
        }
    },
    "streaming": FULL | {"images": Streamed(toy_images().image), "workers": 0},
    "no average": {"checkpoint_every": 1},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED.keys())
def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    def make(folder: str, **more: Any) -> Job:
        return toy_job(tmp_path / folder, ToyGan(**options.get("method", {})), **others | more)

    others = {name: value for name, value in options.items() if name != "method"}
    whole = trained(make("whole"))
    assert whole["step"] == 8 and whole["counts"] == {"discriminator": 8, "student": 8}
    for killed_at in (2, 5, 7):
        assert differences(whole, resumed(partial(make, f"killed-{killed_at}"), killed_at)) == []


def test_what_is_killed_before_its_last_file_is_written_needs_no_step_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(launch, "save", dies)
        fit(toy_job(tmp_path / "killed"))
    finished = trained(toy_job(tmp_path / "killed", images=Dying(toy_images(), 0)))
    assert differences(trained(toy_job(tmp_path / "whole")), finished) == []


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    assert differences(trained(toy_job(tmp_path / "a")), trained(toy_job(tmp_path / "b", seed=4))) != []


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_the_loop_is_the_plain_loop(tmp_path: Path, precision: str) -> None:
    """Bit for bit: draws, seeds of layers, order of updates and gradients are those of a dozen lines of PyTorch."""

    def make() -> Job:
        return toy_job(tmp_path, ToyGan(penalty=precision == "32"), precision=precision)

    bare = make().method
    optimizers = {name: torch.optim.Adam(module.parameters()) for name, module in bare.players().items()}
    for step, batch in enumerate(engine_of(make()).feed.steps(0, 8)):
        torch.manual_seed(seed_of(3, step, "layers", 0))
        updates = bare.train().updates(batch, step)
        while True:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):  # new weights, new context
                if (update := next(updates, None)) is None:
                    break
                losses = [loss() if callable(loss) else loss for loss in update.losses.values()]
            bare.zero_grad()
            torch.stack(losses).sum().backward()
            optimizers[update.player].step()
    assert differences(bare.state_dict(), run(make(), 8).method.state_dict()) == []


# Players, gradients, losses


def test_no_gradient_leaks_from_one_player_to_another(tmp_path: Path) -> None:
    """Both losses are d * s, so both reach both players, and the second uses a graph made before the first yield."""

    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        kept = method.student.value * 1
        yield Update("discriminator", {"product": (method.discriminator.value * method.student.value).sum()})
        yield Update("student", {"product": (method.discriminator.value * kept).sum()})

    method = Scripted(script, discriminator=Numbers(2.0), student=Numbers(1.0))
    run(toy_job(tmp_path, method, optimizers=SGD), 2)
    # d: 2 - 0.1 * 1 = 1.9;  s: 1 - 0.1 * 1.9 = 0.81;  d: 1.9 - 0.1 * 0.81 = 1.819;  s: 0.81 - 0.1 * 1.819 = 0.6281
    assert method.discriminator.value.item() == pytest.approx(1.819)  # type: ignore[operator, union-attr]
    assert method.student.value.item() == pytest.approx(0.6281)  # type: ignore[operator, union-attr]


def test_a_switched_off_loss_is_not_computed_and_a_switched_off_update_does_not_count(tmp_path: Path) -> None:
    asked: list[str] = []

    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        def loss(player: str, name: str) -> Tensor:
            asked.append(f"{step} {player}.{name}")
            value: Tensor = getattr(method, player).value.sum()
            return value

        for player, names in (("discriminator", ["off", "late"]), ("student", ["off", "on"])):
            yield Update(player, {name: partial(loss, player, name) for name in names})

    weights: dict[str, float | Schedule] = {
        "discriminator.off": 0.0, "discriminator.late": Schedule(1.0, start=0.5), "student.off": 0.0, "student.on": 2.0,
    }  # fmt: skip
    method = Scripted(script, discriminator=Numbers(1.0), student=Numbers(1.0))
    job = toy_job(tmp_path, method, steps=4, optimizers=SGD, weighting=Scheduled(weights, dict.fromkeys(weights, 1.0)))
    engine = run(job, 4)
    assert asked == ["0 student.on", "1 student.on"] + [
        f"{step} {name}" for step in (2, 3) for name in ("discriminator.late", "student.on")
    ]
    assert engine.counts == {"discriminator": 2, "student": 4}
    assert method.discriminator.value.item() == pytest.approx(1 - 2 * 0.1)  # type: ignore[operator, union-attr]
    assert method.student.value.item() == pytest.approx(1 - 4 * 0.1 * 2)  # type: ignore[operator, union-attr]
    assert [set(row) - {"step"} for row in engine.history] == [{"student.on"}] * 2 + [
        {"student.on", "discriminator.late"}
    ] * 2


def test_what_a_player_keeps_frozen_stays_and_the_rest_trains(tmp_path: Path) -> None:
    method = ToyGan(penalty=False)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.student[0].requires_grad_(False)
    trained(toy_job(tmp_path, method))
    still = {name for name, value in method.state_dict().items() if torch.equal(value, before[name])}
    assert still == {"student.0.weight", "student.0.bias"}


def test_micro_batches_equal_the_whole_batch(tmp_path: Path) -> None:
    def losses(parts: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
        method = ToyGan(batch_norm=False, dropout=0.0)
        engine = run(toy_job(tmp_path, method, steps=20, optimizers=SGD, micro_batches=parts), 20)
        return dict(engine.method.state_dict()), engine.history

    (whole, rows), (parts, other_rows) = losses(1), losses(4)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-5, atol=1e-6)
    for row, other in zip(rows, other_rows, strict=True):
        assert other == pytest.approx(row, rel=1e-5)


def test_clipping_bounds_the_norm_over_all_parameters_of_a_player(tmp_path: Path) -> None:
    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        value = method.student.value
        yield Update("student", {"slope": 3 * value[0] + 4 * value[1]})

    options: dict[str, Any] = {"steps": 1, "optimizers": {"student": SGD["student"]}, "clip": 1.0}
    (clipped,) = student_values(toy_job(tmp_path, Scripted(script, student=Numbers(0.0, 0.0)), **options))
    assert clipped == pytest.approx([-0.06, -0.08])  # (3, 4) has the norm 5


def test_warm_up_and_cosine_move_the_weights_by_hand(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 4, "optimizers": {"student": SGD["student"]}, "warmup": 2, "schedule": "cosine"}
    values = student_values(toy_job(tmp_path, Scripted(downhill, student=Numbers(0.0)), **options))
    rates = [0.1 * rise * 0.5 * (1 + math.cos(math.pi * i / 4)) for i, rise in enumerate([0.5, 1, 1, 1])]
    assert [v for (v,) in values] == pytest.approx([-sum(rates[: i + 1]) for i in range(4)])


def test_warm_up_counts_a_players_own_updates(tmp_path: Path) -> None:
    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        if step % 2:
            yield from downhill(method, batch, step)

    options: dict[str, Any] = {"steps": 6, "optimizers": {"student": SGD["student"]}, "warmup": 2}
    values = student_values(toy_job(tmp_path, Scripted(script, student=Numbers(0.0)), **options))
    assert [v for (v,) in values] == pytest.approx([0, -0.05, -0.05, -0.15, -0.15, -0.25])


def test_the_average_is_what_is_exported(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 3, "optimizers": {"student": partial(torch.optim.SGD, lr=1.0)}, "ema": 0.15}
    engine = run(toy_job(tmp_path, Scripted(downhill, student=Numbers(0.0)), **options), 3)
    first = 0.9 * -1  # decays 0.1, then 0.15; weights -1, -2, -3
    second = 0.15 * first + 0.85 * -2
    third = 0.15 * second + 0.85 * -3
    assert engine.state()["student"]["value"].item() == pytest.approx(third)
    assert engine.student().value.item() == pytest.approx(third)  # type: ignore[operator, union-attr]
    assert engine.method.student.value.item() == pytest.approx(-3)  # type: ignore[operator, union-attr]


def test_each_player_has_its_own_optimiser(tmp_path: Path) -> None:
    engine = engine_of(toy_job(tmp_path, optimizers={"student": SGD["student"]}))
    assert {name: type(o).__name__ for name, o in engine.optimizers.items()} == {
        "discriminator": "Adam",
        "student": "SGD",
    }


def test_bf16_reaches_the_layers_and_not_the_weights(tmp_path: Path) -> None:
    method = ToyGan(penalty=False)
    seen: set[torch.dtype] = set()
    method.student[0].register_forward_hook(lambda *found: seen.add(found[-1].dtype))
    run(toy_job(tmp_path, method, precision="bf16"), 2)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in method.parameters()} == {torch.float32}


@pytest.mark.parametrize(("native", "precision"), [(False, "bf16"), (True, "bf16"), (False, "32")])
def test_a_cpu_that_imitates_bf16_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], native: bool, precision: str
) -> None:
    monkeypatch.setattr(launch, "native_bf16", lambda device: native)
    fit(toy_job(tmp_path, ToyGan(penalty=False), precision=precision, steps=1))
    assert ("has no bfloat16 arithmetic" in capsys.readouterr().err) == (not native and precision == "bf16")


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_what_the_machine_is_fast_in_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], native: bool
) -> None:
    for module in (launch, arithmetic):
        monkeypatch.setattr(module, "native_bf16", lambda device: native)
    weights = []
    for folder, options in (("auto", {"precision": "auto"}), ("said", {"precision": "bf16" if native else "32"})):
        last = {"channels_last": True} if folder == "said" else {}
        job = toy_job(tmp_path / folder, ToyGan(penalty=False), steps=3, **options, **last)
        fit(job)
        weights.append(load(job.place.final)["method"])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    said = "bf16" if native else "32, as this cpu has no bfloat16 arithmetic"
    assert f"precision auto is {said}; channels last" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("wanted", [True, False])
def test_channels_last_reaches_weights_and_images(tmp_path: Path, wanted: bool) -> None:
    seen: list[bool] = []
    last = torch.channels_last

    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        assert batch.image is not None
        seen.append(batch.image.is_contiguous(memory_format=last))
        yield Update("student", {"mean": method.student(batch.image).mean()})

    student = nn.Conv2d(3, 4, 3)
    images = InMemory(torch.zeros(16, 3, 8, 8, dtype=torch.uint8))
    run(toy_job(tmp_path, Scripted(script, student=student), images=images, channels_last=wanted), 1)
    assert [student.weight.is_contiguous(memory_format=last), *seen] == [wanted, wanted]


def test_compile_reaches_every_network_that_trains_if_it_is_differentiated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []

    def note(module: nn.Module) -> None:
        compiled.append(module)

    monkeypatch.setattr(nn.Module, "compile", note)
    student = Numbers(0.0)
    method = Scripted(downhill, student=student)
    monkeypatch.setattr(method, "players", lambda: {"student": nn.ModuleList([student, Numbers(1.0)])})
    engine_of(toy_job(tmp_path, method, compile=True))
    assert student in compiled
    compiled.clear()
    for other in (ToyGan(penalty=True), Slope()):
        engine_of(toy_job(tmp_path, other, compile=True))
        assert compiled == []


def test_a_teacher_moves_with_its_holder_and_is_not_saved(tmp_path: Path) -> None:
    method = Scripted(downhill, student=Numbers(0.0))
    method.teacher = Frozen(Numbers(4.0))
    state = run(toy_job(tmp_path, method, optimizers={"student": SGD["student"]}), 2).state()
    assert list(state["method"]) == ["student.value"]
    assert method.teacher.network.value.item() == 4.0


# What a method asks of the engine


@pytest.mark.parametrize(("parts", "processes"), [(1, 1), (2, 1), (4, 1), (2, 2)])
def test_a_target_follows_once_whatever_the_micro_batches_and_processes(
    tmp_path: Path, parts: int, processes: int
) -> None:
    options: dict[str, Any] = {"steps": 6, "optimizers": SGD}
    alone = run(toy_job(tmp_path / "alone", Following(), **options), 6)
    job = toy_job(tmp_path / "parts", Following(), micro_batches=parts, processes=processes, **options)
    found = trained(job)
    assert not torch.equal(alone.method.target, Following().target)
    for name, value in alone.method.state_dict().items():
        torch.testing.assert_close(found["method"][name], value, rtol=1e-5, atol=1e-6, msg=name)
    if processes == 1:  # another process moves a copy
        assert isinstance(job.method, Following)
        assert job.method.seen == [
            (player, step, False) for step in range(6) for player in ["discriminator", "student"][: 1 + step % 2]
        ]


def test_what_is_switched_off_has_not_moved(tmp_path: Path) -> None:
    method = Following()
    weights: dict[str, float | Schedule] = {"student.output": Schedule(1.0, start=0.5), "discriminator.output": 0.0}
    run(toy_job(tmp_path, method, steps=4, weighting=Scheduled(weights, dict.fromkeys(weights, 1.0))), 4)
    assert method.seen == [("student", 3, False)]


def test_a_derivative_in_forward_mode_through_attention(tmp_path: Path) -> None:
    """Attention and derivative in float32 although the rest is bf16, and equal to finite differences."""
    method = Slope()
    seen: list[Tensor] = []
    method.student.register_forward_hook(lambda *found: seen.append(found[-1]))
    images = InMemory(torch.randint(0, 256, (16, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte())
    before = method.student.weight.detach().clone()
    engine = run(toy_job(tmp_path, method, images=images, steps=2, precision="bf16", compile=True), 2)
    assert {tensor.dtype for tensor in seen} == {torch.float32}
    assert not torch.equal(method.student.weight, before)
    reference = Slope().double()
    image = engine_of(toy_job(tmp_path, Slope(), images=images, steps=2)).feed.steps(0, 1)
    rows = next(iter(image)).image.flatten(1).unflatten(1, (4, 4)).double()  # type: ignore[union-attr]
    differences = (reference.attention(rows + 1e-5) - reference.attention(rows - 1e-5)) / 2e-5
    assert engine.history[0]["student.slope"] == pytest.approx(differences.square().mean().item(), rel=1e-4)


# The history


def test_a_loss_that_is_not_computed_at_every_step_is_logged_too(tmp_path: Path) -> None:
    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        losses = {"always": method.student.value.sum()}
        if step % 4 == 3:
            losses["seldom"] = method.student.value.sum()
        yield Update("student", losses)

    def rows(steps: int) -> Engine:
        job = toy_job(tmp_path, Scripted(script, student=Numbers(0.0)), steps=26, log_every=10)
        return run(job, steps)

    engine = rows(26)
    found = {name: [row["step"] for row in engine.history if f"student.{name}" in row] for name in ("always", "seldom")}
    assert found == {"always": [1, 11, 21, 26], "seldom": [4, 16]}
    resumed_engine = engine_of(toy_job(tmp_path, Scripted(script, student=Numbers(0.0)), steps=26, log_every=10))
    resumed_engine.load(rows(14).state())
    for batch in resumed_engine.feed.steps(14, 26):
        resumed_engine.advance(batch)
    assert resumed_engine.history == engine.history


def test_the_machines_that_trained_it_are_noted(tmp_path: Path) -> None:
    def engine() -> Engine:
        return engine_of(toy_job(tmp_path, Scripted(lambda *_: iter(()), student=Numbers(0.0))))

    first = engine()
    assert first.state()["machines"] == [machine("cpu")]
    second = engine()
    second.load({**first.state(), "machines": ["Some GPU"]})
    assert second.state()["machines"] == ["Some GPU", machine("cpu")]
    third = engine()
    third.load(second.state())
    assert third.state()["machines"] == ["Some GPU", machine("cpu")]
    older = engine()
    older.load({key: value for key, value in first.state().items() if key != "machines"})
    assert older.state()["machines"] == []  # where it began is not known


# What goes wrong


def breaks_at(bad_step: int, make_bad: Callable[[Tensor], Tensor]) -> Method:
    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        value = method.student.value.sum()
        yield Update("student", {"fine": value, "bad": make_bad(value) if step == bad_step else value})

    return Scripted(script, student=Numbers(1.0))


def test_a_loss_that_is_not_finite_names_term_step_and_checkpoint(tmp_path: Path) -> None:
    job = toy_job(tmp_path, breaks_at(7, lambda value: value * torch.nan), checkpoint_every=3)
    with pytest.raises(TrainingError, match=r"^student\.bad is not finite at step 7; .*step-000000006\.safetensors\. "):
        fit(job)
    assert not job.place.final.exists()
    job = toy_job(tmp_path / "early", breaks_at(1, lambda value: value / 0))
    with pytest.raises(TrainingError, match=r"student\.bad is not finite at step 1; there is no checkpoint yet"):
        fit(job)


def test_finite_losses_with_an_infinite_sum(tmp_path: Path) -> None:
    weighting = Scheduled({"student.bad": 3e38, "student.fine": 3e38}, {"student.bad": 1.0, "student.fine": 1.0})
    job = toy_job(tmp_path, breaks_at(-1, torch.clone), weighting=weighting, optimizers={"student": SGD["student"]})
    with pytest.raises(TrainingError, match=r"^their weighted sum is not finite at step 0"):
        fit(job)


def test_a_gradient_that_is_not_finite_is_not_clipped(tmp_path: Path) -> None:
    """The loss is 0, its gradient 0 * infinity."""
    job = toy_job(tmp_path, breaks_at(7, lambda value: (value * 0).sqrt()), checkpoint_every=3, clip=1.0)
    with pytest.raises(TrainingError, match=r"^the gradient of student is not finite at step 7; .*step-000000006\.saf"):
        fit(job)
    assert not job.place.final.exists()
    assert job.method.student.value.isfinite().all()  # type: ignore[union-attr]


@pytest.mark.parametrize(("bad", "last"), [(4, "step-000000003"), (5, "step-000000003"), (6, "step-000000006")])
def test_what_an_infinite_gradient_did_is_told_at_the_next_step_and_never_saved(
    tmp_path: Path, bad: int, last: str
) -> None:
    job = toy_job(tmp_path, breaks_at(bad, lambda value: (value * 0).sqrt()), checkpoint_every=3)
    says = rf"what student has learned is not finite before step {bad + 1}; .*{last}"
    if bad == 5:  # whose step is one after which the state is to be saved
        says = r"step-000000006\.safetensors: not saved, /method/student.value holds NaN"
    with pytest.raises((TrainingError, CheckpointError), match=says):
        fit(job)
    assert not job.place.final.exists() and Checkpoints(job.place.checkpoints, print).latest()["step"] == int(last[5:])  # type: ignore[index]


def test_weights_with_nan_are_never_saved(tmp_path: Path) -> None:
    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        yield from downhill(method, batch, step)
        if step == 5:
            method.student.value.data.fill_(torch.nan)

    job = toy_job(tmp_path, Scripted(script, student=Numbers(1.0)), checkpoint_every=3)
    with pytest.raises(CheckpointError, match=r"step-000000006.*not saved, /method/student\.value holds NaN"):
        fit(job)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000003.safetensors"]
    assert not job.place.final.exists()


def test_an_optimiser_of_an_unknown_player(tmp_path: Path) -> None:
    job = toy_job(tmp_path, optimizers={"discriminater": SGD["student"]})
    with pytest.raises(RecipeError, match=r"optimizers\.discriminater: no such player \(did you mean 'discriminator'"):
        engine_of(job)


def test_a_parameter_that_no_player_trains(tmp_path: Path) -> None:
    method = Scripted(downhill, student=Numbers(0.0))
    method.add_module("logits", Numbers(4.0))  # a learned temperature, say
    with pytest.raises(RecipeError, match=r"^Scripted: expected .* none of student trains logits\.value; let "):
        engine_of(toy_job(tmp_path, method))
    method.logits.requires_grad_(False)
    engine_of(toy_job(tmp_path, method))
    weighting = Plain()
    weighting.temperature = nn.Parameter(torch.ones(()))
    with pytest.raises(RecipeError, match=r"^Plain: .* none of student trains temperature; "):
        engine_of(toy_job(tmp_path, method, weighting=weighting))


def test_a_batch_larger_than_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"training\.batch: 128 samples, but the data has only 64"):
        fit(toy_job(tmp_path, batch=128))


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    trained(toy_job(tmp_path, identity="one"))
    with pytest.raises(CheckpointError, match=r"another training \(found 'one', expected 'two'\); .*--out"):
        fit(toy_job(tmp_path, identity="two"))


def test_a_damaged_checkpoint_costs_time_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"checkpoint_every": 2}
    whole = trained(toy_job(tmp_path / "whole", **options))
    with pytest.raises(Killed):
        fit(toy_job(tmp_path / "damaged", images=Dying(toy_images(), 5), **options))
    newest = tmp_path / "damaged" / "checkpoints" / "step-000000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    assert differences(whole, trained(toy_job(tmp_path / "damaged", **options))) == []
    assert "step-000000004" in capsys.readouterr().err.replace("\n", "")


# Signals and processes

SIGTERMED = """
import os, sys
from pathlib import Path
from toys import Stopped, toy_job
from limbeck.training.launch import Interrupted, fit
for step in (5, 8):
    try:
        fit(toy_job(Path(sys.argv[1]) / str(step), Stopped(step - 1, os.getpid()), checkpoint_every=100))
    except Interrupted as stopped:
        print(f"{step} said: {stopped}")
"""


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", SIGTERMED, str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    whole = trained(toy_job(tmp_path / "whole", checkpoint_every=100))
    for step, said in ((5, "step 5"), (8, "step 8, the last")):
        assert f"{step} said: stopped after {said}; the same command goes on from there" in ended.stdout
        (saved,) = (tmp_path / str(step) / "checkpoints").iterdir()
        assert load(saved)["step"] == step
        assert differences(whole, trained(toy_job(tmp_path / str(step), checkpoint_every=100))) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_handlers_of_signals_are_given_back(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    fit(toy_job(tmp_path))
    assert signal.getsignal(number) is before


def test_two_processes_follow_one_and_stop_together(tmp_path: Path) -> None:
    """Two processes take some steps and are told to stop; one process goes on: as if it had been alone all along."""
    options: dict[str, Any] = {"steps": 60, "ema": 0.9, "checkpoint_every": 100}
    with pytest.raises(Interrupted, match=r"^stopped after step [345]0; the same command goes on from there$"):
        fit(toy_job(tmp_path / "two", Stopped(21, os.getpid(), batch_norm=False, dropout=0.0), processes=2, **options))
    (saved,) = (tmp_path / "two" / "checkpoints").iterdir()
    assert saved.name in [f"step-0000000{step}.safetensors" for step in (30, 40, 50)]
    two = trained(toy_job(tmp_path / "two", ToyGan(batch_norm=False, dropout=0.0), **options))
    one = trained(toy_job(tmp_path / "one", ToyGan(batch_norm=False, dropout=0.0), **options))
    assert len(one["history"]) == len(two["history"]) == 60
    for row, other in zip(one["history"], two["history"], strict=True):
        assert other == pytest.approx(row, rel=1e-4)
    for name, value in one["student"].items():
        torch.testing.assert_close(two["student"][name], value, rtol=1e-4, atol=1e-5)


def test_the_error_of_a_process_reads_as_if_there_were_one() -> None:
    trace = "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  ...\n"
    own = ProcessRaisedException(f"{trace}limbeck.errors.TrainingError: student.output is not finite: x\n", 1, 2)
    error = launch._of_child(own)
    assert type(error) is TrainingError and str(error) == "student.output is not finite: x"
    data = launch._of_child(ProcessRaisedException(f"{trace}limbeck.errors.DataError: 3.png: damaged\n", 1, 2))
    assert type(data) is DataError and str(data) == "3.png: damaged"
    extra = launch._of_child(ProcessRaisedException(f"{trace}limbeck.errors.MissingExtra: needs x\n", 1, 2))
    assert type(extra) is LimbeckError and str(extra) == "needs x"
    foreign = ProcessRaisedException(f"{trace}ValueError: a bug\n", 1, 2)
    assert launch._of_child(foreign) is foreign


# Watching


class Constant(nn.Module):
    """A generator that has collapsed: the same image for every latent, which it still learns."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.zeros(1, 16, 16))

    def forward(self, latent: Tensor) -> Tensor:
        return self.image + torch.zeros(len(latent), 1, 16, 16)


class Diverse(Constant):
    """A generator whose images are as different as the noise that they learn from."""

    def forward(self, latent: Tensor) -> Tensor:
        return (self.image + latent.repeat(1, 64).view(-1, 1, 16, 16)).clamp(-1, 1)


@pytest.mark.parametrize(("student", "alarmed"), [(Constant(), True), (Diverse(), False)], ids=["constant", "healthy"])
def test_a_collapse_raises_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], student: nn.Module, alarmed: bool
) -> None:
    def script(method: Any, batch: Batch, step: int) -> Iterator[Update]:
        yield Update("student", {"output": (method.student(batch.latent) - batch.image.mean(0)).square().mean()})

    images = torch.randint(0, 256, (60, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data, task = TensorImages(images), Generation((4,), samples=16)
    watcher = Watcher(Setting(data, task, tmp_path, "cpu"), None)
    job = toy_job(
        tmp_path, Scripted(script, student=student), task=task, images=data.split("train"), monitor=watcher,
        steps=4, evaluate_every=2, optimizers={"student": SGD["student"]},
    )  # fmt: skip
    state = trained(job)
    assert [alarm.split(":")[0] for alarm in state["alarms"]] == (["step 2", "step 4"] if alarmed else [])
    assert all("lose diversity" in alarm for alarm in state["alarms"])
    assert ("ALARM at step 2" in capsys.readouterr().err) == alarmed
    watched = [row for row in state["history"] if "diversity" in row]
    assert [row["step"] for row in watched] == [2, 4] and all("entropy" in row for row in watched)


class Judge:
    """A monitor with a verdict prepared for each of its looks."""

    def __init__(self, *verdicts: float | None) -> None:
        self.verdicts, self.seen = list(verdicts), []

    def __call__(self, network: nn.Module) -> Watched:
        self.seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return Watched({}, None, self.verdicts[len(self.seen) - 1])


@pytest.mark.parametrize(
    ("verdicts", "step"),
    [((2.0, 1.0, 3.0, 2.0), 4), ((1.0, 1.0, 1.0, 1.0), 2), ((4.0, 3.0, 2.0, 1.0), 8), ((None, 5.0, None, 6.0), 4)],
)
def test_the_best_checkpoint_is_kept_as_the_monitor_saw_it(
    tmp_path: Path, verdicts: tuple[float | None, ...], step: int
) -> None:
    judge = Judge(*verdicts)
    state = trained(toy_job(tmp_path, monitor=judge, ema=0.5, evaluate_every=2))
    assert state["best"]["step"] == step
    assert state["best"]["score"] == min(v for v in verdicts if v is not None)
    assert differences(judge.seen[step // 2 - 1], state["best"]["student"]) == []


@pytest.mark.parametrize(
    ("verdicts", "alarmed"),
    [
        ((2.0, 1.0, 1.9, 2.1), [8]),
        ((4.0, 3.0, 2.0, 1.0), []),
        ((-0.9, -0.4, -0.5, None), [4]),
        ((None, 5.0, 11.0, 9.0), [6]),
    ],
)
def test_a_student_half_as_good_as_it_was_raises_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verdicts: tuple[float | None, ...], alarmed: list[int]
) -> None:
    state = trained(toy_job(tmp_path, monitor=Judge(*verdicts), evaluate_every=2))
    assert [int(alarm.split(":")[0].removeprefix("step ")) for alarm in state["alarms"]] == alarmed
    assert all("less than half as good on the validation split as at step" in alarm for alarm in state["alarms"])
    assert ("ALARM at step" in capsys.readouterr().err) == bool(alarmed)


def test_the_best_checkpoint_survives_a_kill(tmp_path: Path) -> None:
    def make(folder: str, *verdicts: float, **more: Any) -> Job:
        options: dict[str, Any] = {"ema": 0.5, "evaluate_every": 2, "checkpoint_every": 3}
        return toy_job(tmp_path / folder, monitor=Judge(*verdicts), **options | more)

    whole = trained(make("whole", 1.0, 2.0, 3.0, 4.0))
    assert whole["best"]["step"] == 2
    with pytest.raises(Killed):
        fit(make("killed", 1.0, 2.0, 3.0, 4.0, images=Dying(toy_images(), 5)))
    again = trained(make("killed", 2.0, 3.0, 4.0))  # from step 3 on: it looks at steps 4, 6 and 8
    assert differences(whole, again) == []


def test_a_monitor_sees_the_averaged_student_and_changes_nothing(tmp_path: Path) -> None:
    seen: list[nn.Module] = []

    def monitor(network: nn.Module) -> Watched:
        seen.append(network)
        torch.rand(7)  # its random numbers are not the training's
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        return Watched({"metric": 1.0})

    options: dict[str, Any] = {"ema": 0.5, "evaluate_every": 3}
    watched = trained(toy_job(tmp_path / "watched", monitor=monitor, **options))
    alone = trained(toy_job(tmp_path / "alone", **options))
    assert [row["step"] for row in watched["history"] if "metric" in row] == [3, 6, 8]
    assert len(seen) == 3 and not any(network.training for network in seen)
    assert differences(alone["method"], watched["method"]) == []
    assert differences(alone["student"], watched["student"]) == []

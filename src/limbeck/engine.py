"""The training loop: the only file that knows of Fabric.

A step is a pure function of (state, seed, step number). The state is what `Engine.state` returns and nothing else
carries over, so a run that is killed at any instant and started again ends with bit-identical weights.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException

from limbeck.average import Average, averaged
from limbeck.checkpoint import Checkpoints, save
from limbeck.data.base import Augmentation, Images
from limbeck.errors import CheckpointError, RecipeError, TrainingError, nearest
from limbeck.feed import Feed
from limbeck.methods.base import Method
from limbeck.progress import Progress, say
from limbeck.randomness import seed_of
from limbeck.tasks.base import Task
from limbeck.training import Training
from limbeck.types import Batch, Update
from limbeck.weighting.base import Weighting

Monitor = Callable[[nn.Module], tuple[dict[str, float], str | None]]
"""Takes the student as it would be exported; returns validation metrics and an alarm, or None."""

FLAG_INTERVAL = 10  # steps between two looks at the other processes' signals


class Interrupted(TrainingError):
    """The training was asked to stop, has saved its state, and can go on."""


@dataclass(frozen=True)
class Job:
    """Everything that a training needs; can be sent to another process.

    Attributes:
        method: What to train, on the CPU; or a function that makes it, for networks that cannot be sent to another
            process (spectral normalisation).
        task: Makes the method's batches.
        images: The training data.
        training: The options.
        weighting: Weighs the losses.
        seed: Draws everything random.
        folder: Where checkpoints and the final state go.
        identity: A checkpoint with another identity belongs to another training and is refused.
        augmentation: Applied to the images, or None.
        monitor: Called every `training.evaluate_every` steps, or None.
        log_every: Steps between two entries of a loss in the history.
        title: Shown beside the progress bar.
        accelerator: "auto", "cpu", "cuda" or "mps".
    """

    method: Method | Callable[[], Method]
    task: Task
    images: Images
    training: Training
    weighting: Weighting
    seed: int
    folder: Path
    identity: str = ""
    augmentation: Augmentation | None = None
    monitor: Monitor | None = None
    log_every: int = 50
    title: str = "training"
    accelerator: str = "auto"

    @property
    def final(self) -> Path:
        """The file that holds the finished training's state."""
        return self.folder / "final.safetensors"


def fit(job: Job) -> None:
    """Train to the end, from the last checkpoint if there is one; leave the state in `job.final`.

    Raises:
        TrainingError: A loss is not finite.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        CheckpointError: A checkpoint cannot be read or written.
    """
    if job.training.processes == 1:
        _train(Fabric(accelerator=job.accelerator, devices=1), job)
        return
    fabric = Fabric(accelerator=job.accelerator, devices=job.training.processes, strategy="ddp_spawn")
    with _signals(_forward):
        try:
            fabric.launch(partial(_train_part, job=job))
        except ProcessRaisedException as error:
            raise _of_child(error) from error


def _train_part(fabric: Fabric, job: Job) -> None:
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // fabric.world_size))
    shared = isinstance(job.method, Method)  # what arrives here shares its memory with the other processes
    _train(fabric, replace(job, method=deepcopy(job.method)) if shared else job)


def _forward(number: int) -> None:
    """Give a signal to the processes of the training."""
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, number)


def _of_child(error: ProcessRaisedException) -> Exception:
    """Return the error that a process ended with, so that it reads the same as in a single process."""
    name, _, message = str(error).strip().splitlines()[-1].partition(": ")
    kinds = {f"{kind.__module__}.{kind.__name__}": kind for kind in (Interrupted, TrainingError, CheckpointError)}
    return kinds[name](message) if name in kinds else error


def _train(fabric: Fabric, job: Job) -> None:
    engine = Engine(fabric, job)
    checkpoints = Checkpoints(job.folder / "checkpoints", warn=say)
    if (state := checkpoints.latest()) is not None:
        engine.load(state)
    asked: list[int] = []
    shown = fabric.is_global_zero
    with _signals(asked.append), Progress(job.title, job.training.steps, shown) as progress:
        started = time.perf_counter()
        for batch in engine.feed.steps(engine.step, job.training.steps):
            engine.advance(batch)
            progress.update(engine.step, engine.history[-1] if engine.history else {})
            stop = engine.agree(bool(asked)) if engine.step % FLAG_INTERVAL == 0 or fabric.world_size == 1 else False
            last = engine.step == job.training.steps
            if stop or last or engine.step % job.training.checkpoint_every == 0:
                now = time.perf_counter()
                engine.seconds, started = engine.seconds + now - started, now
                state = engine.state()
                if fabric.is_global_zero:
                    checkpoints.save(engine.step, state)
            if stop and not last:
                fabric.barrier()  # the first process to end takes the others with it
                raise Interrupted(f"stopped after step {engine.step}; the same command goes on from there")
        if fabric.is_global_zero:
            save(job.final, engine.state())
    fabric.barrier()


class Engine:
    """The state of a training and the one step that moves it.

    Args:
        fabric: Devices, processes, precision.
        job: What to train.

    Raises:
        RecipeError: An optimiser names a player that the method does not have.
    """

    def __init__(self, fabric: Fabric, job: Job) -> None:
        self.fabric, self.job, self.training = fabric, job, job.training
        method = job.method if isinstance(job.method, Method) else job.method()
        self.method = method.to(fabric.device).train()
        if self.training.channels_last:
            self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weighting = job.weighting.to(fabric.device)
        self.players = self.method.players()
        for name in job.training.optimizers:
            if name not in self.players:
                known = ", ".join(self.players)
                raise RecipeError(f"optimizers.{name}: no such player{nearest(name, self.players)}; there is {known}")
        self.parameters = {n: [p for p in m.parameters() if p.requires_grad] for n, m in self.players.items()}
        self.trained = list(self.method.parameters())
        self.optimizers = {name: self._optimizer(name) for name in self.players}
        self.rates = {name: [g["lr"] for g in o.param_groups] for name, o in self.optimizers.items()}
        self.average = None if self.training.ema is None else Average(self.method.student, self.training.ema)
        if self.training.compile and not self.method.exact:
            for module in {self.method.student, *self.players.values()}:  # a player can be a list of modules
                module.compile()
        self.feed = Feed(
            job.images,
            job.task,
            self.method.draws(),
            job.augmentation,
            seed=job.seed,
            batch=self.training.batch,
            rank=fabric.global_rank,
            processes=fabric.world_size,
            workers=self.training.workers,
        )
        self.step = 0
        self.counts = dict.fromkeys(self.players, 0)
        self.history: list[dict[str, float]] = []
        self.logged: dict[str, float] = {}
        self.alarms: list[str] = []
        self.seconds = 0.0

    def advance(self, batch: Batch) -> None:
        """Take one step: every update that the method yields for this process's part of the batch."""
        self._seed_layers()
        row: dict[str, float] = {}
        size = len(batch) // self.training.micro_batches
        parts = [self._place(batch[i : i + size]) for i in range(0, len(batch), size)]
        generators = [self.method.updates(part, self.step) for part in parts]
        while (player := self._backward(generators, row)) is not None:
            if player:
                self._move(player)
        self.step += 1
        if row:
            self.history.append({"step": self.step, **self._averaged_over_processes(row)})
            self.logged.update(dict.fromkeys(row, self.step))
        self._watch()

    def _backward(self, generators: list[Iterator[Update]], row: dict[str, float]) -> str | None:
        """Advance each micro-batch to its next update and differentiate it.

        Returns the player to move; "" when every loss of the update is switched off, None after the last update.
        """
        for parameter in self.trained:
            parameter.grad = None  # of all players: a forward pass may have run through any of them
        moved: str | None = None
        for updates in generators:
            with self._autocast():
                update = next(updates, None)
                if update is None:
                    return None
                losses = self._evaluate(update)
            moved = update.player if losses else ""
            if losses:
                total = self.weighting.combine(losses, self._progress) / len(generators)
                self._check(losses, total)
                # Only with respect to the parameters that move: through a discriminator that judges the student,
                # say, the gradient flows but is not wanted for its own weights.
                total.backward(inputs=self.parameters[update.player])  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                if self._due(name):
                    row[name] = row.get(name, 0.0) + loss.item() / len(generators)
        return moved

    def _due(self, loss: str) -> bool:
        """Return whether a loss is to be logged: each in its own time, for some are not computed at every step."""
        step = self.step + 1
        known = self.logged.get(loss)
        return known is None or step - known >= self.job.log_every or step == self.training.steps

    def _evaluate(self, update: Update) -> dict[str, Tensor]:
        """Return the losses whose weight is not zero; the others are not even computed."""
        losses = {}
        for short, loss in update.losses.items():
            name = f"{update.player}.{short}"
            if self.weighting.weight(name, self._progress) != 0:
                losses[name] = loss() if callable(loss) else loss
        return losses

    def _move(self, player: str) -> None:
        """Average the gradients over processes, clip them, and take the player's optimiser step."""
        gradients = [p.grad for p in self.parameters[player] if p.grad is not None]
        if self.fabric.world_size > 1 and gradients:
            flat = torch.cat([g.reshape(-1) for g in gradients])
            parts = torch.split(self._mean(flat), [g.numel() for g in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        if self.training.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters[player], self.training.clip)
        optimizer, count = self.optimizers[player], self.counts[player]
        for group, rate in zip(optimizer.param_groups, self.rates[player], strict=True):
            group["lr"] = rate * self.training.rate(count, self._progress)
        optimizer.step()
        if self.average is not None and player == "student":
            self.average.update(count)
        self.counts[player] += 1

    def student(self) -> nn.Module:
        """Return a copy of the student as it would be exported: averaged, in evaluation mode."""
        return averaged(self.method.student, self.average)

    def agree(self, asked: bool) -> bool:
        """Return whether any process was asked to stop."""
        if self.fabric.world_size == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.fabric.device)
        return bool(self._mean(flag) > 0)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        self._average_buffers()
        return {
            "identity": self.job.identity,
            "step": self.step,
            "counts": self.counts,
            "method": self.method.state_dict(),
            "weighting": self.weighting.state_dict(),
            "optimizers": {name: _with_text_keys(o.state_dict()) for name, o in self.optimizers.items()},
            "student": self.student().state_dict(),
            "history": self.history,
            "alarms": self.alarms,
            "seconds": self.seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up a saved state.

        Raises:
            CheckpointError: It belongs to another training.
        """
        if state["identity"] != self.job.identity:
            raise CheckpointError(
                f"{self.job.folder}: its checkpoint belongs to another training (found {state['identity']!r}, expected"
                f" {self.job.identity!r}); choose another folder with --out"
            )
        self.step, self.counts, self.seconds = state["step"], state["counts"], state["seconds"]
        self.history, self.alarms = state["history"], state["alarms"]
        self.logged = {name: row["step"] for row in self.history for name in row}
        self.method.load_state_dict(state["method"])
        self.weighting.load_state_dict(state["weighting"])
        for name, optimizer in self.optimizers.items():
            _load_optimizer(optimizer, state["optimizers"][name])
        if self.average is not None:
            self.average.load_state_dict(state["student"])

    def _seed_layers(self) -> None:
        """Seed what layers draw themselves, such as dropout."""
        seed = seed_of(self.job.seed, self.step, "layers", self.fabric.global_rank)
        if self.fabric.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # seeding every kind of device takes a hundred times as long
        else:
            torch.manual_seed(seed)

    @property
    def _progress(self) -> float:
        return self.step / self.training.steps

    def _optimizer(self, player: str) -> torch.optim.Optimizer:
        factory = self.training.optimizers.get(player, torch.optim.Adam)
        return factory(self.parameters[player])

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        """Autocast the forward passes up to the next yield.

        Leaving the context empties autocast's cache of cast weights, which an optimiser step has made stale.
        """
        enabled = self.training.precision == "bf16" and not self.method.exact
        with torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=enabled):
            yield

    def _place(self, batch: Batch) -> Batch:
        batch = batch.to(self.fabric.device)
        if self.training.channels_last:
            batch = batch.map(lambda t: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t)
        return batch

    def _check(self, losses: Mapping[str, Tensor], total: Tensor) -> None:
        if math.isfinite(total.item()):
            return
        culprit = next((n for n, loss in losses.items() if not math.isfinite(loss.item())), "their weighted sum")
        saved = Checkpoints(self.job.folder / "checkpoints", warn=say).paths()
        good = f"the last good checkpoint is {saved[-1].name}" if saved else "there is no checkpoint yet"
        raise TrainingError(
            f"{culprit} is not finite at step {self.step}; {good}. Lower the learning rate, clip gradients"
            " (training.clip), or lower that loss's weight"
        )

    def _watch(self) -> None:
        every = self.training.evaluate_every or self.training.steps
        if self.job.monitor is None or (self.step % every and self.step != self.training.steps):
            return
        if self.fabric.is_global_zero:
            metrics, alarm = self.job.monitor(self.student())
            self.history.append({"step": self.step, **metrics})
            if alarm is not None:
                self.alarms.append(f"step {self.step}: {alarm}")
                say(f"ALARM at {self.alarms[-1]}")
        self.fabric.barrier()

    def _averaged_over_processes(self, row: dict[str, float]) -> dict[str, float]:
        if self.fabric.world_size == 1 or not row:
            return row
        values = torch.tensor(list(row.values()), device=self.fabric.device)
        return dict(zip(row, self._mean(values).tolist(), strict=True))

    def _mean(self, tensor: Tensor) -> Tensor:
        mean = self.fabric.all_reduce(tensor, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    @torch.no_grad()
    def _average_buffers(self) -> None:
        """Batch norm is local to a process, so its statistics are averaged before they are saved."""
        if self.fabric.world_size > 1:
            for buffer in self.method.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self._mean(buffer.clone()))


def _with_text_keys(state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimiser's state with the numbers of its parameters as text, as a checkpoint needs."""
    return {**state, "state": {str(number): values for number, values in state["state"].items()}}


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    optimizer.load_state_dict({**state, "state": {int(number): values for number, values in state["state"].items()}})
    for group in optimizer.param_groups:
        for key, value in group.items():
            if isinstance(value, list) and key != "params":  # JSON has no tuples, and Adam's betas are one
                group[key] = tuple(value)
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:  # the memory format of the parameter
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@contextmanager
def _signals(handle: Callable[[int], object]) -> Iterator[None]:
    """Give SIGINT and SIGTERM to `handle` instead of dying, so that the step can end and be saved."""
    try:
        before = {n: signal.signal(n, lambda number, _: handle(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's business there
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

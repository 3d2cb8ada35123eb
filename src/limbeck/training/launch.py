"""Starting a training: processes, signals, and checkpoints from which an interrupted one goes on."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import active_children, parent_process
from typing import TYPE_CHECKING

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from limbeck.errors import LimbeckError, MissingExtra, TrainingError
from limbeck.ground.hardware import native_bf16
from limbeck.ground.locks import joined
from limbeck.ground.progress import say
from limbeck.methods.base import Method
from limbeck.networks.handling.copying import copied
from limbeck.training.checkpoint import Checkpoints, masks, save
from limbeck.training.engine import Engine
from limbeck.training.feed import Waiting
from limbeck.training.job import Job
from limbeck.training.listeners import telling
from limbeck.training.options import device_of
from limbeck.training.replicas import Copies, One, Replicas

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LONG, WAITED = 10, 0.05  # seconds of a training, and the part of them spent waiting for data, from which on it is said
FLAG_INTERVAL = 10  # steps between two looks at the other processes' signals
for _chatter in ("lightning_fabric.utilities.distributed", "lightning_fabric.utilities.rank_zero"):
    logging.getLogger(_chatter).setLevel(logging.WARNING)  # which process is which helps nobody
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # whom it ends is told below


class Interrupted(TrainingError):
    """The training was asked to stop, has saved its state, and can go on."""


def fit(job: Job) -> None:
    """Train to the end, from the last checkpoint if there is one; leave the state in `job.place.final`.

    Raises:
        TrainingError: A loss is not finite.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        CheckpointError: A checkpoint cannot be read or written.
    """
    device = device_of(job.place.accelerator).type
    _tell_precision(job, device)
    if job.training.processes == 1:
        _train(One(device), job)
        return
    from lightning_fabric import Fabric  # noqa: PLC0415 (it takes seconds, and one device does without it)

    fabric = Fabric(accelerator=device, devices=job.training.processes, strategy="ddp_spawn")
    with _signals(_forward):
        try:
            fabric.launch(partial(_one_of_several, job=job))
        except ProcessRaisedException as error:
            raise _of_child(error) from error
        except ProcessExitedException as error:
            if not job.place.final.exists():
                raise _died(error, job) from error
            say(f"{job.observation.title}: {_end(error)} when everything was saved")


def _tell_precision(job: Job, device: str) -> None:
    """Say what `auto` comes to on this machine, and where bf16 is a loss of time."""
    precision, native = job.training.precision, native_bf16(device)
    if precision == "auto":
        found = "bf16" if native else f"32, as this {device} has no bfloat16 arithmetic"
        say(f"{job.observation.title}: precision auto is {found}; channels last")
    if precision == "bf16" and not native:
        slow = f"this {device} has no bfloat16 arithmetic, so that precision bf16 is slower here than 32"
        say(f"{job.observation.title}: {slow}")


def _one_of_several(fabric: Fabric, job: Job) -> None:
    """Do a process's part of the training, and leave the group in good order."""
    with joined(job.place.lock):
        parent = parent_process()
        if parent is None or not parent.is_alive():
            return  # killed before this process could join it: somebody else may be training here by now
        try:
            _train_part(fabric, job)
        finally:
            torch.distributed.destroy_process_group()  # a process that ends within a group can end in SIGABRT


def _train_part(fabric: Fabric, job: Job) -> None:
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // fabric.world_size))
    # What arrives here shares its memory with the other processes, which would all train the same numbers.
    method = copied(job.method) if isinstance(job.method, Method) else job.method
    _train(Copies(fabric), replace(job, method=method, weighting=copied(job.weighting)))


def _forward(number: int) -> None:
    """Give a signal to the processes of the training."""
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, number)


def _died(error: ProcessExitedException, job: Job) -> TrainingError:
    """Return what to say of a process that was killed, or left, without an error of its own."""
    memory = ", as the system does when memory runs out" if error.signal_name == "SIGKILL" else ""
    last = Checkpoints(job.place.checkpoints, warn=say).last()
    return TrainingError(f"{job.observation.title}: {_end(error)}{memory}; {last}; the same command goes on from there")


def _end(error: ProcessExitedException) -> str:
    how = f"was killed by {error.signal_name}" if error.signal_name else f"ended with status {error.exit_code}"
    return f"process {error.error_index} (pid {error.error_pid}) {how}"


def _of_child(error: ProcessRaisedException) -> Exception:
    """Return the error that a process ended with, so that it reads the same as in a single process."""
    name, _, message = str(error).strip().splitlines()[-1].partition(": ")
    known: list[type[LimbeckError]] = [Interrupted, *LimbeckError.__subclasses__()]
    if name == "BrokenPipeError":
        return BrokenPipeError(errno.EPIPE, message)  # nobody reads what the process prints
    kind = next((kind for kind in known if f"{kind.__module__}.{kind.__name__}" == name), None)
    if kind is None:
        return error
    return LimbeckError(message) if kind is MissingExtra else kind(message)  # that one makes its message by itself


def _train(replicas: Replicas, job: Job) -> None:
    engine = Engine(replicas, job)
    checkpoints = Checkpoints(job.place.checkpoints, say, masks(engine.method))
    if (state := checkpoints.latest()) is not None:
        engine.load(state)
    asked: list[int] = []
    listeners = job.observation.listeners if replicas.rank == 0 else ()
    known = {name: value for row in engine.history for name, value in row.items() if name != "step"}
    with _signals(asked.append), telling(listeners, job.observation.title, job.training.steps, engine.step, known):
        started = time.perf_counter()
        waiting = Waiting(engine.feed.steps(engine.step, job.training.steps))
        for batch in waiting:
            row = engine.advance(batch)
            for listener in listeners:
                listener.stepped(engine.step, row)
            looks = replicas.count == 1 or engine.step % FLAG_INTERVAL == 0
            stop = looks and replicas.agree(bool(asked))
            last = engine.step == job.training.steps
            if stop or last or engine.step % job.training.checkpoint_every == 0:
                now = time.perf_counter()
                engine.seconds, started = engine.seconds + now - started, now
                state = engine.state()
                if replicas.rank == 0:
                    checkpoints.save(engine.step, state)
            if stop and not last:
                replicas.wait()  # the first process to end takes the others with it
                raise Interrupted(f"stopped after step {engine.step}; the same command goes on from there")
        state = engine.state()  # in every process, as they average their buffers for it
        if replicas.rank == 0:
            save(job.place.final, state, checkpoints.infinite)
        if replicas.agree(bool(asked)):  # during the last step: its arm is whole, but what comes after is not wanted
            replicas.wait()
            raise Interrupted(f"stopped after step {engine.step}, the last; the same command goes on from there")
    replicas.wait()
    if replicas.rank == 0:
        _tell_waiting(waiting, job.observation.title)


def _tell_waiting(waiting: Waiting, title: str) -> None:
    """Say how long a training waited for data, where that is worth a thought."""
    if waiting.whole > LONG and waiting.share > WAITED:
        advice = "more training.workers may help, or images that are made smaller beforehand"
        say(f"{title}: waited for data {waiting.share:.0%} of its time; {advice}")


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

"""Two processes of one group that do what many tests ask of them: starting a pair for each would cost seconds each."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from limbeck.training.job import Job

PATIENCE = 120.0  # seconds that both processes have for a task


class Pair:
    """Two processes, started when they are first needed and again after one has failed.

    Args:
        folder: Where they find each other; must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[tuple[Any, Connection]] = []
        self.starts = 0

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what `function(rank, *arguments)` returns in each; it has to be one that can be imported.

        Raises:
            AssertionError: It raised in one of them, which its message tells, or took too long.
        """
        if not self.running:
            self._start()
        for _, pipe in self.running:
            pipe.send((function, arguments))
        answers = [pipe.recv() if pipe.poll(PATIENCE) else (False, "no answer") for _, pipe in self.running]
        wrong = [f"process {rank}: {said}" for rank, (good, said) in enumerate(answers) if not good]
        if wrong:
            self.close()  # the other one may wait for ever for what this one did not send
            raise AssertionError("\n".join(wrong))
        return [said for _, said in answers]

    def close(self) -> None:
        """End them."""
        for process, _ in self.running:
            process.kill()
            process.join()
        self.running = []

    def _start(self) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.starts += 1
        store = str(self.folder / f"store-{self.starts}")
        for rank in range(2):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, store, there), daemon=True)
            process.start()
            there.close()
            self.running.append((process, here))


def _serve(rank: int, store: str, pipe: Connection) -> None:
    """Do what comes, until killed."""
    torch.set_num_threads(1)
    # What Fabric asks for, so that it takes the group as it is instead of starting processes of its own.
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    os.environ |= {"TORCHELASTIC_RUN_ID": "pair"}
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    while True:
        function, arguments = pipe.recv()
        try:
            pipe.send((True, function(rank, *arguments)))
        except Exception:
            pipe.send((False, traceback.format_exc()))


def train(rank: int, job: Job) -> None:
    """Train a job of two processes, as `fit` does in the two that it starts."""
    from lightning_fabric import Fabric  # noqa: PLC0415 (seconds, for those who do not train)

    from limbeck.training.launch import _train_part  # noqa: PLC0415

    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    assert (fabric.global_rank, fabric.world_size) == (rank, 2)
    _train_part(fabric, job)

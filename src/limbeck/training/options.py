"""How long and in which way an arm trains: the training section of a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from limbeck.errors import RecipeError

OptimizerFactory = Callable[[Iterable[Parameter] | Iterable[dict[str, Any]]], Optimizer]


@dataclass(frozen=True)
class Training:
    """Options of one arm's training.

    Attributes:
        steps: Number of steps; a step is everything that the method yields for one batch.
        batch: Samples a step, over all processes and micro-batches.
        optimizers: An optimiser for each player, made from the player's parameters.
        warmup: Updates over which the learning rate of a player rises linearly from 0.
        schedule: The learning rate after the warm-up: "constant", "cosine" down to 0 at the end, or "multistep", a
            tenth from each of the `milestones` on.
        milestones: Parts of the training in (0, 1), rising; only for "multistep".
        clip: Largest norm of a player's gradient; null does not clip.
        ema: Decay of the average of the student's weights that is evaluated and exported; null keeps no average.
        precision: "32"; "bf16" (autocast; penalties on gradients stay in float32), which is fast on GPUs and on CPUs
            that have it (AVX512-BF16, AMX, Arm's BF16), and several times slower than "32" on others; or "auto": bf16
            where the machine has it, else 32, and in either case `channels_last`.
        channels_last: Memory layout of images and convolution weights.
        compile: Compile the networks with torch.compile.
        micro_batches: Parts into which a process splits its batch to save memory.
        processes: Number of processes on this machine.
        checkpoint_every: Steps between two checkpoints.
        evaluate_every: Steps between two evaluations on the validation split; null evaluates only at the end.
        workers: Processes that read, augment and batch ahead of the step; null for some where files are decoded or a
            GPU computes, else none. Nothing that is trained depends on it.
        views: How many augmented views of each image there are, gone through again and again and the same for every
            seed and every arm; null augments anew at every step. As many as there are epochs differ from that in
            nothing but that seeds share them; fewer make the data smaller.
        teacher_cache: Compute the teacher's outputs once, store them beside the arms, and reuse them in every arm with
            the same teacher and data, and the same `precision` and `channels_last`. With an augmentation it needs
            `views`.
        freeze: Path of the student's module up to which, in the order of its `named_modules`, nothing is trained and
            batch-norm statistics stay; null trains all of it.
        rates: Factors of the student's learning rate by module path; of several that hold a parameter the longest path
            wins. What no path holds has 1.
    """

    steps: int
    batch: int = 64
    optimizers: Mapping[str, OptimizerFactory] = field(default_factory=dict)
    warmup: int = 0
    schedule: Literal["constant", "cosine", "multistep"] = "constant"
    milestones: tuple[float, ...] = ()
    clip: float | None = None
    ema: float | None = None
    precision: Literal["32", "bf16", "auto"] = "32"
    channels_last: bool = False
    compile: bool = False
    micro_batches: int = 1
    processes: int = 1
    checkpoint_every: int = 500
    evaluate_every: int | None = None
    workers: int | None = None
    views: int | None = None
    teacher_cache: bool = False
    freeze: str | None = None
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "micro_batches", "processes", "checkpoint_every"):
            value: Any = getattr(self, name)
            if value < 1:
                raise RecipeError(f"training.{name}: expected a whole number of at least 1, found {value}")
        for name in ("warmup", "workers"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise RecipeError(f"training.{name}: expected a whole number of at least 0, found {value}")
        parts = self.micro_batches * self.processes
        if self.batch % parts:
            raise RecipeError(
                f"training.batch: {self.batch} samples cannot be split evenly over {self.processes} processes"
                f" of {self.micro_batches} micro-batches; choose a multiple of {parts}"
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise RecipeError(f"training.ema: expected a number in [0, 1), found {self.ema}")
        if self.views is not None and self.views < 1:
            raise RecipeError(f"training.views: expected at least 1, or null, found {self.views}")
        if self.clip is not None and self.clip <= 0:
            raise RecipeError(f"training.clip: expected a number above 0, or null, found {self.clip}")
        if bool(self.milestones) != (self.schedule == "multistep"):
            raise RecipeError(
                f"training.milestones: expected some with the schedule multistep and none otherwise, found"
                f" {list(self.milestones)} with {self.schedule}"
            )
        if any(not 0 < m < 1 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise RecipeError(
                f"training.milestones: expected rising parts of the training in (0, 1), such as [0.625, 0.75, 0.875],"
                f" found {list(self.milestones)}"
            )
        for path, factor in self.rates.items():
            if not factor > 0:
                raise RecipeError(
                    f"training.rates.{path}: expected a factor above 0, found {factor}; to hold it, freeze"
                )

    def rate(self, count: int, progress: float) -> float:
        """Return the factor of a player's learning rate at its update number `count` (from 0).

        It rises linearly over `warmup` updates, then stays, falls along half a cosine (Loshchilov & Hutter 2017) with
        `progress`, the fraction of the training that is done, or falls tenfold at each milestone.
        """
        rise = min(1.0, (count + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * progress))
        return rise * 0.1 ** sum(progress >= milestone for milestone in self.milestones)


def device_of(accelerator: str) -> torch.device:
    """Return the device that an accelerator means.

    Args:
        accelerator: "auto", "cpu", "cuda" or "mps".

    Raises:
        RecipeError: It is none of them, or this machine does not have it.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        return torch.device("cuda" if present["cuda"] else "cpu")
    if accelerator not in present:
        raise RecipeError(f"accelerator: expected auto, {', '.join(present)}, found {accelerator!r}")
    if not present[accelerator]:
        there = ", ".join(name for name, found in present.items() if found)
        raise RecipeError(f"accelerator: expected one that PyTorch finds here ({there}), found {accelerator!r}")
    return torch.device(accelerator)

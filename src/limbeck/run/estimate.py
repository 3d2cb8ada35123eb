"""What a run will cost: one network and a few steps of every arm, before anything heavy starts."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import nn

from limbeck.errors import LimbeckError
from limbeck.ground.progress import say
from limbeck.methods.base import Method
from limbeck.metrics.cost import parameters
from limbeck.metrics.work import macs
from limbeck.recipe.probing import Probe, told
from limbeck.recipe.reader import ArmRecipe, Recipe
from limbeck.recipe.rehearsal import rehearse
from limbeck.report.table import Estimate
from limbeck.tasks.classification import Classification
from limbeck.training.engine import Engine
from limbeck.training.feed import Material
from limbeck.training.job import Job, Place
from limbeck.training.options import Training, device_of
from limbeck.training.replicas import One

STEPS = 4  # the first warms up, the others are timed


def estimate(recipe: Recipe, accelerator: str = "auto") -> list[Estimate]:
    """Build every arm, take a few steps of it with an untrained teacher, and return what it will cost.

    Raises:
        LimbeckError: Something in the recipe, its data or its weights cannot be used.
    """
    device_of(accelerator)
    rehearse(recipe)
    data, task = recipe.data.build(), recipe.task.build()
    images = data.split("train")
    found = []
    for name, arm in recipe.arms().items():
        network, own = arm.network.build().eval(), Classification() if name == "features" else task
        Probe(data, own, accelerator).arm(name, arm, recipe.teacher_of(name))
        steps, seconds = 0, 0.0
        if arm.training is not None:
            teacher = recipe.teacher_of(name)
            teacher_networks = None if teacher is None else _networks(teacher)
            method = arm.assemble(_networks(arm), teacher_networks)
            _caution(name, method, arm.training.micro_batches)
            if arm.training.teacher_cache and teacher is not None:
                views = arm.training.views if arm.augmentation and arm.training.views else 1
                _weigh_storing(name, arm.training, views * len(images), len(recipe.seeds))
            training = replace(arm.training, processes=1, compile=False)
            augmentation = arm.augmentation.build() if arm.augmentation else None
            with tempfile.TemporaryDirectory() as folder:
                material = Material(images, own, augmentation, kinds=data.kinds)
                job = Job(method, material, training, arm.weigh(), 0, Place(Path(folder)))
                runs = 1 if name in ("features", "teacher") else len(recipe.seeds)
                with told(name, "a step fails"):
                    steps, seconds = training.steps, _seconds_a_step(job, accelerator) * training.steps * runs
        with told(f"{name}.network"):
            work = macs(own.ready(network), own.example(data, 1)).count
        found.append(Estimate(name, parameters(network), int(work), _memory(), steps, seconds))
    return found


def _caution(name: str, method: Method, micro_batches: int) -> None:
    """Say which losses a batch in parts changes: those that are no means over its samples."""
    coupling = [loss for loss, term in method.terms.items() if term.couples]
    if coupling and micro_batches > 1:
        say(
            f"{name}: with micro_batches: {micro_batches} the gradient is not that of the whole batch, as these losses"
            f" are no means over its samples: {', '.join(coupling)}"
        )


def _weigh_storing(name: str, training: Training, stored: int, seeds: int) -> None:
    """Say whether it pays to store what the teacher says to so many images."""
    asked = training.steps * training.batch * seeds
    pays = "pays" if stored < asked else "does not pay by itself: take fewer views, or leave it out"
    say(
        f"{name}: teacher_cache {pays}; the teacher is asked about {stored:,} images instead of {asked:,}, and less if"
        " other arms need the same"
    )


def _networks(arm: ArmRecipe) -> dict[str, nn.Module]:
    return {"student": arm.network.build(), **{name: part.build() for name, part in arm.networks.items()}}


def _seconds_a_step(job: Job, accelerator: str) -> float:
    device = device_of(accelerator)
    engine = Engine(One(device), job)
    times = []
    for batch in engine.feed.steps(0, min(STEPS, job.training.steps)):
        start = time.perf_counter()
        engine.advance(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    if not times:
        raise LimbeckError("training.steps: expected at least 1")
    return median(times[1:] or times)


def _memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

"""How fast batches are made, and how long a step waits for them.

Images of 32 and 224 pixels a side are read from memory, mirrored, cropped and jittered, without and with two processes
that work ahead. Then a small training with the first two of them tells which part of its time it waited for data.

    python benchmarks/data_path.py        last line: waiting W (of the training's time)
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from record import record

from limbeck.data.augmentations.augmentation import AugmentationSequence, ColourJitter, Flip
from limbeck.data.augmentations.warp import Crop
from limbeck.data.base import Augmentation, InMemory
from limbeck.ground.randomness import generator
from limbeck.methods.supervised import Supervised
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.tasks.classification import Classification
from limbeck.training.engine import Engine
from limbeck.training.feed import Feed, Material, Waiting
from limbeck.training.job import Job, Place
from limbeck.training.options import Training
from limbeck.training.replicas import One
from limbeck.weighting.scheduled import Scheduled

BATCH = 64


def material(size: int, count: int, *more: Augmentation) -> Material:
    """Return noise of so many pixels a side, with classes, mirrored and cropped."""
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(0, size))
    images = InMemory(pixels, torch.arange(count) % 10)
    return Material(images, Classification(), AugmentationSequence([Flip(), Crop(), *more]))


def rate(size: int, workers: int, steps: int) -> float:
    """Return how many images a second come out; the first batches, which start the processes, are not counted."""
    batches = Feed(material(size, 512, ColourJitter()), {}, seed=0, batch=BATCH, workers=workers).steps(0, steps + 4)
    for _ in range(4):
        next(batches)
    started = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return steps * BATCH / (time.perf_counter() - started)


def waiting(steps: int) -> float:
    """Return the part of a small training's time that it waits for data."""
    method = Supervised(SmallCnn(16, channels=3, size=32, classes=10))
    training = Training(steps, BATCH)
    job = Job(method, material(32, 2048), training, Scheduled({}, method.weights), 0, Place(Path("nowhere")))
    engine = Engine(One("cpu"), job)
    batches = Waiting(engine.feed.steps(0, steps))
    for batch in batches:
        engine.advance(batch)
    return batches.share


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description="how fast batches are made")
    parser.add_argument("--steps", type=int, default=40, help="batches for each figure")
    options = parser.parse_args()
    figures = {}
    for size in (32, 224):
        for workers in (0, 2):
            figures[f"images_a_second_{size}_workers_{workers}"] = found = rate(size, workers, options.steps)
            print(f"{size}x{size}, {workers} workers: {found:.0f} images a second", flush=True)
    figures["waiting"] = waiting(options.steps * 5)
    record("data_path", figures, vars(options) | {"batch": BATCH})
    print(f"waiting {figures['waiting']:.3f}")


if __name__ == "__main__":
    main()

"""What makes a step faster on a GPU, each alone and measured against the step as it is by default.

A DCGAN for 32 pixels a side, whose steps are bound by launches, and a ResNet-56 taught ResNet-20, whose steps are bound
by arithmetic: precision, memory layout, compilation, fused and foreach optimisers, an average of the weights, and
several small trainings on one GPU at once. Each line has the median time of a step against the default's, taken in
turns, and the peak memory. A minute or two in all.

    python benchmarks/gpu.py                 needs a GPU
    python benchmarks/gpu.py --device cpu --rounds 2        only to see that it runs
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from record import FOLDER, record

from limbeck.data.base import InMemory
from limbeck.errors import LimbeckError
from limbeck.ground.randomness import generator
from limbeck.losses.kd import Kd
from limbeck.methods.base import Method
from limbeck.methods.gan import Gan
from limbeck.methods.supervised import Supervised
from limbeck.networks.classifiers.cifar_resnet import CifarResNet
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.tasks.base import Task
from limbeck.tasks.classification import Classification
from limbeck.tasks.generation import Generation
from limbeck.training.engine import Engine
from limbeck.training.feed import Material
from limbeck.training.job import Job, Place
from limbeck.training.options import Training
from limbeck.training.replicas import One
from limbeck.weighting.scheduled import Scheduled

STEPS = 10**9  # that the engine believes it has
WARM = 8  # steps, in which compilation happens
ADAM, SGD = torch.optim.Adam, partial(torch.optim.SGD, lr=0.05, momentum=0.9)
Made = tuple[Method, Task]


def gan() -> Made:
    """Return a small GAN."""
    return Gan(DcganGenerator(16), DcganDiscriminator(32)), Generation((64,))


def classifier() -> Made:
    """Return a ResNet-20 with its teacher."""
    terms = {"student.logits": Kd(4.0)}
    return Supervised(CifarResNet(depth=20), CifarResNet(depth=56), terms=terms), Classification()


def images(channels: int) -> InMemory:
    """Return noise."""
    pixels = torch.randint(0, 256, (2048, channels, 32, 32), dtype=torch.uint8, generator=generator(0))
    return InMemory(pixels, torch.arange(2048) % 10)


def engine(make: Callable[[], Made], data: InMemory, training: Training, device: str) -> Iterator[Engine]:
    """Take a step at every `next`."""
    torch.manual_seed(0)
    method, task = make()
    weighting = Scheduled({}, method.weights)
    job = Job(method, Material(data, task), training, weighting, 0, Place(Path("nowhere"), accelerator=device))
    found = Engine(One(device), job)
    for batch in found.feed.steps(0, STEPS):
        found.advance(batch)
        yield found


def wait(device: str) -> None:
    """Return once the GPU has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def compared(
    make: Callable[[], Made], data: InMemory, options: dict[str, Training], device: str, rounds: int
) -> dict[str, dict[str, float]]:
    """Return for each of the options the time of a step in ms, against the first one's, and the peak memory."""
    ways = {name: engine(make, data, training, device) for name, training in options.items()}
    peak: dict[str, float] = {}
    for name, way in ways.items():
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(WARM):
            next(way)
        wait(device)
        peak[name] = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            for _ in range(10):
                next(way)
            wait(device)
            times[name].append((time.perf_counter() - started) / 10)
    first = median(next(iter(times.values())))
    return {
        name: {"ms": 1e3 * median(some), "ratio": median(some) / first, "peak_mib": peak[name]}
        for name, some in times.items()
    }


def together(make: Callable[[], Made], data: InMemory, training: Training, device: str, count: int) -> float:
    """Return how many times more steps a second `count` trainings make at once than one alone."""

    def steps(way: Iterator[Engine], number: int) -> None:
        for _ in range(number):
            next(way)
        wait(device)

    ways = [engine(make, data, training, device) for _ in range(count)]
    for way in ways:
        steps(way, WARM)
    started = time.perf_counter()
    steps(ways[0], 50)
    alone = time.perf_counter() - started
    threads = [threading.Thread(target=steps, args=(way, 50)) for way in ways]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * alone / (time.perf_counter() - started)


def variants(
    base: Training, players: tuple[str, ...], factory: Callable[..., torch.optim.Optimizer]
) -> dict[str, Training]:
    """Return the default and what is tried."""

    def optimised(**options: bool) -> Training:
        return replace(base, optimizers=dict.fromkeys(players, partial(factory, **options)))

    return {
        "default": base,
        "channels last": replace(base, channels_last=True),
        "bf16": replace(base, precision="bf16"),
        "auto": replace(base, precision="auto"),
        "compiled": replace(base, compile=True),
        "auto, compiled": replace(base, precision="auto", compile=True),
        "foreach": optimised(foreach=True),
        "fused": optimised(fused=True),
        "average": replace(base, ema=0.999),
    }


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description="what makes a step faster on a GPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--at-once", type=int, default=4, help="small trainings on one GPU")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise LimbeckError("benchmarks/gpu.py: expected a GPU that PyTorch finds, found none")
    figures: dict[str, object] = {}
    for title, make, channels, players, factory in (
        ("gan", gan, 1, ("student", "discriminator"), partial(ADAM, lr=1e-3)),
        ("classifier", classifier, 3, ("student",), SGD),
    ):
        base = Training(STEPS, 64, dict.fromkeys(players, factory))
        found = compared(make, images(channels), variants(base, players, factory), options.device, options.rounds)
        figures[title] = found
        for name, row in found.items():
            print(f"{title}, {name}: {row['ms']:.2f} ms, {row['ratio']:.2f} of the default, {row['peak_mib']:.0f} MiB")
    base = Training(STEPS, 64, dict.fromkeys(("student", "discriminator"), partial(ADAM, lr=1e-3)))
    figures["at_once"] = gain = together(gan, images(1), base, options.device, options.at_once)
    print(f"{options.at_once} GANs at once: {gain:.2f} times the steps of one")
    if options.device == "cuda":
        record("gpu", figures, vars(options))
        print(f"written to {FOLDER / 'gpu.json'}")


if __name__ == "__main__":
    main()

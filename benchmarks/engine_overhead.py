"""What the engine costs: its step against the same step as a bare loop of PyTorch.

Both train the same small DCGAN with the same losses and optimisers on the same draws, and before anything is timed
their weights are compared: equal bit for bit. Steps of the two are timed in turns, in rounds; the figure is the median
over rounds of (CPU time of the engine's steps / that of the bare steps). The same with networks so tiny that nothing
but the loop is left gives the microseconds that a step adds.

    python benchmarks/engine_overhead.py --rounds 40        last line: ratio R
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from record import record
from torch import Tensor, nn

from limbeck.data.base import InMemory
from limbeck.ground.randomness import generator
from limbeck.methods.gan import Gan
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.tasks.generation import Generation
from limbeck.training.engine import Engine
from limbeck.training.feed import Material
from limbeck.training.job import Job, Place
from limbeck.training.options import Training
from limbeck.training.replicas import One
from limbeck.weighting.scheduled import Scheduled

SEED = 0
STEPS = 10**9  # that the engine believes it has: it never comes to the end
ADAM = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.99))


@dataclass(frozen=True)
class Contest:
    """One pair of networks to train in both ways."""

    student: nn.Module
    discriminator: nn.Module
    images: InMemory
    latent: int
    batch: int

    def engine(self) -> Iterator[nn.Module]:
        """Take a step of the engine at every `next`, as `limbeck.training.launch.fit` does for nobody who listens."""
        method = Gan(deepcopy(self.student), deepcopy(self.discriminator))
        training = Training(STEPS, self.batch, {"student": ADAM, "discriminator": ADAM})
        task, weighting = Generation((self.latent,)), Scheduled({}, Gan.losses())
        job = Job(method, Material(self.images, task), training, weighting, SEED, Place(Path("nowhere")))
        engine = Engine(One("cpu"), job)
        for batch in engine.feed.steps(0, STEPS):
            engine.advance(batch)
            yield method

    def bare(self, latents: Callable[[int], Tensor]) -> Iterator[nn.Module]:
        """Take a step of the bare loop at every `next`, drawing the step's latents with `latents`."""
        networks = nn.ModuleDict({"student": deepcopy(self.student), "discriminator": deepcopy(self.discriminator)})
        student, discriminator = networks["student"].train(), networks["discriminator"].train()
        student_adam, discriminator_adam = ADAM(student.parameters()), ADAM(discriminator.parameters())
        students, discriminators = list(student.parameters()), list(discriminator.parameters())
        size = len(self.images)
        for step in range(STEPS):
            if step * self.batch % size == 0:
                order = torch.randperm(size, generator=generator(SEED, step * self.batch // size, "order"))
            first = step * self.batch % size
            indices = order[first : first + self.batch]
            real = self.images.image[indices].to(torch.float32).div_(127.5).sub_(1.0)
            fake = student(latents(step))
            loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
            discriminator_adam.zero_grad()
            loss.backward(inputs=discriminators)
            discriminator_adam.step()
            loss = F.softplus(-discriminator(fake)).mean()
            student_adam.zero_grad()
            loss.backward(inputs=students)
            student_adam.step()
            yield networks

    def check(self, steps: int = 5) -> None:
        """Stop unless both ways lead to the same weights, bit for bit."""

        def latents(step: int) -> Tensor:
            return torch.randn(self.batch, self.latent, generator=generator(SEED, step, "latent"))

        for one, other, _ in zip(self.engine(), self.bare(latents), range(steps), strict=False):
            ours, theirs = one.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), "the two loops do not do the same"

    def times(self, rounds: int, steps: int) -> list[tuple[float, float]]:
        """Return the seconds of CPU that a step takes in each round, (engine, bare)."""
        draw = torch.Generator().manual_seed(SEED)
        ways = [self.engine(), self.bare(lambda step: torch.randn(self.batch, self.latent, generator=draw))]
        for way in ways * 3:
            next(way)
        found = []
        for number in range(rounds):
            spent = [0.0, 0.0]
            for turn in range(steps):
                for which in (0, 1) if (turn + number) % 2 else (1, 0):
                    start = time.process_time()
                    next(ways[which])
                    spent[which] += time.process_time() - start
            found.append((spent[0] / steps, spent[1] / steps))
        return found


def small() -> Contest:
    """A DCGAN for 32x32 pixels: generator of width 6, discriminator of width 32."""
    return Contest(DcganGenerator(6), DcganDiscriminator(32), noise(1280, 32), latent=64, batch=64)


def tiny() -> Contest:
    """Two linear layers."""
    student = nn.Sequential(nn.Linear(1, 4), nn.Unflatten(1, (1, 2, 2)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0))
    return Contest(student, discriminator, noise(1280, 2), latent=1, batch=4)


def noise(count: int, size: int) -> InMemory:
    return InMemory(torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator(SEED)))


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="the engine's step against the same step as a bare loop"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=10, help="steps of each a round")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    small().check()
    tiny().check()
    print("both loops give the same weights, bit for bit")

    rounds = tiny().times(options.rounds, steps=options.steps * 10)
    added = 1e6 * median(ours - bare for ours, bare in rounds)
    bare = 1e6 * median(bare for _, bare in rounds)
    tiny_ratio = median(ours / bare for ours, bare in rounds)
    print(f"tiny network: a step takes {bare:.0f} µs, the engine adds {added:.0f} µs, ratio {tiny_ratio:.3f}")

    rounds = small().times(options.rounds, options.steps)
    ratio = median(ours / bare for ours, bare in rounds)
    milliseconds = [1e3 * median(way) for way in zip(*rounds, strict=True)]
    print("small DCGAN: a step takes {1:.2f} ms bare, {0:.2f} ms with the engine".format(*milliseconds))
    figures = {
        "ratio": ratio,
        "engine_ms": milliseconds[0],
        "bare_ms": milliseconds[1],
        "tiny_added_us": added,
        "tiny_bare_us": bare,
        "tiny_ratio": tiny_ratio,
    }
    record("engine_overhead", figures, vars(options))
    print(f"ratio {ratio:.3f}")


if __name__ == "__main__":
    main()

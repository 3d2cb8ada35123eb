"""Two processes with half of the batch each follow one process with the whole batch.

A student DCGAN learns from a teacher and against a discriminator for 50 steps in float32, with R1, Adam and an average
of its weights, once in one process and once in two (gloo). Compared is every loss of both players at every step, as
|two - one| / |one|. Batch normalisation takes its statistics within a process, so the generators' batch norms are
replaced by group norms (one group, the whole of a sample); the discriminator has no normalisation to begin with.

A GAN's training is chaotic: whatever differs by rounding grows from step to step, the faster, the higher the learning
rate is. So beside it stands what rounding alone does: one process that takes the batch in two halves, one after the
other. Here the learning rate is 1e-4 and the image's distance is L2; with 1e-3 and L1 both differ by tenths after 50
steps.

    python benchmarks/two_processes.py        last line: max relative difference D
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch
from record import record
from torch import Tensor, nn

from limbeck.data.base import InMemory
from limbeck.methods.gan import Gan
from limbeck.networks.blocks.conditional import ConditionalBatchNorm2d
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.tasks.generation import Generation
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.penalties import R1
from limbeck.training.checkpoint import load
from limbeck.training.feed import Material
from limbeck.training.job import Job, Observation, Place
from limbeck.training.launch import fit
from limbeck.training.options import Training
from limbeck.weighting.scheduled import Scheduled

SIZE, LATENT, BATCH = 32, 32, 32


class SampleNorm(nn.GroupNorm):
    """Group norm in the place of a batch norm of the same channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, hidden: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the normalised features; `label` is what a conditional batch norm would have taken."""
        return super().forward(hidden)


def generator(width: int) -> nn.Module:
    """Return a DCGAN generator without batch statistics."""
    network = DcganGenerator(width, latent=LATENT, size=SIZE)
    for block in network.blocks:
        assert isinstance(block.norm, ConditionalBatchNorm2d)
        block.norm = SampleNorm(block.conv.out_channels)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    return network


def history(steps: int, **parts: int) -> list[dict[str, float]]:
    """Return every loss of every step; `parts` are the processes or the micro-batches that share a batch."""
    torch.manual_seed(0)
    critic = partial(DcganDiscriminator, 16, size=SIZE)
    terms = {"discriminator.penalty": R1(weight=0.3), "student.output": OutputDistance(distance="l2")}
    method = Gan(generator(6), critic(), generator(12), critic(), terms=terms)
    image = torch.randint(0, 256, (256, 1, SIZE, SIZE), dtype=torch.uint8)
    adam = partial(torch.optim.Adam, lr=1e-4)
    training = Training(steps, BATCH, {"student": adam, "discriminator": adam}, ema=0.99, **parts)
    with tempfile.TemporaryDirectory() as folder:
        task, weighting = Generation((LATENT,)), Scheduled({"discriminator.soft_label": 0.5}, method.weights)
        place = Place(Path(folder), accelerator="cpu")
        observation = Observation(", ".join(f"{name} {count}" for name, count in parts.items()), log_every=1)
        job = Job(method, Material(InMemory(image), task), training, weighting, 0, place, observation)
        fit(job)
        rows: list[dict[str, float]] = load(job.place.final)["history"]
    return rows


def differences(one: list[dict[str, float]], other: list[dict[str, float]]) -> dict[str, float]:
    """Return the largest relative difference of every loss over all steps."""
    pairs = list(zip(one, other, strict=True))
    assert all(a.keys() == b.keys() for a, b in pairs)
    names = sorted({name for row in one for name in row} - {"step"})
    return {name: max(abs(b[name] - a[name]) / abs(a[name]) for a, b in pairs if name in a) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description="the losses of two processes against those of one")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    one = history(options.steps, processes=1)
    found = differences(one, history(options.steps, processes=2))
    rounding = differences(one, history(options.steps, micro_batches=2))
    assert {name.split(".")[0] for name in found} == {"discriminator", "student"} and len(one) == options.steps
    print(f"from {one[0]}\nto   {one[-1]}")
    for name, difference in found.items():
        print(f"{name}: {difference:.1e} (rounding alone: {rounding[name]:.1e})")
    worst = max(found.values())
    figures = {"max_relative_difference": worst, "by_loss": found, "by_rounding_alone": rounding}
    record("two_processes", figures, vars(options))
    print(f"max relative difference {worst:.1e}")


if __name__ == "__main__":
    main()

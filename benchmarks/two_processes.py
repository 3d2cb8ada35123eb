"""Two processes with half of the batch each follow one process with the whole batch.

A student DCGAN learns from a teacher and against a discriminator for 50 steps in float32, with R1, Adam and an average
of its weights, once in one process and once in two (gloo). Compared is every loss of both players at every step, as
|two - one| / |one|. Batch normalisation takes its statistics within a process, so the generators' batch norms are
replaced by group norms (one group, the whole of a sample); the discriminator has no normalisation to begin with.

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

from limbeck.checkpoint import load
from limbeck.data.base import InMemory
from limbeck.engine import Job, fit
from limbeck.methods.gan import Gan
from limbeck.networks.conditional import ConditionalBatchNorm2d
from limbeck.networks.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.tasks.generation import Generation
from limbeck.training import Training
from limbeck.weighting.scheduled import Scheduled

SIZE, LATENT, BATCH = 32, 32, 32


class SampleNorm(nn.GroupNorm):
    """Group norm in the place of a batch norm of the same channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, hidden: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(hidden)


def generator(width: int) -> nn.Module:
    """Return a DCGAN generator without batch statistics."""
    network = DcganGenerator(width, latent=LATENT, size=SIZE)
    for block in network.blocks:
        assert isinstance(block.norm, ConditionalBatchNorm2d)
        block.norm = SampleNorm(block.conv.out_channels)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    return network


def history(processes: int, steps: int) -> list[dict[str, float]]:
    """Return every loss of every step of the training in so many processes."""
    torch.manual_seed(0)
    method = Gan(
        generator(6),
        DcganDiscriminator(16, size=SIZE),
        generator(12),
        DcganDiscriminator(16, size=SIZE),
        penalty="r1",
        penalty_weight=0.3,
        features={"blocks.1": "blocks.1"},
        critic_features=["blocks.0", "blocks.1"],
    )
    image = torch.randint(0, 256, (256, 1, SIZE, SIZE), dtype=torch.uint8)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.99))
    training = Training(steps, BATCH, {"student": adam, "discriminator": adam}, ema=0.99, processes=processes)
    with tempfile.TemporaryDirectory() as folder:
        task, weighting = Generation((LATENT,)), Scheduled({"discriminator.soft_label": 0.5}, Gan.losses)
        job = Job(
            method, task, InMemory(image), training, weighting, 0, Path(folder), log_every=1, accelerator="cpu",
            title=f"{processes} process{'es' if processes > 1 else ''}",
        )  # fmt: skip
        fit(job)
        rows: list[dict[str, float]] = load(job.final)["history"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="the losses of two processes against those of one")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    one, two = history(1, options.steps), history(2, options.steps)
    assert len(one) == len(two) == options.steps and all(a.keys() == b.keys() for a, b in zip(one, two, strict=True))
    names = sorted({name for row in one for name in row} - {"step"})
    assert {name.split(".")[0] for name in names} == {"discriminator", "student"}
    found = {
        name: max(abs(b[name] - a[name]) / abs(a[name]) for a, b in zip(one, two, strict=True) if name in a)
        for name in names
    }
    for name, difference in found.items():
        print(f"{name}: {difference:.1e} over {sum(name in row for row in one)} steps")
    record("two_processes", {"max_relative_difference": max(found.values()), "by_loss": found}, vars(options))
    print(f"max relative difference {max(found.values()):.1e}")


if __name__ == "__main__":
    main()

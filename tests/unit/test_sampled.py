"""A denoiser with a sampler is a generator; with the exact denoiser of a Gaussian, one of that Gaussian."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from limbeck.metrics.cost import macs, parameters
from limbeck.networks.roles import Denoiser, Generator
from limbeck.samplers.base import Sampler
from limbeck.samplers.sampled import Sampled

MEAN, DEVIATION = 0.4, 0.3  # of the first class; the second class has the opposite mean


class OfGaussian(Denoiser):
    """The exact denoiser of images whose values are independent N(m, s²).

    x_t = (1 - t) x_0 + t e is N((1 - t) m, (1 - t)² s² + t²), and of the velocity e - x_0, jointly normal with it, the
    mean given x_t is -m + (t - (1 - t) s²) / ((1 - t)² s² + t²) · (x_t - (1 - t) m).
    """

    predicts, image_shape, classes = "velocity", (2, 3, 4), 2

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([MEAN, -MEAN]))

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        t = time.reshape(-1, 1, 1, 1)
        mean = (self.mean[:1].expand(len(noisy)) if label is None else self.mean[label]).reshape(-1, 1, 1, 1)
        slope = (t - (1 - t) * DEVIATION**2) / ((1 - t) ** 2 * DEVIATION**2 + t**2)
        return slope * (noisy - (1 - t) * mean) - mean


class Euler(Sampler):
    """Goes back along the velocity in steps of one length."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, denoiser: Denoiser, noise: Tensor, label: Tensor | None = None) -> Tensor:
        assert denoiser.predicts == "velocity"
        image = noise
        for step in range(self.steps, 0, -1):
            image = image - denoiser(image, torch.full((len(image),), step / self.steps), label) / self.steps
        return image


def noise(count: int) -> Tensor:
    return torch.randn(count, 2, 3, 4, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_samples_have_the_mean_and_the_variance_of_the_images() -> None:
    made = Sampled(OfGaussian(), Euler(100))(noise(5000))
    spread = 4 / math.sqrt(made.numel())  # four standard errors of a mean of standard normals
    assert made.shape == (5000, 2, 3, 4)
    assert float(made.mean()) == pytest.approx(MEAN, abs=0.002 + DEVIATION * spread)
    assert float(made.var()) == pytest.approx(DEVIATION**2, rel=0.02 + math.sqrt(2) * spread)
    assert made.flatten(1).T.corrcoef().fill_diagonal_(0).abs().max() < 0.07  # pixels are independent


@torch.no_grad()
def test_the_path_of_a_gaussian_is_known_and_euler_comes_nearer_with_every_step() -> None:
    """The flow of independent Gaussians is linear: it takes e to m + s e. Euler's error halves with its steps."""
    errors = [
        float((Sampled(OfGaussian(), Euler(steps))(noise(64)) - (MEAN + DEVIATION * noise(64))).abs().max())
        for steps in (100, 200, 400)
    ]
    assert errors[2] < 0.02
    assert all(1.8 < one / two < 2.2 for one, two in pairwise(errors))


@torch.no_grad()
def test_labels_reach_the_denoiser() -> None:
    label = torch.tensor([0, 1] * 500)
    made = Sampled(OfGaussian(), Euler(50))(noise(1000), label)
    assert float(made[::2].mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(made[1::2].mean()) == pytest.approx(-MEAN, abs=0.02)


def test_it_is_a_generator_whose_denoiser_trains() -> None:
    network = Sampled(OfGaussian(), Euler(5))
    assert isinstance(network, Generator)
    assert (network.latent_shape, network.image_shape, network.classes) == ((2, 3, 4), (2, 3, 4), 2)
    network(noise(8), torch.tensor([0] * 8)).mean().backward()
    assert [name for name, _ in network.named_parameters()] == ["denoiser.mean"]
    gradient = network.denoiser.mean.grad
    assert gradient is not None and gradient[0] != 0 and gradient[1] == 0


def test_every_step_counts_in_what_it_costs() -> None:
    class Linear(OfGaussian):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, bias=False)

        def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
            found: Tensor = self.layer(noisy)
            return found

    counts = [macs(Sampled(Linear(), Euler(steps)), (noise(1),)).count for steps in (1, 7)]
    assert counts == [2 * 3 * 4 * 4, 7 * 2 * 3 * 4 * 4]
    assert parameters(Sampled(Linear(), Euler(7))) == 16 + 2

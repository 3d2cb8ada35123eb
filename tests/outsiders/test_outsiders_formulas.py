"""Formulas that outsiders compared with their authors' code, on equal tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from limbeck.data.degradations.downscale import Downscale
from limbeck.ground.resampling import resize
from limbeck.losses.kd import softened_kl
from limbeck.networks.given.external import Import


@pytest.mark.parametrize("classes", [3, 10, 100])
@pytest.mark.parametrize("temperature", [1.0, 30.0])
def test_a_divergence_is_k_times_the_mean_over_classes(classes: int, temperature: float) -> None:
    """RSLAD's code calls `KLDivLoss` with the mean over samples and classes; its weights here are divided by K."""
    student, teacher = torch.randn(2, 16, classes, generator=torch.Generator().manual_seed(0)).double()
    code = F.kl_div((student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="mean")
    torch.testing.assert_close(softened_kl(student, teacher, temperature).mean() / classes, temperature**2 * code)


@pytest.mark.parametrize(
    ("arm", "loss", "weight"),
    [("ard", "student.robust", 1 / 10), ("rslad", "student.clean", 1 / 60), ("rslad", "student.robust", 5 / 60)],
)
def test_the_published_schedule_has_the_published_weight(arm: str, loss: str, weight: float) -> None:
    with (Path(__file__).parents[2] / "recipes/robustness/robust-cifar10.yaml").open() as file:
        students = yaml.safe_load(file)["students"]
    assert students[arm]["weights"][loss] == pytest.approx(weight, rel=1e-4)


def test_the_scaling_of_lpips_is_imagenets_mean_and_std() -> None:
    """Its `ScalingLayer`: (x - [-.030, -.088, -.188]) / [.458, .448, .450] of x in [-1, 1]."""
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shift, scale = (torch.tensor(v)[:, None, None] for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    given = Import("torch.nn.Identity", role="classifier", mean=mean, std=std)
    torch.testing.assert_close(given(image), (image - shift) / scale, rtol=1e-5, atol=1e-5)


def test_eight_bits_are_rounded_after_each_side() -> None:
    """As MATLAB's `imresize` of uint8: by hand, rows first; a single rounding gives other levels somewhere."""
    image = (torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).round() / 127.5 - 1
    levels = (image[0, 0].double().numpy() + 1) * 127.5
    matrix = resize(torch.eye(32, dtype=torch.float64)[None, None], (8, 32))[0, 0].numpy()
    rows = np.floor(np.clip(matrix @ levels, 0, 255) + 0.5)
    both = np.floor(np.clip(rows @ matrix.T, 0, 255) + 0.5)
    once = np.floor(np.clip(matrix @ levels @ matrix.T, 0, 255) + 0.5)
    found = ((Downscale(4)(image, torch.zeros(1))[0, 0].double().numpy() + 1) * 127.5).round()
    assert (found == both).mean() > 0.98 and (once != both).any()  # a half may fall either way in float32
    assert not (found == once).all()

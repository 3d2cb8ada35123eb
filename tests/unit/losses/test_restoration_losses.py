"""Distances, spectra and distributions of restored images, against torch.distributions and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace, Normal, kl_divergence

from limbeck.errors import RecipeError
from limbeck.losses.feature_affinity import feature_affinity
from limbeck.losses.features import charbonnier
from limbeck.losses.restoration import DISTRIBUTIONS, spectral

SHAPE = (3, 2, 4, 5)
KINDS = {"laplace": Laplace, "gaussian": Normal}


def drawn(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", KINDS)
def test_likelihood_and_divergence_are_those_of_torch(name: str) -> None:
    mean, scale, other, spread, image = (drawn(seed) for seed in range(5))
    nll, kl = DISTRIBUTIONS[name]
    teacher, student = KINDS[name](mean, scale.exp()), KINDS[name](other, spread.exp())
    expected = kl_divergence(teacher, student).flatten(1).mean(1)
    torch.testing.assert_close(kl(mean, scale, other, spread), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(nll(image, mean, scale), -teacher.log_prob(image).flatten(1).mean(1))


@pytest.mark.parametrize("name", KINDS)
def test_the_divergence_is_zero_of_equals_and_finds_them(name: str) -> None:
    _, kl = DISTRIBUTIONS[name]
    mean, scale = drawn(0), drawn(1)
    assert float(kl(mean, scale, mean, scale).abs().max()) < 1e-12
    mine, own = (mean + 0.3 * drawn(2)).requires_grad_(), (scale + 0.3 * drawn(3)).requires_grad_()
    optimizer = torch.optim.Adam([mine, own], 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        kl(mean, scale, mine, own).sum().backward()
        optimizer.step()
    assert float(kl(mean, scale, mine, own).detach().max()) < 0.01


def test_charbonnier_by_hand() -> None:
    student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, 1.0]]]])
    expected = (1e-3 + math.sqrt(1 + 1e-6)) / 2
    torch.testing.assert_close(charbonnier(student, teacher), torch.tensor([expected]))


def test_a_single_pixel_has_every_frequency_and_a_wave_only_its_own() -> None:
    flat, pixel = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    pixel[0, 0, 0, 0] = 1
    torch.testing.assert_close(spectral(pixel, flat), torch.tensor([0.25]))  # 1 / sqrt(16) at each, real
    wave = torch.cos(torch.arange(4) * math.pi / 2).expand(1, 1, 4, 4)
    torch.testing.assert_close(spectral(wave, flat), torch.tensor([2 * 2.0 / 16]))  # ±1 along x: 16 / 2 / 4 = 2 each


def test_losses_have_right_gradients() -> None:
    one, other = drawn(0), drawn(1).requires_grad_()
    for loss in (charbonnier, spectral):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(one, x), other)
    for _, kl in DISTRIBUTIONS.values():
        scale = drawn(2).requires_grad_()
        assert torch.autograd.gradcheck(lambda m, s, kl=kl: kl(one, drawn(3), m, s), (other, scale))


def test_affinity_by_hand() -> None:
    # two places: the student's are at a right angle (cosine 0), the teacher's alike (cosine 1)
    student = torch.tensor([[3.0, 0.0], [0.0, 2.0]]).view(1, 2, 1, 2)
    teacher = torch.tensor([[1.0, 5.0]]).view(1, 1, 1, 2)
    torch.testing.assert_close(
        feature_affinity(student, teacher), torch.tensor([0.5])
    )  # two of four cosines differ by 1


def test_affinity_does_not_see_rotations_of_the_channels() -> None:
    features, teacher = torch.randn(2, 6, 5, 5), torch.randn(2, 9, 5, 5)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6))
    rotated = torch.einsum("dc,nchw->ndhw", rotation, features) * 3
    torch.testing.assert_close(feature_affinity(rotated, teacher), feature_affinity(features, teacher))


@pytest.mark.parametrize("loss", [charbonnier, spectral])
def test_other_shapes_are_refused(loss: object) -> None:
    with pytest.raises(RecipeError, match="expected the same shape"):
        loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 8))  # type: ignore[operator]

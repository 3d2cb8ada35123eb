"""losses/vae.py against torch.distributions, Monte Carlo, sums over all values of a pixel, and an exact likelihood."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

from limbeck.errors import RecipeError
from limbeck.losses import vae


def posterior(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    mean = torch.randn(shape, generator=draw, dtype=torch.float64)
    return mean, torch.randn(shape, generator=draw, dtype=torch.float64) - 1


def normal(mean: Tensor, log_variance: Tensor) -> Normal:
    return Normal(mean, (log_variance / 2).exp())


def rows(count: int, size: int) -> Tensor:
    """Orthonormal rows (count, size)."""
    square = torch.randn(size, size, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return torch.linalg.qr(square).Q[:count]


def test_the_divergence_from_the_prior() -> None:
    mean, log_variance = posterior((4, 5), 0)
    expected = kl_divergence(normal(mean, log_variance), Normal(torch.zeros_like(mean), 1.0))
    torch.testing.assert_close(vae.kl_from_prior(mean, log_variance), expected)
    assert vae.kl_from_prior(torch.zeros(3, 2), torch.zeros(3, 2)).abs().max() == 0


def test_the_divergence_between_posteriors_against_torch_and_monte_carlo() -> None:
    teacher, student = posterior((3, 2, 2, 2), 1), posterior((3, 2, 2, 2), 2)
    found = vae.kl_between(*teacher, *student)
    p, q = (Independent(normal(*which), 3) for which in (teacher, student))
    torch.testing.assert_close(found, kl_divergence(p, q))
    torch.manual_seed(0)
    z = p.sample((40_000,))
    torch.testing.assert_close((p.log_prob(z) - q.log_prob(z)).mean(0), found, rtol=0.03, atol=0.05)
    assert vae.kl_between(*teacher, *teacher).abs().max() < 1e-12
    with pytest.raises(RecipeError, match="same shape"):
        vae.kl_between(*teacher, *posterior((3, 2, 2), 0))


def test_the_divergence_through_a_map_is_that_of_the_full_covariance() -> None:
    teacher, student, basis = posterior((4, 5), 3), posterior((4, 2), 4), rows(2, 5)
    found = vae.kl_through_map(basis, *teacher, *student)
    covariance = basis @ torch.diag_embed(teacher[1].exp()) @ basis.T
    p = MultivariateNormal(teacher[0] @ basis.T, covariance)
    q = MultivariateNormal(student[0], torch.diag_embed(student[1].exp()))
    torch.testing.assert_close(found, kl_divergence(p, q))
    torch.manual_seed(0)
    z = Independent(normal(*teacher), 1).sample((60_000,)) @ basis.T  # mapped samples of the teacher itself
    torch.testing.assert_close((p.log_prob(z) - q.log_prob(z)).mean(0), found, rtol=0.03, atol=0.05)


def test_the_divergence_through_a_map_of_spatial_latents_and_through_the_identity() -> None:
    teacher, student = posterior((3, 4, 2, 2), 5), posterior((3, 4, 2, 2), 6)
    found = vae.kl_through_map(torch.eye(4, dtype=torch.float64), *teacher, *student)
    torch.testing.assert_close(found, vae.kl_between(*teacher, *student))
    small, basis = posterior((3, 2, 2, 2), 7), rows(2, 4)
    by_position = sum(
        vae.kl_through_map(basis, *(t[:, :, i, j] for t in (*teacher, *small))) for i in range(2) for j in range(2)
    )
    torch.testing.assert_close(vae.kl_through_map(basis, *teacher, *small), by_position)
    with pytest.raises(RecipeError, match="expected latents of 4 and 2, found 4 and 3"):
        vae.kl_through_map(basis, *teacher, *posterior((3, 3, 2, 2), 0))


def test_the_divergence_through_a_map_of_latents_that_hardly_vary_and_latents_that_do() -> None:
    """In float32, where log det A Σ Aᵀ by Cholesky breaks down; here from the QR decomposition of √Σ Aᵀ in float64."""
    draw, basis = torch.Generator().manual_seed(0), rows(12, 16)
    mean, log_variance = torch.zeros(6, 16), -20.0 * torch.randint(0, 2, (6, 16), generator=draw)
    mine = torch.zeros(6, 12), torch.zeros(6, 12, requires_grad=True)
    assert torch.linalg.cholesky_ex((basis.float() * log_variance.exp()[:, None]) @ basis.float().T).info.any()
    found = vae.kl_through_map(basis.float(), mean, log_variance, *mine)
    root = (log_variance.double() / 2).exp()[:, :, None] * basis.T.float().double()
    log_det = 2 * torch.linalg.qr(root).R.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
    expected = (root.square().sum((1, 2)) - 12 - log_det) / 2
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-3)
    (slope,) = torch.autograd.grad(found.sum(), mine[1])
    torch.testing.assert_close(slope, (1 - root.square().sum(1)).float() / 2)


def test_free_bits_by_hand() -> None:
    divergence = torch.tensor([[0.1, 2.0], [0.3, 4.0]])
    assert vae.free_bits(divergence, 0.0).item() == pytest.approx(0.2 + 3.0)
    assert vae.free_bits(divergence, 0.5).item() == pytest.approx(0.5 + 3.0)
    leaf = divergence.clone().requires_grad_()
    (slope,) = torch.autograd.grad(vae.free_bits(leaf, 0.5), leaf)
    assert slope[:, 0].abs().max() == 0 and (slope[:, 1] == 0.5).all()  # what is free has no gradient


def images(seed: int) -> Tensor:
    level = torch.randint(0, 256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(seed))
    level[0, 0, 0, 0], level[0, 0, 0, 1] = 0, 255
    return level.double() / 127.5 - 1


def test_likelihoods_against_torch() -> None:
    x, mean, log_scale = images(0), images(1) * 0.9, torch.tensor(-1.3, dtype=torch.float64)
    gaussian = -Normal(mean, log_scale.exp()).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(vae.gaussian_nll(x, mean, log_scale), gaussian)
    bernoulli = -Bernoulli(probs=(mean + 1) / 2, validate_args=False).log_prob((x + 1) / 2).flatten(1).sum(1)
    torch.testing.assert_close(vae.bernoulli_nll(x, mean), bernoulli)


@pytest.mark.parametrize("scale", [0.004, 0.02, 0.3, 3.0])
@pytest.mark.parametrize("mean", [-1.0, -0.3, 0.999])
def test_the_256_values_of_a_pixel_have_probability_one(scale: float, mean: float) -> None:
    values = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(256, 1, 1, 1)
    log_scale = torch.tensor(math.log(scale), dtype=torch.float64)
    nll = vae.discretized_gaussian_nll(values, torch.full_like(values, mean), log_scale)
    assert (nll >= 0).all() and nll.isfinite().all()
    assert (-nll).exp().sum().item() == pytest.approx(1, abs=1e-3)
    if scale == 0.3:  # far from the ends of the range a probability is a density times the step
        dense = vae.gaussian_nll(values, torch.full_like(values, mean), log_scale) - math.log(vae.LEVEL)
        torch.testing.assert_close(nll[100:140], dense[100:140], atol=1e-3, rtol=0)


def test_a_value_far_from_the_mean_still_has_a_gradient_towards_it() -> None:
    mean = torch.zeros(1, 1, 1, 1).requires_grad_()
    nll = vae.discretized_gaussian_nll(torch.full((1, 1, 1, 1), 0.8), mean, torch.tensor(-5.0))
    (slope,) = torch.autograd.grad(nll.sum(), mean)
    assert nll.isfinite().all() and slope.item() < -1


def integrated(x: float, mean: Tensor, scale: float) -> Tensor:
    """-log P(x) in float64, the density summed over the pixel's width: over twenty scales more at an end of the range.

    In the logarithm, so that nothing is too small.
    """
    low, high = x - vae.LEVEL / 2, x + vae.LEVEL / 2 + (20 * scale if x == 1 else 0)
    count = 200_000
    middle = low + (torch.arange(count, dtype=torch.float64) + 0.5) * (high - low) / count
    density = Normal(mean.double()[:, None], torch.tensor(scale, dtype=torch.float64)).log_prob(middle)
    return -density.logsumexp(1) - math.log((high - low) / count)


@pytest.mark.parametrize("z", [1.5, 5.0, 10.0, 40.0, 300.0])
@pytest.mark.parametrize("x", [153 / 255 * 2 - 1, 1.0])
def test_the_tail_has_its_probability_and_its_gradient(x: float, z: float) -> None:
    scale, step = 1.2 / z, 1e-6
    mean = torch.full((1, 1, 1, 1), x - 1.2, requires_grad=True)
    log_scale = torch.tensor(math.log(scale), requires_grad=True)
    nll = vae.discretized_gaussian_nll(torch.full((1, 1, 1, 1), x), mean, log_scale)
    around = x - 1.2 + torch.tensor([0.0, step, -step]).double()
    exact, above, below = integrated(x, around, scale).tolist()
    assert nll.item() == pytest.approx(exact, rel=1e-5, abs=1e-4)
    to_mean, to_scale = torch.autograd.grad(nll.sum(), (mean, log_scale))
    assert to_mean.item() == pytest.approx((above - below) / (2 * step), rel=1e-3)
    wider, narrower = (integrated(x, around[:1], scale * math.exp(s)).item() for s in (1e-5, -1e-5))
    assert to_scale.item() == pytest.approx((wider - narrower) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("log_scale", [-40.0, -12.0, -5.0, -3.5, -1.5, 2.0])
@pytest.mark.parametrize("x", [-1.0, 153 / 255 * 2 - 1, 1.0])
def test_every_mean_has_a_finite_gradient_towards_the_pixel(x: float, log_scale: float) -> None:
    mean = torch.linspace(-1, 1, 401)[:, None, None, None].requires_grad_()
    scale = torch.tensor(log_scale, requires_grad=True)
    nll = vae.discretized_gaussian_nll(torch.full_like(mean, x), mean, scale)
    slope, to_scale = torch.autograd.grad(nll.sum(), (mean, scale))
    assert nll.isfinite().all() and (nll >= 0).all() and slope.isfinite().all() and to_scale.isfinite()
    outside = (mean - x).detach().abs() > max(0.6 * vae.LEVEL, 0.01 * math.exp(log_scale))  # else it rounds to none
    assert (slope * (mean - x).sign() > 0)[outside].all()


def test_the_bound_of_a_linear_gaussian_model_is_its_exact_likelihood_at_the_true_posterior() -> None:
    """x = W z + b + σ ε: the evidence is N(b, W Wᵀ + σ²), and at the true posterior the bound is equal to it."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(6, 1, generator=draw, dtype=torch.float64)  # one latent: its posterior is diagonal
    b, sigma = torch.randn(6, generator=draw, dtype=torch.float64), 0.7
    x = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    exact = MultivariateNormal(b, w @ w.T + sigma**2 * torch.eye(6, dtype=torch.float64)).log_prob(x)
    precision = 1 + (w.T @ w).item() / sigma**2
    mean, log_variance = (x - b) @ w / sigma**2 / precision, torch.full((5, 1), -math.log(precision)).double()

    def bound(mean: Tensor, log_variance: Tensor) -> Tensor:
        noise = torch.randn(20_000, 5, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        noise = torch.cat([noise, -noise])  # mirrored: the mean of the noise is exactly 0
        z = mean + (log_variance / 2).exp() * noise
        made = (z @ w.T + b).flatten(0, 1)
        scale = torch.tensor(math.log(sigma), dtype=torch.float64)
        nll = vae.gaussian_nll(x.repeat(len(z), 1)[:, :, None, None], made[:, :, None, None], scale)
        return -nll.view(len(z), 5).mean(0) - vae.kl_from_prior(mean, log_variance).sum(1)

    torch.testing.assert_close(bound(mean, log_variance), exact, rtol=0, atol=0.01)
    assert (bound(mean + 0.3, log_variance) < exact - 0.02).all()
    assert (bound(mean, log_variance + 1) < exact - 0.02).all()

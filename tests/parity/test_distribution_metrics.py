"""FID against scipy.linalg.sqrtm, KID and Inception Score against their definitions, neighbours against SciPy."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree

from limbeck.metrics.distribution import fid, inception_score, kid, mmd2
from limbeck.metrics.neighbours import density_coverage, precision_recall


def correlated(count, dimension, seed, shift=0.0, rank=None):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(rank or dimension, dimension)) / np.sqrt(dimension)
    return np.maximum(rng.normal(size=(count, rank or dimension)) @ mix + shift, -0.5)


def scipy_fid(a, b):
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(cov_a @ cov_b)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * np.real(root))


@pytest.mark.parametrize(("count", "dimension"), [(500, 16), (400, 64), (1000, 128)])
def test_fid_agrees_with_scipy(count, dimension):
    a, b = correlated(count, dimension, 0), correlated(count + 7, dimension, 1, shift=0.3)
    assert fid(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(scipy_fid(a, b), rel=1e-9)


def test_fid_with_fewer_samples_than_features_agrees_with_the_nuclear_norm():
    # sqrtm is unreliable for singular matrices. tr (S_a S_b)^(1/2) is the nuclear norm of A B' for S = A' A.
    a, b = correlated(40, 100, 0), correlated(50, 100, 1, shift=0.3)
    centred_a, centred_b = (a - a.mean(0)) / np.sqrt(39), (b - b.mean(0)) / np.sqrt(49)
    cross = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum()
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + (centred_a**2).sum() + (centred_b**2).sum() - 2 * cross
    assert fid(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-6)


def loop_mmd2(a, b):
    """Bińkowski et al. 2018, Eq. 4 with the kernel of section 4, term by term."""

    def k(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_mmd2_agrees_with_a_double_loop():
    a, b = correlated(15, 6, 0), correlated(20, 6, 1, shift=0.4)
    assert mmd2(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(loop_mmd2(a, b), rel=1e-10)


def test_kid_is_the_mean_of_its_subsets():
    a, b = (torch.from_numpy(correlated(60, 5, seed, shift=0.2 * seed)) for seed in (0, 1))
    draws = torch.Generator().manual_seed(5)
    parts = []
    for _ in range(4):
        rows_a = torch.randperm(60, generator=draws)[:12]
        rows_b = torch.randperm(60, generator=draws)[:12]
        parts.append(loop_mmd2(a[rows_a].numpy(), b[rows_b].numpy()))
    found = kid(a, b, torch.Generator().manual_seed(5), subsets=4, subset_size=12)
    assert found == pytest.approx(np.mean(parts), rel=1e-10)


def test_inception_score_agrees_with_its_definition():
    logits = np.random.default_rng(0).normal(size=(100, 7)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = []
    for part in np.split(p, 5):
        expected.append(np.exp((part * (np.log(part) - np.log(part.mean(0)))).sum(1).mean()))
    assert inception_score(torch.from_numpy(logits), splits=5) == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize(("real_count", "generated_count", "k"), [(300, 200, 3), (1500, 1200, 5)])
def test_neighbour_metrics_agree_with_scipy(real_count, generated_count, k):
    real = correlated(real_count, 8, 0)
    generated = correlated(generated_count, 8, 0, shift=0.5)[:, ::-1].copy()
    real_radius = cKDTree(real).query(real, k + 1)[0][:, -1]
    generated_radius = cKDTree(generated).query(generated, k + 1)[0][:, -1]
    apart = np.linalg.norm(real[:, None] - generated[None], axis=2)
    precision, recall = precision_recall(torch.from_numpy(real), torch.from_numpy(generated), k)
    assert precision == pytest.approx((apart <= real_radius[:, None]).any(0).mean())
    assert recall == pytest.approx((apart <= generated_radius).any(1).mean())
    density, coverage = density_coverage(torch.from_numpy(real), torch.from_numpy(generated), k)
    assert density == pytest.approx((apart < real_radius[:, None]).sum() / (k * generated_count))
    assert coverage == pytest.approx((apart < real_radius[:, None]).any(1).mean())
    assert 0 < precision < 1 and 0 < coverage < 1  # the case tells something

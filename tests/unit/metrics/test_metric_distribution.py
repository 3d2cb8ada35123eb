import math

import pytest
import torch
from torch import nn

from limbeck.errors import DataError, RecipeError
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.distribution import (
    extract,
    fid,
    frechet_distance,
    inception_score,
    kid,
    mmd2,
)
from limbeck.metrics.neighbours import density_coverage, neighbours, precision_recall


def normal(count, dimension, seed=0):
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Means(FeatureExtractor):
    """Mean of each channel, and its double as a logit; notes the size of each batch it is given."""

    name, dimension = "means", 3

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.sizes = []

    def forward(self, image):
        self.sizes.append(len(image))
        mean = image.mean(dim=(2, 3)) * self.scale
        return mean, 2 * mean

    def fingerprint(self):
        return "0" * 16


def test_frechet_distance_of_diagonal_gaussians():
    # sum (m_a - m_b)² + (s_a - s_b)² over the axes: 9 + 16 + (1 - 3)² + (2 - 2)².
    found = frechet_distance(
        torch.tensor([0.0, 0.0]), torch.diag(torch.tensor([1.0, 4.0])),
        torch.tensor([3.0, 4.0]), torch.diag(torch.tensor([9.0, 4.0])),
    )  # fmt: skip
    assert found == pytest.approx(29.0, rel=1e-12)


def test_fid_by_hand_in_one_dimension():
    # Means 1 and 5, variances 2 and 8 (unbiased): 16 + 2 + 8 - 2·4.
    assert fid(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])) == pytest.approx(18.0)


def test_fid_invariances():
    a, b = normal(200, 8), normal(300, 8, seed=1) * 1.5 + 0.2
    rotation = torch.linalg.qr(normal(8, 8, seed=2)).Q
    assert fid(a, b) == pytest.approx(fid(b, a), rel=1e-9)
    assert fid(a @ rotation + 3, b @ rotation + 3) == pytest.approx(fid(a, b), rel=1e-9)
    assert fid(2 * a, 2 * b) == pytest.approx(4 * fid(a, b), rel=1e-9)
    assert fid(a, a) == pytest.approx(0, abs=1e-9)


def test_fid_of_singular_features():
    a = normal(100, 4)
    a = torch.cat([a, torch.zeros(100, 4, dtype=torch.float64)], dim=1)  # dead features
    shifted = a.clone()
    shifted[:, 0] += 2
    assert fid(a, shifted) == pytest.approx(4.0, abs=1e-6)


def test_fid_is_computed_in_float64():
    a = normal(100, 4) + 1000  # float32 covariances would be badly off
    assert fid(a.float(), a.float() + 1) == pytest.approx(4.0, rel=1e-6)


def test_mmd2_by_hand():
    # D = 1, k = (xy + 1)³. a = {0, 1}: k = 1. b = {1, 2}: k = 27. Between: 1, 1, 8, 27.
    found = mmd2(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]]))
    assert found == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_kid_is_unbiased_seeded_and_sees_a_difference():
    a, b = normal(2000, 4), normal(2000, 4, seed=1)
    assert abs(kid(a, b, seeded(), subsets=20, subset_size=500)) < 0.01
    assert kid(a, b + 1, seeded(), subsets=20, subset_size=500) > 0.5
    assert kid(a, b, seeded(3), 5, 100) == kid(a, b, seeded(3), 5, 100)
    assert kid(a, b, seeded(3), 5, 100) != kid(a, b, seeded(4), 5, 100)


def test_kid_of_few_samples_takes_all_of_the_smaller_set():
    a, b = normal(30, 4), normal(20, 4, seed=1)
    assert kid(a[:20], b, seeded(), subsets=3) == pytest.approx(mmd2(a[:20], b), rel=1e-9)


def test_inception_score_of_perfect_and_useless_classes():
    certain = torch.eye(4).repeat(5, 1) * 1000  # each class equally often: exp(log 4)
    assert inception_score(certain, splits=5) == pytest.approx(4.0)
    assert inception_score(torch.zeros(20, 4), splits=5) == pytest.approx(1.0)
    assert inception_score(certain[:1].repeat(20, 1), splits=2) == pytest.approx(1.0)  # one class only


def test_inception_score_by_hand():
    # p = (3/4, 1/4) and (1/4, 3/4), marginal 1/2: KL = log 2 - H.
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(3.0)]])
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert inception_score(logits, splits=1) == pytest.approx(math.exp(kl))


def test_precision_recall_by_hand():
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])  # radii with k=1: 1, 1, 1, 8
    generated = torch.tensor([[0.5], [3.0], [20.0], [20.5]])  # radii: 2.5, 2.5, 0.5, 0.5
    # Generated 0.5 and 3 lie in real balls ([-1, 3] and [2, 18]), 20 and 20.5 do not.
    # Real 0, 1 and 2 lie within 2.5 of 0.5; 10 lies in no ball.
    assert precision_recall(real, generated, k=1) == (0.5, 0.75)


def test_density_coverage_by_hand():
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # radii with k=2: 3, 2, 3, 6; open balls
    generated = torch.tensor([[1.5], [30.0]])
    # 1.5 lies in (-3, 3), (-1, 3), (0, 6) and (1, 13): density 4 / (2·2), every real ball holds it. 30 in none.
    assert density_coverage(real, generated, k=2) == (1.0, 1.0)
    assert density_coverage(real, torch.tensor([[-2.0], [30.0]]), k=2) == (1 / 4, 1 / 4)


def test_a_set_against_itself():
    a = normal(3000, 5)  # more than one chunk of rows
    assert precision_recall(a, a) == (1.0, 1.0)
    density, coverage = density_coverage(a, a)
    assert density == pytest.approx(1.0)
    assert coverage == 1.0


def test_a_set_against_itself_has_exact_counts_in_float32():
    """Every k-th neighbour lies on the surface of a ball; far from the origin no float32 distance would tell."""
    a = (normal(1500, 5) + 300).float()
    assert neighbours(a, a) == (1.0, 1.0, 1.0, 1.0)
    assert neighbours(a, a.flip(0)) == (1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("dimension", [3, 40, 300])
@pytest.mark.parametrize("spread", [1.0, 1e-3], ids=["one cloud", "small clouds far apart"])
def test_counts_of_float32_features_are_those_of_float64(dimension, spread):
    clouds = 5 * normal(4, dimension, seed=9).repeat(150, 1)
    real, generated = ((clouds + spread * normal(600, dimension, seed=i)).float() for i in (1, 2))
    generated[:300] = real[::2]  # ties
    apart, radius = torch.cdist(real.double(), generated.double(), compute_mode="donot_use_mm_for_euclid_dist"), {}
    for name, samples in (("real", real), ("generated", generated)):
        inner = torch.cdist(samples.double(), samples.double(), compute_mode="donot_use_mm_for_euclid_dist")
        radius[name] = inner.sort(dim=1).values
    near = apart < radius["real"][:, 5:6]
    expected = (
        (apart <= radius["real"][:, 3:4]).any(0).double().mean(),
        (apart <= radius["generated"][:, 3]).any(1).double().mean(),
        near.double().sum() / (5 * 600),
        near.any(1).double().mean(),
    )
    found = neighbours(real, generated)
    assert found == pytest.approx([float(value) for value in expected], abs=1e-9)
    assert found[:2] == precision_recall(real, generated)
    assert found[2:] == density_coverage(real, generated)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kid_of_float32_features_is_that_of_float64(shift):
    a, b = ((normal(1500, 64, seed) + 1 + shift * seed).relu().float() for seed in (0, 1))
    expected = kid(a.double(), b.double(), seeded(), subsets=10, subset_size=500)
    assert kid(a, b, seeded(), subsets=10, subset_size=500) == pytest.approx(expected, rel=1e-6)


def test_collapse_loses_recall_and_coverage_but_not_precision():
    real, collapsed = normal(500, 4), 0.01 * normal(500, 4, seed=1)
    precision, recall = precision_recall(real, collapsed)
    density, coverage = density_coverage(real, collapsed)
    assert precision == 1.0
    assert density > 1.0
    assert recall < 0.05
    assert coverage < 0.5


def test_extract_chunks_and_keeps_order():
    images = torch.rand(10, 3, 4, 4)
    whole, chunked, streamed = Means(), Means(), Means()
    expected, _ = extract(whole, images, chunk=100)
    features, logits = extract(chunked, images, chunk=4)
    from_batches, _ = extract(streamed, iter([images[:3], images[3:]]), chunk=5)
    assert (whole.sizes, chunked.sizes, streamed.sizes) == ([10], [4, 4, 2], [3, 5, 2])
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(from_batches, expected)
    torch.testing.assert_close(logits, 2 * features)
    assert not features.requires_grad


NAN = torch.tensor([[0.0], [math.nan], [1.0]])
GOOD = torch.tensor([[0.0], [2.0], [1.0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: fid(GOOD, x),
        lambda x: fid(x, GOOD),
        lambda x: kid(GOOD, x, seeded()),
        lambda x: mmd2(GOOD, x),
        lambda x: inception_score(x, splits=2),
        lambda x: precision_recall(GOOD, x, k=1),
        lambda x: density_coverage(x, GOOD, k=1),
    ],
)
def test_nan_features_are_named(call):
    with pytest.raises(DataError, match="NaN or infinity in 1 of 3 samples"):
        call(NAN)
    call(GOOD)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fid(GOOD[:1], GOOD), DataError, "N >= 2"),
        (lambda: fid(GOOD, torch.zeros(3, 2)), DataError, "one dimension, found 1 and 2"),
        (lambda: fid(torch.zeros(3), GOOD), DataError, r"found \(3,\)"),
        (lambda: kid(GOOD, GOOD, seeded(), subsets=0), RecipeError, "subsets >= 1"),
        (lambda: kid(GOOD, GOOD, seeded(), subset_size=1), RecipeError, "subset_size >= 2"),
        (lambda: inception_score(GOOD, splits=0), RecipeError, "splits >= 1"),
        (lambda: inception_score(GOOD, splits=4), DataError, "N >= 4"),
        (lambda: precision_recall(GOOD, GOOD, k=3), DataError, "N >= 4"),
        (lambda: density_coverage(GOOD, GOOD, k=0), RecipeError, "k >= 1"),
        (lambda: extract(Means(), []), DataError, "at least one image"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

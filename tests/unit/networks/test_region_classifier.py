"""Regions get classes: from what they look like, from the true mask, and by walking from those that are sure."""

from __future__ import annotations

import copy
import importlib.util

import numpy as np
import pytest
import torch
from region_scenes import Tiles, accuracy, scenes
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import nn

from limbeck.baselines.regions.kmeans_regions import KMeansRegions
from limbeck.baselines.regions.oracle_regions import OracleRegions
from limbeck.baselines.regions.random_walker import RandomWalker, sown, walked
from limbeck.baselines.regions.region_classifier import RegionClassifier, fitted
from limbeck.baselines.regions.region_features import FEATURES, ORIENTATIONS, region_features
from limbeck.baselines.regions.slic import Slic
from limbeck.errors import MissingExtra, RecipeError
from limbeck.networks.roles import Segmenter
from limbeck.types import VOID


@pytest.fixture(autouse=True)
def needs_scikit_image() -> None:
    pytest.importorskip("skimage", reason='needs the extra "classic"')


def test_features_of_a_region_by_hand() -> None:
    """Left a plain, right a ramp that grows brighter to the right."""
    image = torch.zeros(1, 16, 20)
    image[:, :, 10:] = torch.linspace(-0.5, 0.9, 10)
    regions = torch.zeros(16, 20, dtype=torch.int64)
    regions[:, 10:] = 1
    found = region_features(image, regions)
    assert found.shape == (2, FEATURES) and found.isfinite().all()
    mean, spread, share, size = found[:, :6], found[:, 6:12], found[:, 12 : 12 + ORIENTATIONS], found[:, 20]
    # L* of a grey of 0.5 is 53.39 (sRGB); the ramp is brighter on average, and only it has a spread.
    assert float(mean[0, 0]) == pytest.approx(0.5339, abs=1e-3) and mean[1, 0] > 0.57
    assert (mean[:, 1:3] == 0).all() and spread[0, 0] < 1e-6 and spread[1, 0] > 0.1
    # Rows are 0 to 1, columns are 0 to 9/19 and 10/19 to 1.
    torch.testing.assert_close(mean[:, 4], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(mean[:, 5], torch.tensor([4.5 / 19, 14.5 / 19]))
    torch.testing.assert_close(spread[:, 5], torch.full((2,), (99 / 12) ** 0.5 / 19))
    # All that is steep rises to the right: orientation 0.
    torch.testing.assert_close(share[1], torch.eye(ORIENTATIONS)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(size, torch.full((2,), 0.5).log())
    turned = region_features(image.mT, regions.T)[1, 12 : 12 + ORIENTATIONS]
    torch.testing.assert_close(turned, torch.eye(ORIENTATIONS)[ORIENTATIONS // 2], atol=1e-5, rtol=0)


def test_fitting_soft_targets_is_the_minimum_that_scipy_finds() -> None:
    rng = np.random.default_rng(0)
    features, counts = rng.normal(size=(60, 2)), rng.integers(0, 9, size=(60, 3)).astype(float)
    counts[:5] = 0  # regions of void alone
    share = counts / counts.sum()

    def objective(theta: np.ndarray) -> float:
        weight, bias = theta[:6].reshape(3, 2), theta[6:]
        logits = features @ weight.T + bias
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        return float(-(share * log_p).sum() + 0.05 * (weight**2).sum())

    expected = minimize(objective, np.zeros(9), method="BFGS", options={"gtol": 1e-6}).x
    layer = nn.Linear(2, 3).double().requires_grad_(False)
    fitted(torch.from_numpy(features), torch.from_numpy(share), layer, 0.1)
    np.testing.assert_allclose(layer.weight.numpy().ravel(), expected[:6], atol=1e-4)
    np.testing.assert_allclose(layer.bias - layer.bias.mean(), expected[6:] - expected[6:].mean(), atol=1e-4)
    assert not layer.weight.requires_grad and layer.weight.grad is None


@pytest.mark.parametrize("channels", [1, 3])
def test_it_learns_what_regions_are(channels: int) -> None:
    image, mask = scenes(12, channels=channels)
    fresh, truth = scenes(6, seed=1, channels=channels)
    network = RegionClassifier(Slic(60, 30.0), channels, (24, 32), 3)
    before = accuracy(network(fresh), truth)
    with torch.no_grad():
        network.fit(image, mask)
    logits = network(fresh)
    assert network.image_shape == (channels, 24, 32) and network.truth == "mask"
    assert logits.shape == (6, 3, 24, 32) and not logits.requires_grad
    torch.testing.assert_close(logits.logsumexp(1), torch.zeros(6, 24, 32), atol=1e-5, rtol=0)
    assert accuracy(logits, truth) > max(0.9, before + 0.1)
    assert accuracy(logits, truth) <= accuracy(OracleRegions(Slic(60, 30.0), 3)(fresh, truth), truth)
    for one, regions in zip(logits, network.divided(fresh), strict=True):
        for region in range(int(regions.max()) + 1):
            inside = one[:, regions == region]
            assert torch.equal(inside, inside[:, :1].expand_as(inside))
    # Fitted again, it is the same; so are a copy, and another with its state; other sizes of images will do.
    again = RegionClassifier(Slic(60, 30.0), channels, (24, 32), 3)
    again.fit(image, mask)
    other = RegionClassifier(Slic(60, 30.0), channels, (24, 32), 3)
    other.load_state_dict(network.state_dict())
    for twin in (again, other, copy.deepcopy(network)):
        assert torch.equal(twin(fresh), logits)
    torch.testing.assert_close(network(fresh[2:3]), logits[2:3])
    assert network(fresh[:, :, :17, :21]).shape == (6, 3, 17, 21)


def test_void_is_not_learnt_from() -> None:
    """What is void may be of any class: half of every mask is made wrong, and then void."""
    image, mask = scenes(8)
    wrong, void = mask.clone(), mask.clone()
    wrong[:, :, 16:] = (mask[:, :, 16:] + 1) % 3
    void[:, :, 16:] = VOID
    fresh, truth = scenes(4, seed=1)
    found = []
    for labels in (wrong, void):
        network = RegionClassifier(Tiles(), 3, (24, 32), 3)
        network.fit(image, labels)
        found.append(accuracy(network(fresh), truth))
    assert found[1] > 0.8 > found[0]


def test_the_oracle_gives_every_region_its_most_frequent_class() -> None:
    image = torch.zeros(2, 3, 4, 8)
    mask = torch.full((2, 4, 8), VOID)
    mask[0, :, :4] = 1
    mask[0, 0, :4] = 2  # 12 to 4
    mask[0, :3, 4:] = 2  # the rest of that tile is void
    mask[1, 0, 0] = 2  # one vote alone
    network = OracleRegions(Tiles(), 3)
    found = network(image, mask)
    assert isinstance(network, Segmenter) and network.oracle and found.shape == (2, 3, 4, 8)
    assert found.argmax(1)[:, 0, ::4].tolist() == [[1, 2], [2, 0]]
    torch.testing.assert_close(found[0, :, 0, 0].exp(), torch.tensor([1e-6, 0.75, 0.25]))
    assert (network(image).argmax(1) == 0).all()
    with pytest.raises(RecipeError, match=r"expected a mask \(2, 4, 8\), found \(2, 4, 4\)"):
        network(image, mask[:, :, :4])
    with pytest.raises(RecipeError, match=r"OracleRegions.classes: expected more than 2, found 2"):
        OracleRegions(Tiles(), 2)(image, mask)


def test_no_labels_of_regions_are_better_than_the_oracles() -> None:
    _, mask = scenes(1)
    regions = Tiles()(torch.zeros(1, 3, 24, 32))[0]
    best = sum(int(mask[0][regions == r].bincount().max()) for r in range(int(regions.max()) + 1))
    assert accuracy(OracleRegions(Tiles(), 3)(torch.zeros(1, 3, 24, 32), mask), mask) == pytest.approx(best / 24 / 32)


def test_the_surest_regions_are_the_seeds() -> None:
    probability = torch.tensor([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5], [0.8, 0.2]])
    area = torch.tensor([10, 20, 40, 30])
    assert sown(probability, area, 0.3).tolist() == [-1, 1, -1, 0]
    assert sown(probability, area, 0.2).tolist() == [-1, 1, -1, -1]
    assert sown(probability, area, 0.55).tolist() == [0, 1, -1, 0]  # the last one may fill more than that


def test_walkers_on_a_line_meet_seeds_as_often_as_gamblers_are_ruined() -> None:
    """Between seeds at 0 and 10 of a plain, a walker at i meets the second first with probability i / 10."""
    seeds = np.full((1, 11), -1)
    seeds[0, 0], seeds[0, -1] = 2, 0
    found = walked(np.full((1, 11, 3), 0.4), seeds, 3, 130.0)
    np.testing.assert_allclose(found[0, 0], np.arange(11) / 10, atol=1e-4)
    np.testing.assert_allclose(found[2, 0], 1 - np.arange(11) / 10, atol=1e-4)
    assert (found[1] == 0).all()
    # A step in brightness is hardly ever crossed.
    stepped = np.where(np.arange(11) < 3, 0.1, 0.9)[None, :, None]
    assert walked(stepped, seeds, 3, 1000.0)[0, 0, [2, 3]].round(2).tolist() == [0, 1]
    # With one class there is nothing to decide, without free pixels neither.
    one = np.where(seeds == 2, 2, -1)
    assert walked(stepped, one, 3, 130.0)[:, 0].sum(1).tolist() == [0, 0, 11]
    full = np.where(np.arange(11) < 5, 2, 1)[None]
    assert (walked(stepped, full, 3, 130.0).argmax(0) == full).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_random_walks_respect_edges_that_regions_cross(classes: int) -> None:
    image, mask = scenes(12)
    fresh, truth = scenes(4, seed=1)
    mask, truth = mask.clamp(max=classes - 1), truth.clamp(max=classes - 1)
    network = RandomWalker(Tiles(), 3, (24, 32), classes, seeds=0.8)
    network.fit(image, mask)
    logits = network(fresh)
    assert logits.shape == (4, classes, 24, 32) and network.image_shape == (3, 24, 32)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(4, 24, 32), atol=1e-3, rtol=0)
    assert accuracy(logits, truth) > accuracy(network.classifier(fresh), truth) + 0.02
    assert torch.equal(network(fresh[1:2]), logits[1:2])
    assert network(torch.full((1, 3, 9, 10), 0.5)).isfinite().all()  # no contrast at all


def test_bad_input_is_one_line() -> None:
    regions, image, mask = KMeansRegions(4), *scenes(2)
    for build, says in (
        (lambda: RegionClassifier(regions, 2), "RegionClassifier.channels: expected one of 1, 3, found 2"),
        (lambda: RegionClassifier(regions, 3, (24, 0)), "RegionClassifier.size"),
        (lambda: RegionClassifier(regions, classes=1), "RegionClassifier.classes"),
        (lambda: RegionClassifier(regions, hidden=0), "RegionClassifier.hidden"),
        (lambda: RegionClassifier(regions, penalty=-1.0), "RegionClassifier.penalty"),
        (lambda: RegionClassifier(regions, train_images=0), "RegionClassifier.train_images"),
        (lambda: RegionClassifier(regions, 1)(image), r"expected images \(N, 1, H, W\), found \(2, 3, 24, 32\)"),
        (lambda: RegionClassifier(regions).fit(image, mask), "classes: expected more than 2, found 2"),
        (lambda: RegionClassifier(regions).fit(image, mask[:1]), "expected masks"),
        (lambda: RegionClassifier(regions).fit(image, torch.full_like(mask, VOID)), "found none but void"),
        (lambda: RandomWalker(regions, seeds=1.0), "RandomWalker.seeds: expected a number above 0 and below 1"),
        (lambda: RandomWalker(regions, beta=0.0), "RandomWalker.beta"),
        (lambda: OracleRegions(regions, 1), "OracleRegions.classes"),
    ):
        with pytest.raises(RecipeError, match=says) as caught:
            build()
        assert "\n" not in str(caught.value)


def test_absent_extra_is_named_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "limbeck.baselines.regions.random_walker.find_spec", lambda name: None if name == "skimage" else found(name)
    )
    with pytest.raises(MissingExtra, match=r'pip install "limbeck\[classic\]"'):
        RandomWalker(KMeansRegions(4))

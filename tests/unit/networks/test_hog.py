"""HOG with a linear classifier: histograms known by hand, regression against SciPy, and what it tells apart."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

from limbeck.baselines.classification.hog import HogClassifier, logistic_regression
from limbeck.errors import MissingExtra, RecipeError


def stripes(count: int, seed: int = 0, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Return 16x16 images (N, C, 16, 16) of stripes of any phase at one of four angles, which is the class."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (count,), generator=draw)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    angle = label.view(-1, 1, 1) * torch.pi / 4
    phase = 6.3 * torch.rand(count, 1, 1, generator=draw)
    wave = torch.sin(angle.cos() * x + angle.sin() * y + phase) * 0.7
    noise = 0.1 * torch.randn(count, channels, 16, 16, generator=draw)
    return (wave[:, None] + noise).clamp(-1, 1), label


@pytest.fixture(autouse=True)
def needs_scikit_image(request: pytest.FixtureRequest) -> None:
    if "absent" not in request.node.name:
        pytest.importorskip("skimage", reason='needs the extra "classic"')


def test_a_vertical_edge_votes_for_the_horizontal_gradient_only() -> None:
    """One block of 2x2 cells of one orientation each: four equal histograms, of norm 1 together."""
    image = torch.linspace(-1, 1, 8).expand(1, 1, 8, 8)
    found = HogClassifier(size=8, cell=4, orientations=9).features(image).view(4, 9)
    # Bin 0 has 0 to 20 degrees. L2-Hys: the norm of (v, v, v, v), clipped at 0.2, and again.
    assert (found[:, 1:] == 0).all()
    torch.testing.assert_close(found[:, 0].square().sum(), torch.tensor(1.0), atol=1e-3, rtol=0)
    turned = HogClassifier(size=8, cell=4, orientations=9).features(image.mT).view(4, 9)
    assert (turned.argmax(1) == 4).all()  # 80 to 100 degrees


@pytest.mark.parametrize(("size", "cell", "orientations", "channels"), [(28, 4, 9, 1), (32, 8, 12, 3), (17, 4, 6, 3)])
def test_shapes(size: int, cell: int, orientations: int, channels: int) -> None:
    network = HogClassifier(channels, size, 5, cell=cell, orientations=orientations)
    image = torch.rand(3, channels, size, size) * 2 - 1
    features = network.features(image)
    assert features.shape == (3, network.output.in_features) and features.min() >= 0 and features.max() <= 1
    assert network(image).shape == (3, 5) and network.image_shape == (channels, size, size)
    # Colour: the strongest channel votes, so grey in three channels is grey in one.
    grey = image[:, :1]
    one = HogClassifier(1, size, 5, cell=cell, orientations=orientations).features(grey)
    torch.testing.assert_close(network.features(grey.expand(-1, channels, -1, -1)), one)


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_logistic_regression_is_the_minimum_that_scipy_finds(penalty: float) -> None:
    rng = np.random.default_rng(0)
    features, label = rng.normal(size=(60, 5)), rng.integers(3, size=60)

    def objective(theta: np.ndarray) -> float:
        weight, bias = theta[:15].reshape(3, 5), theta[15:]
        logits = features @ weight.T + bias
        return float(
            (logsumexp(logits, axis=1) - logits[np.arange(60), label]).mean() + penalty / 2 * (weight**2).sum()
        )

    expected = minimize(objective, np.zeros(18), method="BFGS", options={"gtol": 1e-7})
    weight, bias = logistic_regression(torch.from_numpy(features), torch.from_numpy(label), 3, penalty)
    np.testing.assert_allclose(weight.numpy().ravel(), expected.x[:15], atol=2e-4)
    np.testing.assert_allclose(bias - bias.mean(), expected.x[15:] - expected.x[15:].mean(), atol=2e-4)


def test_it_learns_the_angle_of_stripes_of_any_phase() -> None:
    network = HogClassifier(size=16, classes=4)
    network.fit(*stripes(100))
    image, label = stripes(100, seed=1)
    logits = network(image)
    assert (logits.argmax(1) == label).float().mean() > 0.95
    torch.testing.assert_close(network(image[:7]), logits[:7])  # in any company, but for rounding
    assert not logits.requires_grad
    # The mean over classes tells nothing: a linear classifier on pixels is at chance.
    pixels = logistic_regression(stripes(100)[0].flatten(1), stripes(100)[1], 4, 1e-3)
    assert ((image.flatten(1) @ pixels[0].T + pixels[1]).argmax(1) == label).float().mean() < 0.6


def test_fitting_is_deterministic_and_works_without_gradients() -> None:
    one, other = HogClassifier(size=16, classes=4), HogClassifier(size=16, classes=4)
    one.fit(*stripes(40))
    with torch.no_grad():
        other.fit(*stripes(40))
    assert torch.equal(one.output.weight, other.output.weight)
    assert all(not p.requires_grad and p.grad is None for p in one.parameters())


def test_bad_input_is_one_line() -> None:
    for options, says in (
        ({"size": 7}, "HogClassifier.size: expected a whole number of at least 8, found 7"),
        ({"cell": 0}, "HogClassifier.cell"),
        ({"classes": 1}, "HogClassifier.classes"),
        ({"penalty": -1.0}, "penalty: expected at least 0, found -1.0"),
        ({"train_images": 0}, "HogClassifier.train_images"),
    ):
        with pytest.raises(RecipeError, match=says):
            HogClassifier(**options)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"expected images \(1, 32, 32\), found \(3, 32, 32\)"):
        HogClassifier()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(RecipeError, match=r"classes: expected more than 3, found 2"):
        HogClassifier(size=16, classes=2).fit(*stripes(20))


def test_absent_extra_is_named_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "limbeck.baselines.classification.hog.find_spec", lambda name: None if name == "skimage" else found(name)
    )
    with pytest.raises(MissingExtra, match=r'pip install "limbeck\[classic\]"'):
        HogClassifier()

"""Edge detectors against scikit-image and SciPy, on photographs and on edges known by hand."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from toys import every_module

from limbeck.baselines.base import EdgeDetector
from limbeck.baselines.edges.canny import Canny, linked
from limbeck.baselines.edges.gradient_edges import Scharr, Sobel
from limbeck.baselines.edges.laplacian_of_gaussian import LaplacianOfGaussian
from limbeck.baselines.filters import blur, lab, luminance
from limbeck.errors import RecipeError

skimage = pytest.importorskip("skimage", reason='needs the extra "classic"')
from skimage import color, data, feature, filters  # noqa: E402

PHOTOGRAPHS = ("camera", "coins", "moon", "page")


def photograph(name: str) -> tuple[NDArray[np.float64], Tensor]:
    """Return a grey photograph (H, W) in [0, 1], and the same as (1, 1, H, W) in [-1, 1]."""
    grey = getattr(data, name)() / 255.0
    return grey, torch.from_numpy(grey)[None, None] * 2 - 1


def step(height: float = 1.0, at: int = 20) -> Tensor:
    """Return an image (1, 1, 40, 40) that rises by `height` of [0, 1] before column `at`."""
    image = torch.full((1, 1, 40, 40), -0.5)
    image[..., at:] += 2 * height
    return image


def concrete() -> list[type[EdgeDetector]]:
    for name in every_module("networks", "baselines"):
        importlib.import_module(name)
    found = [c for c in EdgeDetector.__subclasses__() if c.__module__.startswith("limbeck.")]
    return sorted((c for c in found if not inspect.isabstract(c)), key=lambda c: c.__name__)


def test_the_known_ones_are_found() -> None:
    assert {c.__name__ for c in concrete()} >= {"Sobel", "Scharr", "LaplacianOfGaussian", "Canny"}


@pytest.mark.parametrize("cls", concrete(), ids=lambda c: c.__name__)
def test_every_detector_keeps_its_promise(cls: type[EdgeDetector]) -> None:
    network = cls()
    draw = torch.Generator().manual_seed(0)
    assert 0 < network.threshold < 1 and not list(network.parameters())
    for channels, size in ((1, (1, 1)), (3, (2, 5)), (3, (31, 46)), (1, (17, 16))):
        image = torch.rand(3, channels, *size, generator=draw) * 2 - 1
        found = network(image)
        assert found.shape == (3, 1, *size) and found.dtype == torch.float32
        assert found.min() >= 0 and found.max() <= 1
        assert torch.equal(torch.cat([network(one[None]) for one in image]), found)
        assert network(image.bfloat16()).dtype == torch.float32
    assert 0 < found.mean() < 1
    assert (network(torch.full((1, 3, 20, 20), 0.3)) < 1e-6).all()  # a plain has no edges
    image = torch.from_numpy(data.astronaut()[:64, 150:220] / 127.5 - 1).permute(2, 0, 1)[None].float()
    grey = luminance(image) * 2 - 1
    torch.testing.assert_close(network(image), network(grey), atol=1e-5, rtol=0)  # colours count by their luminance
    with pytest.raises(RecipeError, match=r"expected grey or RGB images \(N, 1 or 3, H, W\), found \(1, 2, 8, 8\)"):
        network(torch.zeros(1, 2, 8, 8))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_sobel_and_scharr_are_those_of_scikit_image(name: str) -> None:
    grey, image = photograph(name)
    for network, reference in ((Sobel(), filters.sobel(grey)), (Scharr(), filters.scharr(grey))):
        np.testing.assert_allclose(network(image)[0, 0], reference, atol=1e-12)
        np.testing.assert_allclose(network(image.float())[0, 0], reference, atol=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.3])
def test_the_laplacian_of_a_gaussian_is_that_of_scipy(sigma: float) -> None:
    grey, image = photograph("camera")
    response = LaplacianOfGaussian(sigma).response(image)[0, 0]
    np.testing.assert_allclose(response, ndimage.gaussian_laplace(grey, sigma), atol=1e-12)
    np.testing.assert_allclose(blur(image, sigma)[0, 0], ndimage.gaussian_filter(2 * grey - 1, sigma), atol=1e-12)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("options", [(1.0, 0.1, 0.2), (2.0, 0.1, 0.2), (1.5, 0.05, 0.4)])
def test_canny_is_that_of_scikit_image_to_the_pixel(name: str, options: tuple[float, float, float]) -> None:
    grey, image = photograph(name)
    reference = feature.canny(grey, *options, mode="reflect")
    assert 0.001 < reference.mean() < 0.3
    found = Canny(*options)(image)[0, 0].numpy()
    assert set(np.unique(found)) == {0, 1}
    np.testing.assert_array_equal(found > 0, reference)
    assert ((Canny(*options)(image.float())[0, 0].numpy() > 0) != reference).mean() < 1e-4
    # Its default takes what is outside of the image for unknown: away from the border that is the same.
    inside = (slice(20, -20), slice(20, -20))
    assert ((found > 0) == feature.canny(grey, *options))[inside].mean() > 0.999


def test_a_step_is_as_strong_as_it_is_high() -> None:
    for height in (0.2, 0.5):
        sobel, scharr = Sobel()(step(height)), Scharr()(step(height))
        # Two columns rise by h over two pixels; sqrt(h² / 2).
        expected = torch.zeros(40)
        expected[19:21] = height / 2**0.5
        torch.testing.assert_close(sobel[0, 0], expected.expand(40, 40))
        torch.testing.assert_close(scharr[0, 0], expected.expand(40, 40))
        marr = LaplacianOfGaussian(4.0)(step(height))[0, 0]
        assert ((marr > 0.01).sum(1) == 1).all()  # one pixel wide
        torch.testing.assert_close(marr.max(1).values, torch.full((40,), height), rtol=0.06, atol=0)
        canny = Canny()(step(height))[0, 0, 1:-1]
        assert (canny[:, 19:21].sum(1) >= 1).all() and canny.sum() == canny[:, 19:21].sum()
    assert Canny()(step(0.02)).sum() == 0


def test_weak_edges_count_where_they_hang_on_strong_ones() -> None:
    rows = ["w.w.s..", ".w..w..", "......w", "ww...w."]
    grid = torch.tensor([[".ws".index(c) for c in row] for row in rows])[None, None]
    found = linked(grid == 2, grid > 0)[0, 0]
    assert found.nonzero().tolist() == [[0, 4], [1, 4]]
    grid[0, 0, 1, 5] = 1  # a bridge from the strong one to the lower right, and on to the lower left of that
    assert linked(grid == 2, grid > 0)[0, 0].sum() == 5


def test_lab_is_that_of_scikit_image() -> None:
    photo = data.astronaut()[::4, ::4] / 255.0
    found = lab(torch.from_numpy(photo).permute(2, 0, 1)[None] * 2 - 1)[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, color.rgb2lab(photo), atol=1e-3)
    grey = torch.linspace(-1, 1, 50).view(1, 1, 1, 50)
    torch.testing.assert_close(lab(grey), lab(grey.expand(-1, 3, -1, -1)), atol=0.02, rtol=0)


def test_bad_arguments_are_one_line() -> None:
    for build, says in (
        (lambda: Sobel(0.0), "Sobel.threshold: expected a number above 0, found 0.0"),
        (lambda: Scharr(-1.0), "Scharr.threshold"),
        (lambda: LaplacianOfGaussian(0.0), "LaplacianOfGaussian.sigma"),
        (lambda: LaplacianOfGaussian(threshold=0.0), "LaplacianOfGaussian.threshold"),
        (lambda: Canny(sigma=-1.0), "Canny.sigma"),
        (lambda: Canny(low=0.0), "Canny.low"),
        (lambda: Canny(low=0.3, high=0.2), "Canny.high: expected at least low, which is 0.3, found 0.2"),
    ):
        with pytest.raises(RecipeError, match=says):
            build()

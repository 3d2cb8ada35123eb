"""What regions promise, checked on everything that makes them; and what each of them is known to find."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from toys import every_module

from limbeck.baselines.base import Regions
from limbeck.baselines.filters import blur, lab, luminance, slopes
from limbeck.baselines.regions.felzenszwalb import Felzenszwalb
from limbeck.baselines.regions.kmeans_regions import KMeansRegions, clustered
from limbeck.baselines.regions.mean_shift import MeanShift, modes
from limbeck.baselines.regions.normalized_cut import NormalizedCutRegions
from limbeck.baselines.regions.otsu import Otsu
from limbeck.baselines.regions.region_maps import RegionsByImage, neighbours, numbered, pooled, votes
from limbeck.baselines.regions.slic import Slic
from limbeck.baselines.regions.watershed import Watershed, markers
from limbeck.errors import MissingExtra, RecipeError

skimage = pytest.importorskip("skimage", reason='needs the extra "classic"')
from skimage import data, graph, segmentation  # noqa: E402
from skimage.filters import threshold_otsu  # noqa: E402

# Every class, in each of its ways.
ROWS: dict[str, list[dict[str, Any]]] = {
    "Otsu": [{}, {"levels": 4}, {"connected": True}],
    "KMeansRegions": [{"regions": 5}, {"position": 0.0}],
    "Watershed": [{"sigma": 1.0}],
    "Slic": [{"regions": 20}, {"sigma": 1.0}],
    "Felzenszwalb": [{"scale": 30.0}, {"scale": 20.0, "sigma": 0.0, "least": 1}],
    "MeanShift": [{"regions": Slic(40)}, {"regions": Slic(40), "kernel": "flat", "colour": 20.0}],
    "NormalizedCutRegions": [{"regions": Slic(40), "threshold": 0.5}],
}


def concrete() -> dict[str, type[Regions]]:
    for name in every_module("networks", "baselines"):
        importlib.import_module(name)
    found, below = {}, [Regions]
    while below:
        cls = below.pop()
        below += cls.__subclasses__()
        if cls.__module__.startswith("limbeck.") and not inspect.isabstract(cls):
            found[cls.__name__] = cls
    return found


CLASSES = concrete()
every_way = pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(name, options, id=f"{name}{list(options)}") for name in CLASSES for options in ROWS.get(name, [{}])],
)


def photo(top: int = 20, left: int = 150, size: tuple[int, int] = (45, 58)) -> Tensor:
    """Return a cut-out of a photograph (1, 3, H, W)."""
    cut = data.astronaut()[top : top + size[0], left : left + size[1]]
    return torch.from_numpy(cut / 127.5 - 1).permute(2, 0, 1)[None].float()


def patches() -> Tensor:
    """Return an image (1, 3, 40, 40) of four squares of different colours, with a little noise."""
    colours = torch.tensor([[0.8, -0.6, -0.6], [-0.6, 0.7, -0.5], [-0.7, -0.6, 0.9], [0.8, 0.8, 0.2]])
    image = colours.T.view(1, 3, 2, 2).repeat_interleave(20, 2).repeat_interleave(20, 3)
    return image + 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))


SQUARES = torch.arange(4).view(2, 2).repeat_interleave(20, 0).repeat_interleave(20, 1)


def test_every_class_has_its_rows() -> None:
    assert set(CLASSES) == set(ROWS)


@every_way
@pytest.mark.parametrize("channels", [1, 3])
def test_regions_are_numbered_and_an_image_has_the_same_ones_in_any_company(
    name: str, options: dict[str, Any], channels: int
) -> None:
    network = CLASSES[name](**options)
    images = torch.cat([photo(), photo(200, 60), torch.full((1, 3, 45, 58), 0.25), photo(20, 300)])
    images = images if channels == 3 else luminance(images) * 2 - 1
    kept = images.clone()
    found = network(images)
    assert found.shape == (4, 45, 58) and found.dtype == torch.int64 and torch.equal(images, kept)
    for one in found:
        assert torch.equal(one.unique(), torch.arange(int(one.max()) + 1))
    assert torch.equal(torch.cat([network(one[None]) for one in images]), found)
    assert all(found[i].max() > 0 for i in (0, 1, 3))  # a photograph is not one region
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin(images), found)


@every_way
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (16, 33)])
def test_images_of_any_size(name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    network = CLASSES[name](**options)
    image = torch.cat([photo(size=size), photo(90, 200, size)])
    found = network(image)
    assert found.shape == (2, *size) and found.min() == 0
    assert all(torch.equal(one.unique(), torch.arange(int(one.max()) + 1)) for one in found)


@pytest.mark.parametrize(
    ("network", "least"),
    [
        (KMeansRegions(4, position=0.0), 1.0),
        (Watershed(1.0), 0.9),
        (Slic(50), 0.97),
        (Felzenszwalb(300.0, 0.0), 1.0),
        (MeanShift(Slic(50)), 0.97),
        (MeanShift(Slic(50), kernel="flat"), 0.97),
        (NormalizedCutRegions(Slic(50)), 0.97),
        (Otsu(4), 0.9),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Regions) else "",
)
def test_regions_do_not_cross_the_border_between_two_colours(network: Regions, least: float) -> None:
    regions = network(patches())[0]
    share = votes(regions, SQUARES, 4).max(1).values.sum() / SQUARES.numel()
    assert share >= least  # one region of all has 0.25


@pytest.mark.parametrize(
    "network",
    [
        KMeansRegions(4, 0.0),
        MeanShift(Slic(50), place=0.5),
        NormalizedCutRegions(Slic(50)),
        Felzenszwalb(300.0, 0.0),
    ],
    ids=lambda n: type(n).__name__,
)
def test_four_colours_are_four_regions(network: Regions) -> None:
    assert network(patches())[0].max() == 3


@pytest.mark.parametrize("options", [(100.0, 0.8, 20), (30.0, 0.5, 5), (300.0, 0.0, 50)])
def test_felzenszwalb_and_slic_are_those_of_scikit_image(options: tuple[float, float, int]) -> None:
    image = photo(size=(90, 111))
    seen = ((image[0].double() + 1) / 2).permute(1, 2, 0).numpy()
    reference = segmentation.felzenszwalb(seen, *options)
    assert reference.max() > 3
    np.testing.assert_array_equal(Felzenszwalb(*options)(image)[0], reference)
    reference = segmentation.slic(seen, 60, compactness=8.0, start_label=0)
    np.testing.assert_array_equal(Slic(60, 8.0)(image)[0], reference)
    grey = luminance(image) * 2 - 1
    assert torch.equal(Slic(60)(grey), Slic(60)(grey.expand(-1, 3, -1, -1)))


def test_otsu_is_the_threshold_of_the_largest_variance_between_levels() -> None:
    image = photo(size=(90, 111))
    grey = luminance(image.double())[0, 0].numpy()
    levels = Otsu()(image)[0].numpy()
    np.testing.assert_array_equal(levels, grey > threshold_otsu(grey))

    def between(threshold: float) -> float:
        low, high = grey[grey <= threshold], grey[grey > threshold]
        return len(low) * len(high) * (high.mean() - low.mean()) ** 2

    best = max(between(t) for t in np.linspace(grey.min(), grey.max(), 300)[1:-1])
    assert between(grey[levels == 0].max()) > 0.999 * best
    parts = Otsu(connected=True)(image)[0].numpy()
    assert parts.max() + 1 == sum(ndimage.label(levels == level)[1] for level in (0, 1))
    assert Otsu(3)(torch.tensor([[[[-1.0, 0.0], [0.0, 1.0]]]])).tolist() == [[[0, 1], [1, 2]]]
    assert Otsu(5)(torch.tensor([[[[-1.0, 0.5], [0.5, -1.0]]]])).tolist() == [[[0, 1], [1, 0]]]


def test_k_means_ends_where_every_point_is_nearest_to_its_own_mean() -> None:
    draw = torch.Generator().manual_seed(3)
    points = torch.randn(2, 3, 400, generator=draw).double()
    nearest = clustered(points, 6, 500)
    for cloud, own in zip(points, nearest, strict=True):
        means = torch.stack([cloud[:, own == k].mean(1) for k in range(6)])
        assert torch.equal(torch.cdist(cloud.T, means).argmin(1), own)
    # The farthest points come first: three far clouds of very different sizes are found at once.
    far = torch.cat([torch.randn(2, n, generator=draw) * 0.1 + 10 * k for k, n in enumerate((300, 3, 20))], 1)[None]
    assert sorted(clustered(far, 3, 20)[0].bincount().tolist()) == [3, 20, 300]


def test_watershed_has_a_region_for_each_minimum_and_it_flows_downhill() -> None:
    image = photo(size=(60, 71))
    seen = luminance(image.double())
    height = torch.hypot(*slopes(blur(seen, 1.5)))[0, 0].numpy()
    found = Watershed(1.5)(image)[0].numpy()
    lows = markers(height)
    lowest = ndimage.minimum_filter(height, size=3)
    inside = lows[1:-1, 1:-1] > 0
    assert (height[1:-1, 1:-1][inside] == lowest[1:-1, 1:-1][inside]).all()
    assert found.max() + 1 == lows.max() > 5
    for basin in range(found.max() + 1):
        assert len(np.unique(lows[(found == basin) & (lows > 0)])) == 1
        assert ndimage.label(found == basin)[1] == 1


def test_mean_shift_climbs_to_the_modes_of_the_density() -> None:
    draw = torch.Generator().manual_seed(0)
    points = torch.cat([torch.randn(40, 2, generator=draw) * 0.3 + c for c in (0.0, 5.0)]).double()
    weight = torch.rand(80, generator=draw).double() + 0.5
    found = modes(points, weight, "gaussian").requires_grad_()
    assert (torch.cdist(found[:40], found[:40]).max() < 0.02) and (found[0] - found[79]).norm() > 5
    density = (weight * (-torch.cdist(found, points).square() / 2).exp()).sum(1)
    (slope,) = torch.autograd.grad(density.sum(), found)
    assert slope.norm(dim=1).max() < 0.02 * float(density.max().detach())
    # Flat: a mode is the mean of all that is nearer than 1.
    flat = modes(points, weight, "flat")
    near = (torch.cdist(flat, points) < 1).double() * weight
    torch.testing.assert_close(near @ points / near.sum(1, keepdim=True), flat, atol=2e-3, rtol=0)


def test_normalised_cuts_join_small_regions_and_are_those_of_scikit_image() -> None:
    image, small = photo(size=(60, 71)), Slic(40)
    seen = (((image[0].double() + 1) / 2).permute(1, 2, 0)).numpy()
    parts = small(image)[0].numpy()
    similar = graph.rag_mean_color(seen * 255, parts, mode="similarity")
    expected = graph.cut_normalized(parts, similar, 0.3, rng=0)
    found = NormalizedCutRegions(small, threshold=0.3)(image)
    assert torch.equal(found, numbered(torch.from_numpy(expected)[None])) and 1 < found.max() < parts.max()
    for part in range(parts.max() + 1):
        assert len(found[0][torch.from_numpy(parts == part)].unique()) == 1


def test_what_regions_share_is_right_on_a_case_by_hand() -> None:
    regions = torch.tensor([[0, 0, 1], [2, 2, 1]])
    pairs, length = neighbours(regions)
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]] and length.tolist() == [1, 2, 1]
    values = torch.tensor([[[1.0, 3.0, 5.0], [7.0, 8.0, 6.0]]])
    assert pooled(values, regions).tolist() == [[2.0], [5.5], [7.5]]
    mask = torch.tensor([[1, 1, 255], [0, 1, 2]])
    assert votes(regions, mask, 3).tolist() == [[0, 2, 0], [0, 0, 1], [1, 1, 0]]
    assert numbered(torch.tensor([[[7, 3], [3, 9]], [[0, 0], [5, 0]]])).tolist() == [
        [[1, 0], [0, 2]],
        [[0, 0], [1, 0]],
    ]
    alone = neighbours(torch.zeros(2, 2, dtype=torch.int64))
    assert alone[0].shape == (0, 2) and alone[1].shape == (0,)


def test_bad_input_is_one_line() -> None:
    for build, says in (
        (lambda: Otsu(1), "Otsu.levels: expected a whole number of at least 2, found 1"),
        (lambda: Otsu(6), "Otsu.levels: expected at most 5, found 6"),
        (lambda: KMeansRegions(0), "KMeansRegions.regions"),
        (lambda: KMeansRegions(position=-1.0), "KMeansRegions.position: expected a number of at least 0, found -1.0"),
        (lambda: Watershed(0.0), "Watershed.sigma"),
        (lambda: Slic(2.5), "Slic.regions"),  # type: ignore[arg-type]
        (lambda: Slic(compactness=0.0), "Slic.compactness"),
        (lambda: Felzenszwalb(0.0), "Felzenszwalb.scale"),
        (lambda: Felzenszwalb(least=0), "Felzenszwalb.least"),
        (lambda: MeanShift(Slic(), colour=0.0), "MeanShift.colour"),
        (lambda: MeanShift(Slic(), kernel="cosine"), "MeanShift.kernel: expected one of 'gaussian', 'flat'"),  # type: ignore[arg-type]
        (lambda: NormalizedCutRegions(Slic(), threshold=0.0), "NormalizedCutRegions.threshold"),
        (lambda: NormalizedCutRegions(Slic(), cuts=1), "NormalizedCutRegions.cuts"),
        (lambda: KMeansRegions()(torch.zeros(1, 2, 8, 8)), "expected grey or RGB images"),
    ):
        with pytest.raises(RecipeError, match=says) as caught:
            build()
        assert "\n" not in str(caught.value)
    assert lab(torch.zeros(1, 1, 2, 2)).shape == (1, 3, 2, 2)


def test_absent_extra_is_named_when_regions_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "limbeck.baselines.regions.region_maps.find_spec", lambda name: None if name == "skimage" else found(name)
    )
    for cls in (cls for cls in CLASSES.values() if issubclass(cls, RegionsByImage)):
        needed = {"regions": KMeansRegions()} if cls is NormalizedCutRegions else {}
        with pytest.raises(MissingExtra, match=r'pip install "limbeck\[classic\]"'):
            cls(**needed)

"""What every degradation keeps to, and what each of them does."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toys import every_module

from limbeck.data.base import Degradation
from limbeck.data.degradations.add_noise import AddNoise
from limbeck.data.degradations.as_given import AsGiven
from limbeck.data.degradations.blur import Blur
from limbeck.data.degradations.downscale import Downscale
from limbeck.data.degradations.holes import KINDS, Holes
from limbeck.data.degradations.jpeg import Jpeg
from limbeck.errors import DataError, RecipeError
from limbeck.types import Batch

EXAMPLES: dict[type[Degradation], dict[str, Callable[[], Degradation]]] = {
    AddNoise: {"fixed": AddNoise, "any": lambda: AddNoise(5, 50)},
    Blur: {"": Blur},
    Downscale: {"two": lambda: Downscale(2), "three, linear": lambda: Downscale(3, "linear")},
    Holes: {kind: lambda kind=kind: Holes(kind) for kind in KINDS},
    Jpeg: {"": Jpeg},
}
ROWS = [pytest.param(make(), id=f"{c.__name__} {name}") for c, some in EXAMPLES.items() for name, make in some.items()]
every_degradation = pytest.mark.parametrize("degradation", ROWS)


def photographs(count: int = 4, channels: int = 3, size: tuple[int, int] = (36, 48)) -> Tensor:
    coarse = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")


def seeds(count: int = 4, first: int = 0) -> Tensor:
    return torch.arange(first, first + count)


def test_every_degradation_has_an_example() -> None:
    modules = [importlib.import_module(name) for name in every_module("data")]
    known = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, Degradation)}
    assert {c for c in known if not inspect.isabstract(c)} == {*EXAMPLES, AsGiven}  # which makes none: see below


@every_degradation
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_change(degradation: Degradation, channels: int) -> None:
    image = photographs(channels=channels)
    before = image.clone()
    found = degradation(image, seeds())
    scale = degradation.scale
    assert found.shape == (4, channels + degradation.masks, 36 // scale, 48 // scale) and found.dtype == torch.float32
    assert torch.equal(image, before) and not torch.equal(found[:, :channels], image)


@every_degradation
def test_an_image_is_degraded_alike_alone_and_among_others(degradation: Degradation) -> None:
    image = photographs()
    together = degradation(image, seeds())
    torch.rand(3)  # global random numbers play no part
    torch.testing.assert_close(degradation(image[2:3], seeds()[2:3]), together[2:3], rtol=0, atol=1e-6)
    drawn = not torch.equal(degradation(image, seeds(first=9)), together)
    assert drawn == isinstance(degradation, AddNoise | Holes)


@every_degradation
def test_its_name_says_all_about_it(degradation: Degradation) -> None:
    assert repr(degradation).startswith(type(degradation).__name__ + "(") and " at 0x" not in repr(degradation)


def test_noise_has_the_strength_it_says() -> None:
    image = torch.zeros(8, 1, 64, 64)
    found = AddNoise(25.0)(image, seeds(8))
    assert abs(float(found.std()) * 127.5 / 25 - 1) < 0.02 and abs(float(found.mean())) < 0.005
    each = AddNoise(5.0, 50.0)(image, seeds(8)).flatten(1).std(1) * 127.5
    assert float(each.min()) > 4 and float(each.max()) < 51 and float(each.max() - each.min()) > 10


def test_a_blurred_point_is_a_gaussian() -> None:
    image = torch.full((1, 1, 31, 31), -1.0)
    image[0, 0, 15, 15] = 1.0
    found = (Blur(1.5)(image, seeds(1)) + 1)[0, 0] / 2
    at = torch.arange(31.0) - 15
    gaussian = torch.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    torch.testing.assert_close(found, gaussian / gaussian.sum(), rtol=0, atol=0.6 / 255)


def test_jpeg_is_the_better_the_higher_its_quality() -> None:
    image = photographs()
    error = [float((Jpeg(quality)(image, seeds()) - image).square().mean()) for quality in (5, 30, 95)]
    assert error[0] > error[1] > error[2] > 0


def test_a_box_that_is_most_of_an_image_is_as_large_as_it_says() -> None:
    mask = Holes("box", 0.75)(photographs(30), seeds(30))[:, 3:]
    share = (mask > 0).float().mean((1, 2, 3))
    assert float((share - 0.75).abs().max()) < 0.04


@pytest.mark.parametrize("kind", KINDS)
def test_holes_are_as_large_as_they_say_and_hide_all_in_them(kind: str) -> None:
    image = photographs(30)
    found = Holes(kind, 0.3)(image, seeds(30))  # type: ignore[arg-type]
    mask, seen = found[:, 3:], found[:, :3]
    assert set(mask.unique().tolist()) == {-1.0, 1.0}
    inside = (mask > 0).expand_as(seen)
    assert (seen[inside] == 0).all() and torch.equal(seen[~inside], image[~inside])
    share = (mask > 0).float().mean((1, 2, 3))
    expected = 0.5 if kind == "half" else 0.3
    slack = {"box": 0.08, "strokes": 0.2, "half": 0.0, "random": 0.001}[kind]
    assert float((share - expected).abs().max()) <= slack
    assert len({tuple(m.flatten().tolist()) for m in mask}) >= (4 if kind == "half" else 25)


def test_half_of_a_single_pixel_is_that_pixel() -> None:
    for size in ((1, 6), (6, 1), (1, 1)):
        mask = Holes("half")(torch.zeros(16, 1, *size), seeds(16))[:, 1:]
        assert (mask > 0).flatten(1).any(1).all()


def test_what_is_given_is_taken_as_it_is() -> None:
    whole, small = photographs(), photographs(size=(9, 12))
    batch = Batch(image=whole, degraded=small)
    assert torch.equal(AsGiven(4).of(batch, whole, seeds()), small)
    assert [AsGiven(scale).main_metric for scale in (1, 2)] == ["psnr", "psnr_y"]
    with pytest.raises(
        DataError, match=r"AsGiven.scale: expected degraded images of \(12, 16\) pixels .*, found \(9, 12\)"
    ):
        AsGiven(3).of(batch, whole, seeds())
    with pytest.raises(DataError, match="AsGiven: expected data with a degraded form of each image, found none; give"):
        AsGiven(4).of(Batch(image=whole), whole, seeds())
    with pytest.raises(RecipeError, match="found whole ones alone"):
        AsGiven(4)(whole, seeds())


@every_degradation
def test_what_is_given_is_not_left_unused(degradation: Degradation) -> None:
    whole = photographs()
    assert torch.equal(degradation.of(Batch(image=whole), whole, seeds()), degradation(whole, seeds()))
    with pytest.raises(
        RecipeError, match=r"task\.degradation: expected AsGiven, as the data brings its degraded images"
    ):
        degradation.of(Batch(image=whole, degraded=whole), whole, seeds())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AsGiven(0), "AsGiven.scale: expected a whole number of at least 1, found 0"),
        (lambda: Downscale(1), "Downscale.scale: expected a whole number of at least 2, found 1"),
        (lambda: Blur(0), "Blur.sigma: expected a number of pixels above 0, found 0"),
        (lambda: AddNoise(-1), "AddNoise: expected sigma above 0"),
        (lambda: AddNoise(20, 10), "found 20 and 10"),
        (lambda: Jpeg(0), "Jpeg.quality: expected a whole number from 1 to 95, found 0"),
        (lambda: Holes("oval"), "Holes.kind: expected one of box, strokes, half, random, found 'oval'"),
        (lambda: Holes(share=1), r"Holes.share: expected a number in \(0, 1\), found 1"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Degradation], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        make()

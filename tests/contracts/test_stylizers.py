"""What every stylizer promises, checked on every one that the package has, networks and classical ones alike."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import every_module

from limbeck.errors import RecipeError
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.networks.roles import Stylizer
from limbeck.networks.stylizers.johnson import JohnsonStylizer

SEES = partial(Vgg16, width=4, until="relu2_1")
LEARNS = partial(Vgg16, width=2, until="relu2_1", trained=True)
SMALL: dict[str, list[dict[str, Any]]] = {
    "JohnsonStylizer": [
        {"width": 2, "blocks": 1},
        {"width": 2, "blocks": 1, "depthwise": True},
        {"width": 2, "blocks": 1, "styles": 3},
    ],
    "FastStyle": [{}, {"widths": (4, 6, 8), "blocks": 1, "rank": 3, "between": 5}],
    "AdaptiveStylizer": [{"encoder": LEARNS}, {"encoder": LEARNS, "exchange": "whitening", "strength": 0.8}],
    "StylizerPerStyle": [{"members": lambda: [JohnsonStylizer(2, 1), JohnsonStylizer(3, 1)]}],
    "Gatys": [
        {"feature_network": SEES, "content_paths": ["relu2_1"], "style_paths": ["relu1_1", "relu2_1"], "steps": 6}
    ],
}
N = 2


def _concrete() -> list[type[Stylizer]]:
    for name in every_module("networks", "baselines"):
        importlib.import_module(name)
    found, below = set(), [Stylizer]
    while below:
        cls = below.pop()
        below += cls.__subclasses__()
        if cls.__module__.startswith(("limbeck.networks.", "limbeck.baselines.")) and not inspect.isabstract(cls):
            found.add(cls)
    return sorted(found, key=lambda c: c.__name__)


def _id(cls: type[Stylizer], options: dict[str, Any]) -> str:
    return f"{cls.__name__}{ {name: value for name, value in options.items() if not callable(value)} }"


ROWS = [pytest.param(c, o, id=_id(c, o)) for c in _concrete() for o in SMALL.get(c.__name__, [{}])]
every_case = pytest.mark.parametrize(("cls", "options"), ROWS)


def build(cls: type[Stylizer], options: dict[str, Any], seed: int = 0) -> Stylizer:
    torch.manual_seed(seed)
    built = cls(**{name: value() if callable(value) else value for name, value in options.items()})
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    return built.eval()


def inputs(stylizer: Stylizer, size: tuple[int, int] = (18, 21), seed: int = 0) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    image = torch.rand(N, 3, *size, generator=draw) * 1.8 - 0.9
    if stylizer.styles == 0:
        return image, torch.rand(N, 3, 16, 23, generator=draw) * 1.2 - 0.8
    return (image,) if stylizer.styles == 1 else (image, torch.tensor([stylizer.styles - 1, 0]))


def test_the_known_ones_are_found() -> None:
    assert {c.__name__ for c in _concrete()} >= {
        "JohnsonStylizer", "Reinhard", "HistogramMatching", "OptimalTransportColour", "FourierStyle", "PyramidStyle",
        "AdaptiveStylizer", "FastStyle", "Gatys", "StylizerPerStyle",
    }  # fmt: skip


@every_case
def test_images_of_any_size(cls: type[Stylizer], options: dict[str, Any]) -> None:
    stylizer = build(cls, options)
    for size in ((18, 21), (16, 16)):
        image, *style = inputs(stylizer, size)
        found = stylizer(image, *style)
        assert found.shape == image.shape and found.dtype == torch.float32 and found.abs().max() <= 1
        assert found.std() > 0.01 and not torch.allclose(found, image, atol=0.05)


@every_case
def test_a_painted_image_depends_on_itself_and_its_style_alone(cls: type[Stylizer], options: dict[str, Any]) -> None:
    stylizer = build(cls, options)
    given = inputs(stylizer)
    with torch.no_grad():
        together = stylizer(*given)
        torch.testing.assert_close(stylizer(*(t[1:] for t in given)), together[1:], rtol=1e-4, atol=1e-5)
        if len(given) == 2:
            other = given[1].flip(0)
            assert not torch.allclose(stylizer(given[0], other), together, atol=0.01)


@every_case
def test_without_a_style_that_it_needs_it_says_so(cls: type[Stylizer], options: dict[str, Any]) -> None:
    stylizer = build(cls, options)
    image = inputs(stylizer)[0]
    if stylizer.styles != 1:
        with pytest.raises(RecipeError, match=f"{cls.__name__}: expected .*style.*, found none"):
            stylizer(image)
    if stylizer.styles == 0:
        with pytest.raises(RecipeError, match="expected style images"):
            stylizer(image, torch.zeros(N, dtype=torch.int64))


@every_case
def test_copies_and_gradients(cls: type[Stylizer], options: dict[str, Any]) -> None:
    stylizer = build(cls, options)
    given = inputs(stylizer)
    with torch.no_grad():
        expected = stylizer(*given)
        for twin in (copy.deepcopy(stylizer), pickle.loads(pickle.dumps(stylizer))):
            assert torch.equal(twin(*given), expected)
        other = build(cls, options, seed=1)
        other.load_state_dict(stylizer.state_dict())
        assert torch.equal(other(*given), expected)
    if any(True for _ in stylizer.parameters()):
        found = stylizer(*given)
        (found * torch.randn_like(found)).sum().backward()
        for name, parameter in stylizer.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name

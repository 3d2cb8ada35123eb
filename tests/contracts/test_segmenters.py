"""What every network that segments promises, checked on every one that the package has.

Not on what is fitted as a whole, nor on an oracle, which is shown the truth.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from toys import every_module

from limbeck.baselines.base import Fitted
from limbeck.errors import RecipeError
from limbeck.networks.classifiers.mobilenet_v2 import MobileNetV2
from limbeck.networks.classifiers.resnet import ResNet
from limbeck.networks.roles import Segmenter

N, K = 3, 4
# What a class needs to be small; a row of several is tried in each of them.
SMALL: dict[str, list[dict[str, Any]]] = {
    "UNet": [{"width": 4, "depth": 2}],
    "FastScnn": [{"width": 0.1}],
    "DeepLabV3": [{"width": 4, "rates": [1, 2]}, {"width": 4, "rates": [], "skip": "layer1"}],
}
NEEDED: dict[str, Any] = {"DeepLabV3": {"backbone": lambda channels: ResNet(width=4, channels=channels)}}
OTHERS: list[tuple[str, dict[str, Any], Any]] = [
    (
        "DeepLabV3",
        {"width": 4, "path": "features.17", "skip": "features.3", "output_stride": 4},
        lambda channels: MobileNetV2(0.1, channels=channels),
    )
]
# Parameters that training does not reach: the biases of a batch normalisation that the next one takes away again.
UNREACHED = {"FastScnn": r"extract\.\d\.conv\.3\.bias", "DeepLabV3": r"backbone\.features\.\d+\.conv\.[23]\.bias"}


def _concrete() -> list[type[Segmenter]]:
    for name in every_module("networks", "baselines"):
        importlib.import_module(name)
    found, below = set(), [Segmenter]
    while below:
        cls = below.pop()
        below += cls.__subclasses__()
        ours = cls.__module__.startswith("limbeck.") and not inspect.isabstract(cls)
        if ours and not issubclass(cls, Fitted) and not getattr(cls, "oracle", False):
            found.add(cls)
    return sorted(found, key=lambda c: c.__name__)


def _options(cls: type[Segmenter]) -> list[dict[str, Any]]:
    """The smallest, then each choice at each of its other values."""
    hints, parameters = get_type_hints(cls.__init__), inspect.signature(cls).parameters
    found = list(SMALL.get(cls.__name__, [{}]))
    for name, parameter in parameters.items():
        choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        choices = (False, True) if hints[name] is bool else choices
        found += [found[0] | {name: value} for value in choices if value != parameter.default]
    return found


CLASSES = _concrete()
ROWS = [pytest.param(cls, {}, o, id=f"{cls.__name__}{o}") for cls in CLASSES for o in _options(cls)]
ROWS += [
    pytest.param(cls, {"backbone": make}, options, id=f"{name}{options}")
    for name, options, make in OTHERS
    for cls in CLASSES
    if cls.__name__ == name
]
every_case = pytest.mark.parametrize(("cls", "needed", "options"), ROWS)


def build(
    cls: type[Segmenter], needed: dict[str, Any], options: dict[str, Any], channels: int = 3, seed: int = 0
) -> Segmenter:
    torch.manual_seed(seed)
    made = {name: make(channels) for name, make in (NEEDED.get(cls.__name__, {}) | needed).items()}
    rest = {"channels": channels} if "channels" in inspect.signature(cls).parameters else {}
    built = cls(**options, **made, **rest, classes=K)
    with torch.no_grad():  # away from symmetric points: zero biases and gains
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return built


def images(channels: int = 3, size: tuple[int, int] = (32, 48), seed: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(N, channels, *size, generator=draw) * 2 - 1


def test_the_known_ones_are_found() -> None:
    assert {c.__name__ for c in CLASSES} >= {"UNet", "DeepLabV3", "FastScnn"}
    assert not any(issubclass(c, Fitted) for c in CLASSES)
    assert len(ROWS) >= 10


@every_case
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_have_the_size_of_the_image(
    cls: type[Segmenter], needed: dict[str, Any], options: dict[str, Any], channels: int
) -> None:
    network = build(cls, needed, options, channels).eval()
    assert (network.channels, network.classes) == (channels, K)
    with torch.no_grad():
        for size in ((32, 48), (33, 47), (61, 32), (64, 64)):
            found = network(images(channels, size))
            assert found.shape == (N, K, *size) and found.dtype == torch.float32
            assert found.isfinite().all() and found.std() > 1e-4


@every_case
def test_an_image_depends_on_itself_alone(
    cls: type[Segmenter], needed: dict[str, Any], options: dict[str, Any]
) -> None:
    network = build(cls, needed, options)
    network(images(seed=2))  # moves running statistics away from their start
    network.eval()
    image = images()
    state = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        together = network(image)
        assert torch.equal(network(image), together)
        alone = torch.cat([network(image[i : i + 1]) for i in range(N)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@every_case
def test_gradient_reaches_the_image_and_every_parameter(
    cls: type[Segmenter], needed: dict[str, Any], options: dict[str, Any]
) -> None:
    network = build(cls, needed, options)
    image = images(size=(64, 80)).requires_grad_()
    found = network(image)
    (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    assert image.grad is not None and (image.grad.flatten(1).abs().sum(1) > 0).all()
    unreached = re.compile(UNREACHED.get(cls.__name__, "(?!)"))
    scale = max(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # More than rounding: a bias before a batch normalisation would get some 1e-8 of the rest.
        assert unreached.fullmatch(name) or parameter.grad.abs().max() > 1e-6 * scale, name


@every_case
def test_copies_state_and_layout(cls: type[Segmenter], needed: dict[str, Any], options: dict[str, Any]) -> None:
    network = build(cls, needed, options)
    image = images()
    network(images(seed=2))
    network.eval()
    with torch.no_grad():
        expected = network(image)
        twin = copy.deepcopy(network)
        for same in (twin, pickle.loads(pickle.dumps(network))):
            assert torch.equal(same(image), expected)
        other = build(cls, needed, options, seed=1).eval()
        assert not torch.equal(other(image), expected)
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(image), expected)
        for parameter in twin.parameters():
            parameter.add_(1.0)
        assert torch.equal(network(image), expected)
        last = network.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)


@every_case
def test_bf16_trains(cls: type[Segmenter], needed: dict[str, Any], options: dict[str, Any]) -> None:
    network = build(cls, needed, options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(images())
        assert found.isfinite().all()
        found.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_it_learns_where_it_is_bright(cls: type[Segmenter]) -> None:
    network = build(cls, {}, _options(cls)[0])
    draw = torch.Generator().manual_seed(5)
    mask = torch.randint(2, (8, 2, 2), generator=draw).repeat_interleave(16, 1).repeat_interleave(16, 2)
    image = (mask[:, None] * 1.2 - 0.6).expand(-1, 3, -1, -1) + 0.1 * torch.randn(8, 3, 32, 32, generator=draw)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(image), mask)
        loss.backward()
        optimizer.step()
    assert loss < 0.45
    with torch.no_grad():
        assert (network(image).argmax(1) == mask).float().mean() > 0.8


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_numbers_that_cannot_be_are_refused_in_one_line(cls: type[Segmenter]) -> None:
    hints = get_type_hints(cls.__init__)
    made = {name: make(3) for name, make in NEEDED.get(cls.__name__, {}).items()}
    numbers = [n for n in inspect.signature(cls).parameters if hints[n] in (int, float) and n != "dropout"]
    assert "classes" in numbers
    for name, value in [(n, v) for n in numbers for v in (0, -1)] + [("dropout", 1.0), ("dropout", -0.1)]:
        with pytest.raises(RecipeError) as caught:
            cls(**{name: value}, **made)
        message = str(caught.value)
        assert "\n" not in message and f"{cls.__name__}.{name}: expected" in message and str(value) in message

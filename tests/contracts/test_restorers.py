"""What every restorer promises, checked on every one that the package has, networks and classical ones alike."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from toys import every_module

from limbeck.baselines.restoration.interpolation import Interpolation
from limbeck.errors import RecipeError
from limbeck.networks.roles import ProbabilisticRestorer, Restorer

SMALL: dict[str, Any] = {
    "width": 4,
    "blocks": 2,
    "depth": 3,
    "groups": 1,
    "halvings": 2,
    "reduction": 1,
    "inner": 4,
    "patch": 5,
}
NEEDED: dict[str, dict[str, Any]] = {"UncertainRestorer": {"network": lambda c: Interpolation(2, c, "linear")}}
N = 3


def _concrete() -> list[type[Restorer]]:
    for name in every_module("networks", "baselines"):
        importlib.import_module(name)
    found, below = set(), [Restorer]
    while below:
        cls = below.pop()
        below += cls.__subclasses__()
        if cls.__module__.startswith("limbeck.") and not inspect.isabstract(cls):
            found.add(cls)
    return sorted(found, key=lambda c: c.__name__)


def _options(cls: type[Restorer]) -> list[dict[str, Any]]:
    """The smallest, then each choice at each of its other values."""
    hints, parameters = get_type_hints(cls.__init__), inspect.signature(cls).parameters
    base = {name: value for name, value in SMALL.items() if name in parameters}
    if "scale" in parameters:
        base["scale"] = 2
    found = [base]
    for name, parameter in parameters.items():
        choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        choices = (False, True) if hints[name] is bool else choices
        found += [base | {name: value} for value in choices if value != parameter.default]
    return found


def build(cls: type[Restorer], options: dict[str, Any], channels: int = 3, seed: int = 0) -> Restorer:
    torch.manual_seed(seed)
    needed = {name: make(channels) for name, make in NEEDED.get(cls.__name__, {}).items()}
    rest = {"channels": channels} if "channels" in inspect.signature(cls).parameters else {}
    built = cls(**options, **needed, **rest)
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.2)
    return built


def degraded(network: Restorer, size: tuple[int, int] = (13, 18)) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    image = torch.rand(N, network.channels, *size, generator=draw) * 1.6 - 0.8
    if network.inputs == network.channels:
        return image
    hole = torch.full((N, 1, *size), -1.0)
    hole[:, :, 4:8, 5:11] = 1
    return torch.cat([torch.where(hole > 0, 0.0, image), hole], 1)


CLASSES = _concrete()
ROWS = [pytest.param(cls, options, id=f"{cls.__name__}{options}") for cls in CLASSES for options in _options(cls)]
every_case = pytest.mark.parametrize(("cls", "options"), ROWS)


def test_the_known_ones_are_found() -> None:
    assert {c.__name__ for c in CLASSES} >= {
        "Edsr", "Imdn", "Espcn", "DnCnn", "InpaintingUnet", "UncertainRestorer", "Interpolation", "FourierUpscaling",
        "DiffusionInpainting", "BackProjection", "Wiener", "Rcan", "Rlfn", "EdgeDirected", "PatchInpainting",
        "TeleaInpainting", "TranslationUnet", "TranslationResnet",
    }  # fmt: skip


@every_case
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(cls: type[Restorer], options: dict[str, Any], channels: int) -> None:
    network = build(cls, options, channels).eval()
    assert network.channels == channels and network.inputs in (channels, channels + 1)
    for size in ((13, 18), (16, 16)):
        found = network(degraded(network, size))
        assert found.shape == (N, channels, size[0] * network.scale, size[1] * network.scale)
        assert found.dtype == torch.float32 and found.isfinite().all() and found.std() > 0.001


@every_case
def test_a_restored_image_depends_on_itself_alone(cls: type[Restorer], options: dict[str, Any]) -> None:
    network = build(cls, options).eval()
    image = degraded(network)
    with torch.no_grad():
        together = network(image)
        assert torch.equal(network(image), together)
        torch.testing.assert_close(network(image[1:2]), together[1:2], rtol=1e-4, atol=1e-5)


@every_case
def test_known_pixels_are_kept(cls: type[Restorer], options: dict[str, Any]) -> None:
    network = build(cls, options).eval()
    image = degraded(network)
    if network.inputs > network.channels:
        known = (image[:, -1:] < 0).expand(-1, 3, -1, -1)
        torch.testing.assert_close(network(image)[known], image[:, :3][known], rtol=0, atol=1e-6)


@every_case
def test_gradient_reaches_every_parameter(cls: type[Restorer], options: dict[str, Any]) -> None:
    network = build(cls, options)
    image = degraded(network)
    parts = network.distribution(image) if isinstance(network, ProbabilisticRestorer) else (network(image),)
    if any(True for _ in network.parameters()):
        torch.stack([part * torch.randn_like(part) for part in parts]).sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@every_case
def test_copies_state_and_layout(cls: type[Restorer], options: dict[str, Any]) -> None:
    network = build(cls, options).eval()
    image = degraded(network)
    with torch.no_grad():
        expected = network(image)
        for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert torch.equal(twin(image), expected)
        other = build(cls, options, seed=1).eval()
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(image), expected)
        last = network.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)


@every_case
def test_bf16_trains(cls: type[Restorer], options: dict[str, Any]) -> None:
    network = build(cls, options)
    if not any(True for _ in network.parameters()):
        return
    image = degraded(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = network.distribution(image) if isinstance(network, ProbabilisticRestorer) else (network(image),)
        torch.stack([part.float() for part in parts]).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_sizes_that_cannot_be_are_refused_in_one_line(cls: type[Restorer]) -> None:
    hints = get_type_hints(cls.__init__)
    needed = {name: make(3) for name, make in NEEDED.get(cls.__name__, {}).items()}
    for name in (n for n in inspect.signature(cls).parameters if hints[n] is int):
        for value in (0, -1, 2.5):
            with pytest.raises(RecipeError) as caught:
                cls(**{name: value}, **needed)
            message = str(caught.value)
            assert "\n" not in message and name in message and str(value) in message and "expected" in message

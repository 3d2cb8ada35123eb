"""What every generator, discriminator and classifier promises, checked on every one that the package has."""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from toys import every_module

from limbeck.errors import RecipeError
from limbeck.metrics.features import ClassifierFeatures
from limbeck.networks.roles import Classifier, Discriminator, Generator

ROLES = (Generator, Discriminator, Classifier)
SMALL = {"width": 6, "latent": 5, "channels": 3, "size": 32}
N, K = 4, 3
SIZES = (int, int | tuple[int, int])  # the types of an argument that is a size

# What a class needs beyond SMALL to be small, and what an option's value needs to be possible.
SMALLER: dict[str, dict[str, Any]] = {
    "WideResNet": {"depth": 10, "width": 1},
    "MobileNetV2": {"width": 0.1},
    "ShuffleNetV2": {"width": 0.5},
    "InceptionV3Classifier": {"width": 4, "size": 16},
}
NEEDED: dict[tuple[str, Any], dict[str, Any]] = {("InceptionV3Classifier", "imagenet"): {"size": 80}}

# Parameters of published networks that training does not reach: the biases of a batch normalisation that the next one
# takes away again (only a linear layer lies between), and a head of its own, which the forward does not use.
UNREACHED = {
    "MobileNetV2": r"features\.\d+\.conv\.[23]\.bias",
    "ShuffleNetV2": r"stage\d\.\d\.branch(1\.1|2\.4)\.bias",
    "InceptionV3Classifier": r"AuxLogits\..*",
}


@dataclass
class Case:
    """One network class with one set of options."""

    network: type[Any]
    options: dict[str, Any]

    def build(self) -> Any:
        torch.manual_seed(0)
        built = self.network(**self.options)
        with torch.no_grad():  # away from symmetric points: zero biases and gains, equal classes
            for parameter in built.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return built

    def inputs(self, seed: int = 1) -> tuple[Tensor, ...]:
        """Inputs for the role, double of the network's labels where it takes them."""
        draw = torch.Generator().manual_seed(seed)
        latent = issubclass(self.network, Generator)
        shape = (SMALL["latent"],) if latent else self.image_shape()
        value = torch.randn(N, *shape, generator=draw)
        value = value if latent else value.tanh()
        conditional = self.options["classes"] > 0 and not issubclass(self.network, Classifier)
        return (value, torch.tensor([0, 1, 2, 0])) if conditional else (value,)

    def image_shape(self) -> tuple[int, int, int]:
        return (SMALL["channels"], self.options["size"], self.options["size"])

    def output_shape(self) -> tuple[int, ...]:
        if issubclass(self.network, Generator):
            return (N, *self.image_shape())
        if self.network.__name__ == "PatchDiscriminator":
            side = self.options["size"] // 4 - 2  # two halvings, then two 4x4 convolutions that lose a pixel each
            return (N, side, side)
        return (N,) if issubclass(self.network, Discriminator) else (N, K)

    def __str__(self) -> str:
        changed = ",".join(f"{k}={v}" for k, v in self.options.items() if k not in SMALL)
        return f"{self.network.__name__}({changed})"


def _concrete(role: type[Any]) -> Iterator[type[Any]]:
    for name in every_module("networks", "baselines"):
        importlib.import_module(name)
    below = list(role.__subclasses__())
    while below:
        found = below.pop()
        below += found.__subclasses__()
        if found.__module__.startswith("limbeck.") and not inspect.isabstract(found):
            yield found


def _options(network: type[Any]) -> Iterator[dict[str, Any]]:
    """The smallest network, then with classes, then each option at each of its values, with and without classes."""
    hints = get_type_hints(network.__init__)
    base: dict[str, Any] = {name: value for name, value in SMALL.items() if hints.get(name) in SIZES}
    base |= SMALLER.get(network.__name__, {})
    counts = (K,) if issubclass(network, Classifier) else (0, K)
    for classes in counts:
        yield base | {"classes": classes}
        for name, parameter in inspect.signature(network).parameters.items():
            choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
            for value in (False, True) if hints[name] is bool else choices:
                if value != parameter.default:
                    needed = NEEDED.get((network.__name__, value), {})
                    yield base | {"classes": classes, name: value} | needed


def _reached(network: nn.Module) -> dict[str, nn.Parameter]:
    unreached = re.compile(UNREACHED.get(type(network).__name__, "(?!)"))
    return {name: p for name, p in network.named_parameters() if not unreached.fullmatch(name)}


CLASSES = sorted({c for role in ROLES for c in _concrete(role)}, key=lambda c: c.__name__)
CASES = [Case(network, options) for network in CLASSES for options in _options(network)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_class = pytest.mark.parametrize("network", CLASSES, ids=lambda c: c.__name__)


def test_the_known_networks_are_found() -> None:
    assert {c.__name__ for c in CLASSES} >= {
        "DcganGenerator", "DcganDiscriminator", "ResnetGenerator", "ResnetDiscriminator", "SmallCnn", "ResNet",
        "CifarResNet", "WideResNet", "MobileNetV2", "ShuffleNetV2", "InceptionV3Classifier",
    }  # fmt: skip
    assert any(case.options.get("spectral_norm") is True for case in CASES)
    assert any(case.options.get("normalization") == "batch" for case in CASES)


@every_case
def test_shapes_and_ranges(case: Case) -> None:
    network = case.build()
    output = network(*case.inputs())
    assert output.shape == case.output_shape()
    assert output.dtype == torch.float32 and output.isfinite().all()
    assert network.classes == case.options["classes"]
    assert network.image_shape == case.image_shape()
    if isinstance(network, Generator):
        assert network.latent_shape == (SMALL["latent"],)
        assert output.abs().max() <= 1
        assert output.std() > 0.01
    if isinstance(network, Classifier):
        features = network.features(*case.inputs())
        assert features.shape[0] == N and features.ndim == 2
        last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
        torch.testing.assert_close(last(features), output)  # the features are what the last layer sees


@every_case
def test_evaluation_is_deterministic_and_samples_are_independent(case: Case) -> None:
    network = case.build()
    network(*case.inputs(seed=2))  # moves running statistics away from their start
    network.eval()
    inputs = case.inputs()
    state = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        output = network(*inputs)
        assert torch.equal(output, network(*inputs))
        alone = torch.cat([network(*(t[i : i + 1] for t in inputs)) for i in range(N)])
    torch.testing.assert_close(alone, output, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@every_case
def test_gradient_reaches_the_input_and_every_parameter(case: Case) -> None:
    network = case.build()
    value, *label = case.inputs()
    value.requires_grad_()
    output = network(value, *label)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    (output * weight).sum().backward()
    assert value.grad is not None and (value.grad.flatten(1).abs().sum(1) > 0).all()
    used = _reached(network)
    scale = max(float(p.grad.abs().max()) for p in used.values() if p.grad is not None)
    for name, parameter in used.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # More than rounding: a bias before a batch normalisation would get some 1e-8 of the rest.
        assert parameter.grad.abs().max() > 1e-6 * scale, name


@every_case
def test_state_dict_makes_another_copy_the_same(case: Case) -> None:
    network = case.build()
    network(*case.inputs(seed=2))
    torch.manual_seed(99)
    other = case.network(**case.options)
    assert not torch.equal(other.eval()(*case.inputs()), network.eval()(*case.inputs()))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(*case.inputs()), network(*case.inputs()))


@every_case
def test_copies_are_equal_and_independent(case: Case) -> None:
    network = case.build().eval()
    expected = network(*case.inputs())
    twin = copy.deepcopy(network)
    assert torch.equal(twin(*case.inputs()), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert torch.equal(network(*case.inputs()), expected)


@every_case
def test_pickle(case: Case) -> None:
    network = case.build().eval()
    if any(parametrize.is_parametrized(module) for module in network.modules()):
        # torch refuses to pickle parametrised modules; their state travels instead.
        buffer = io.BytesIO(pickle.dumps(network.state_dict()))
        twin = case.network(**case.options).eval()
        twin.load_state_dict(pickle.load(buffer))
    else:
        twin = pickle.loads(pickle.dumps(network))
    assert torch.equal(twin(*case.inputs()), network(*case.inputs()))


@every_case
def test_labels_are_used_where_there_are_classes(case: Case) -> None:
    if issubclass(case.network, Classifier):
        return
    network = case.build().eval()
    value, *_ = case.inputs()
    zero, one = torch.zeros(N, dtype=torch.long), torch.ones(N, dtype=torch.long)
    changed = (network(value, zero) - network(value, one)).abs().reshape(N, -1).amax(1)
    if case.options["classes"]:
        assert (changed > 1e-4).all()
        with pytest.raises(RecipeError, match="called without labels"):
            network(value)
    else:
        assert (changed == 0).all()
        assert torch.equal(network(value), network(value, one))


@every_case
def test_discriminators_can_be_differentiated_twice(case: Case) -> None:
    if not issubclass(case.network, Discriminator):
        return
    network = case.build()
    image, *label = case.inputs()
    image.requires_grad_()
    (slope,) = torch.autograd.grad(network(image, *label).sum(), image, create_graph=True)
    penalty = slope.square().sum()  # R1, Mescheder et al. 2018
    penalty.backward()
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert penalty > 0 and all(g.isfinite().all() for g in grads)
    assert sum(float(g.abs().sum()) for g in grads) > 0


@every_case
def test_channels_last_gives_the_same_numbers(case: Case) -> None:
    network = case.build().eval()
    value, *label = case.inputs()
    expected = network(value, *label)
    network = network.to(memory_format=torch.channels_last)
    if value.ndim == 4:
        value = value.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(value, *label), expected, atol=1e-4, rtol=1e-4)


@every_case
def test_bf16_autocast_trains(case: Case) -> None:
    network = case.build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(*case.inputs())
        output.float().square().mean().backward()
    assert output.shape == case.output_shape() and output.isfinite().all()
    used = _reached(network).values()
    assert used and all(p.grad is not None and p.grad.isfinite().all() for p in used)


def _sizes(network: type[Any]) -> list[str]:
    hints = get_type_hints(network.__init__)
    return [name for name in inspect.signature(network).parameters if hints[name] in SIZES]


@every_class
def test_sizes_that_cannot_be_are_refused_in_one_line(network: type[Any]) -> None:
    names = _sizes(network)
    assert {"channels", "size", "classes"} <= set(names)
    for name in names:
        for value in (0, -1, 2.5):
            if (name, value) == ("classes", 0) and not issubclass(network, Classifier):
                continue
            with pytest.raises(RecipeError) as caught:
                network(**{name: value})
            message = str(caught.value)
            assert "\n" not in message and name in message and str(value) in message and "expected" in message


@every_class
@pytest.mark.parametrize("size", [16, 64])
def test_other_sizes(network: type[Any], size: int) -> None:
    case = Case(network, next(_options(network)) | {"size": size})
    value, *label = case.inputs()
    built = case.network(**case.options).eval()
    if isinstance(built, Generator):
        assert built(value, *label).shape == (N, 3, size, size) == (N, *built.image_shape)
    else:
        assert built(torch.zeros(N, 3, size, size), *label).shape == case.output_shape()


@pytest.mark.parametrize("case", [c for c in CASES if issubclass(c.network, Classifier)], ids=str)
def test_classifier_features_take_one_pass_for_what_two_give(case: Case) -> None:
    network = case.build().eval()
    extractor = ClassifierFeatures(network, "own")
    image, passes = case.inputs()[0], []
    with torch.no_grad():
        expected = network.features(image), network(image)
        first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
        first.register_forward_hook(lambda *_: passes.append(1))
        found = extractor(image)
    assert len(passes) == 1
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])

"""What every autoencoder promises, checked on every one that the package has."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import every_module

from limbeck.errors import RecipeError
from limbeck.networks.handling.tap import Tap
from limbeck.networks.roles import Autoencoder, VariationalAutoencoder

N, SIZE = 3, 16
SMALL = {"width": 4, "latent": 6, "channels": 3, "size": SIZE}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ConvVae": [{}, {"decoder_width": 2}, {"normalization": "group"}],
    "ResidualVae": [{}, {"blocks": 2, "decoder_width": 2}],
    "SpatialVae": [{}, {"halvings": 1, "decoder_width": 2}, {"size": 24, "halvings": 3}],
    "VqVae": [{"codes": 8}, {"codes": 5, "halvings": 1, "blocks": 2}],
}


def found() -> Iterator[type[Any]]:
    for name in every_module("networks", "baselines"):
        importlib.import_module(name)
    below = list(Autoencoder.__subclasses__())
    while below:
        cls = below.pop()
        below += cls.__subclasses__()
        own = inspect.signature(cls).parameters.keys() & {"target", "module"}  # somebody else's network in ours
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_") and not own:
            yield cls


CLASSES = {cls.__name__: cls for cls in found()}
CASES = [pytest.param(name, options, id=f"{name} {options}") for name in OPTIONS for options in OPTIONS[name]]
every_case = pytest.mark.parametrize(("name", "options"), CASES)


def build(name: str, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    network = CLASSES[name](**{**SMALL, **options})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def image(network: Any, seed: int = 1) -> Tensor:
    return torch.randn(N, *network.image_shape, generator=torch.Generator().manual_seed(seed)).tanh()


def test_every_autoencoder_has_cases() -> None:
    assert CLASSES and set(CLASSES) == set(OPTIONS)


@every_case
class TestAutoencoder:
    def test_shapes_and_ranges(self, name: str, options: dict[str, Any]) -> None:
        network = build(name, options).eval()
        x = image(network)
        latent = network.encode(x)
        assert latent.shape == (N, *network.latent_shape)
        made = network.decode(latent)
        assert made.shape == x.shape and made.abs().max() <= 1 and made.std() > 0.01
        assert torch.equal(network(x), made)
        if isinstance(network, VariationalAutoencoder):
            mean, log_variance = network.posterior(x)
            assert mean.shape == log_variance.shape == latent.shape and torch.equal(mean, latent)
            assert network.log_scale.shape == ()

    def test_samples_are_independent_and_evaluation_leaves_no_trace(self, name: str, options: dict[str, Any]) -> None:
        network = build(name, options)
        network(image(network, 2))
        network.eval()
        before = copy.deepcopy(network.state_dict())
        x = image(network)
        alone = torch.cat([network(x[i : i + 1]) for i in range(N)])
        torch.testing.assert_close(alone, network(x), atol=1e-4, rtol=1e-4)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    def test_encoder_and_decoder_are_its_parts(self, name: str, options: dict[str, Any]) -> None:
        network = build(name, options)
        others = {key.split(".")[0] for key in network.state_dict()} - {"encoder", "decoder"}
        assert others <= {"log_scale", "codebook"}
        paths = [p for p, _ in network.named_modules() if p.endswith((".stages.0", ".blocks.0"))]
        assert {path.split(".")[0] for path in paths} == {"encoder", "decoder"}
        with Tap(network, paths) as tap:
            network(image(network))
        assert all(tap[path].ndim == 4 for path in paths)

    def test_gradients_reach_both_parts(self, name: str, options: dict[str, Any]) -> None:
        network = build(name, options)
        x = image(network)
        latent = network.posterior(x) if isinstance(network, VariationalAutoencoder) else [network.encoder(x)]
        sum((t * torch.randn_like(t)).sum() for t in latent).backward()
        made = network.decode(torch.randn(N, *network.latent_shape))
        (made * torch.randn_like(made)).sum().backward()
        for path, parameter in network.named_parameters():
            if path not in ("log_scale", "codebook"):
                assert parameter.grad is not None and parameter.grad.isfinite().all(), path
                assert parameter.grad.abs().max() > 0, path

    def test_sizes_that_cannot_be_are_refused(self, name: str, options: dict[str, Any]) -> None:
        cls = CLASSES[name]
        sizes = [p for p, v in inspect.signature(cls).parameters.items() if isinstance(v.default, int)]
        assert {"width", "latent", "channels", "size"} <= set(sizes)
        for argument in sizes:
            for value in (0, -1, 2.5):
                with pytest.raises(RecipeError, match=rf"{argument}: expected .*found {value}"):
                    cls(**{**SMALL, **options, argument: value})

    def test_bf16_trains_and_channels_last_gives_the_same(self, name: str, options: dict[str, Any]) -> None:
        network = build(name, options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = network(image(network))
        made.float().square().mean().backward()
        assert made.isfinite().all()
        network.eval()
        expected = network(image(network))
        network = network.to(memory_format=torch.channels_last)
        torch.testing.assert_close(network(image(network)), expected, atol=1e-4, rtol=1e-4)


def test_the_codes_are_the_nearest_and_carry_the_gradient_of_the_codebook() -> None:
    network = build("VqVae", {"codes": 8})
    vectors = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    codes, number = network.quantize(vectors)
    for place in ((0, 0, 0), (1, 2, 3)):
        n, i, j = place
        distance = (network.codebook - vectors[n, :, i, j]).norm(dim=1)
        assert number[place] == distance.argmin()
        assert torch.equal(codes[n, :, i, j], network.codebook[number[place]])
    codes.sum().backward()
    assert vectors.grad is None
    counts = torch.bincount(number.flatten(), minlength=8).float()
    torch.testing.assert_close(network.codebook.grad, counts[:, None].expand(-1, 6))


def test_a_spatial_vae_takes_images_of_any_size() -> None:
    network = build("SpatialVae", {}).eval()
    assert network(torch.zeros(1, 3, 32, 48)).shape == (1, 3, 32, 48)


def test_dropout_is_for_training_alone() -> None:
    network = build("ConvVae", {"dropout": 0.5})
    shown = image(network)
    torch.manual_seed(0)
    assert not torch.equal(network.train().encode(shown), network.encode(shown))
    latent = torch.ones(N, *network.latent_shape)
    assert not torch.equal(network.decode(latent), network.decode(latent))
    whole = build("ConvVae", {})
    whole.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(shown), whole.eval()(shown))
    with pytest.raises(RecipeError, match="dropout"):
        build("ConvVae", {"dropout": 1.0})

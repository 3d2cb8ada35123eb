"""DCGAN: counts by hand, shapes of the taps, initialisation, and the formula of spectral normalisation."""

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.networks.handling.tap import Tap


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("width", "count"), [(48, 566_689), (6, 30_517)])
def test_parameters_by_hand(width: int, count: int) -> None:
    w, latent = width, 64
    by_hand = 16 * (latent * 4 * w + 4 * w * 2 * w + 2 * w * w + w) + 1 + 2 * (4 * w + 2 * w + w)
    assert by_hand == count == _parameters(DcganGenerator(width=width, latent=latent))


def test_channels_by_block() -> None:
    net = DcganGenerator(widths=[8, 33, 33])
    assert _parameters(net) == 16 * (64 * 8 + 8 * 33 + 33 * 33 + 33) + 1 + 2 * (8 + 33 + 33) == 30_517
    assert net(torch.randn(2, 64)).shape == (2, 1, 32, 32)
    same = DcganGenerator(width=6, widths=[24, 12, 6])
    assert {n: p.shape for n, p in same.named_parameters()} == {
        n: p.shape for n, p in DcganGenerator(width=6).named_parameters()
    }


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([8, 8], "DcganGenerator.widths: expected 3 numbers"),
        ([8, 0, 8], r"DcganGenerator.widths\[1\]: expected a whole"),
    ],
)
def test_channels_that_do_not_fit(widths: list[int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        DcganGenerator(widths=widths)


def test_it_is_the_plain_sequence_of_layers() -> None:
    torch.manual_seed(0)
    net = DcganGenerator(width=4, latent=8, channels=3)
    layers: list[nn.Module] = []
    for block in net.blocks:
        norm = nn.BatchNorm2d(block.norm.num_features)  # type: ignore[union-attr,arg-type]
        norm.load_state_dict(block.norm.state_dict())  # type: ignore[union-attr]
        layers += [block.conv, norm, nn.ReLU()]  # type: ignore[list-item]
    plain = nn.Sequential(nn.Unflatten(1, (8, 1, 1)), *layers, net.output, nn.Tanh())
    latent = torch.randn(5, 8)
    assert torch.equal(net(latent), plain(latent))


@pytest.mark.parametrize(("size", "widths"), [(16, [8, 4]), (32, [16, 8, 4]), (64, [32, 16, 8, 4])])
def test_taps_of_the_generator(size: int, widths: list[int]) -> None:
    net = DcganGenerator(width=4, latent=8, size=size)
    paths = [f"blocks.{i}" for i in range(len(widths))]
    with Tap(net, paths) as tap:
        net(torch.randn(2, 8))
    assert [tuple(tap[p].shape[1:]) for p in paths] == [(w, 4 << i, 4 << i) for i, w in enumerate(widths)]


@pytest.mark.parametrize(("size", "widths"), [(16, [4, 8]), (32, [4, 8, 16]), (64, [4, 8, 16, 32])])
def test_taps_of_the_discriminator(size: int, widths: list[int]) -> None:
    net = DcganDiscriminator(width=4, size=size)
    paths = [f"blocks.{i}" for i in range(len(widths))]
    with Tap(net, paths) as tap:
        net(torch.randn(2, 1, size, size))
    assert [tuple(tap[p].shape[1:]) for p in paths] == [(w, size >> i + 1, size >> i + 1) for i, w in enumerate(widths)]


def test_weights_start_as_in_the_paper() -> None:
    torch.manual_seed(0)
    for net in (DcganGenerator(), DcganDiscriminator(classes=10)):
        weights = [
            p.detach().flatten() for name, p in net.named_parameters() if "norm" not in name and name.endswith("weight")
        ]
        drawn = torch.cat(weights)
        assert abs(float(drawn.std()) - 0.02) < 2e-4
        assert abs(float(drawn.mean())) < 2e-4
        assert all(bool((p == 0).all()) for name, p in net.named_parameters() if name.endswith("bias"))


def test_spectral_norm_reaches_one_everywhere() -> None:
    torch.manual_seed(0)
    net = DcganDiscriminator(width=4, classes=5, spectral_norm=True)
    image, label = torch.randn(2, 1, 32, 32), torch.tensor([1, 4])
    for _ in range(50):  # each training forward is one step of the power iteration
        net(image, label)
    checked = 0
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Embedding):
            largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
            assert abs(float(largest) - 1) < 1e-2
            checked += 1
    assert checked == 5  # three blocks, the score, the projection's embedding
    assert any(name.endswith("_u") for name in net.state_dict())


def test_score_is_the_convolution_plus_the_projection() -> None:
    torch.manual_seed(0)
    net = DcganDiscriminator(width=4, classes=5)
    image, label = torch.randn(3, 1, 32, 32), torch.tensor([1, 4, 0])
    with Tap(net, ["blocks.2"]) as tap:
        score = net(image, label)
    hidden = tap["blocks.2"]
    assert net.projection is not None
    expected = (net.score.weight * hidden).sum((1, 2, 3)) + net.score.bias
    expected = expected + torch.einsum("nd,ndhw->n", net.projection.embedding.weight[label], hidden)
    torch.testing.assert_close(score, expected)


def test_normalization() -> None:
    def norms(net: nn.Module) -> int:
        return sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())

    assert norms(DcganDiscriminator()) == 0
    assert norms(DcganDiscriminator(normalization="batch")) == 2  # not after the first


@pytest.mark.parametrize("size", [4, 12, 31, 33, 48])
def test_sizes_of_a_generator_are_powers_of_two(size: int) -> None:
    with pytest.raises(RecipeError, match=rf"DcganGenerator.size: expected a power of two.*found {size}"):
        DcganGenerator(size=size)


@pytest.mark.parametrize(
    ("size", "last"),
    [
        (8, (4, 4)),
        (9, (4, 4)),
        (15, (7, 7)),
        (16, (4, 4)),
        (28, (7, 7)),
        (31, (7, 7)),
        ((24, 40), (6, 10)),
        (48, (6, 6)),
    ],
)
def test_a_discriminator_of_images_of_any_size(size: int | tuple[int, int], last: tuple[int, int]) -> None:
    """It halves until a side has 4 to 7 pixels, and its score sees all of them."""
    net = DcganDiscriminator(width=2, channels=3, size=size, classes=2)
    image = torch.randn(4, *net.image_shape, requires_grad=True)
    with Tap(net, [f"blocks.{len(net.blocks) - 1}"]) as tap:
        score = net(image, torch.tensor([0, 1, 0, 1]))
    assert tap[f"blocks.{len(net.blocks) - 1}"].shape[2:] == last
    assert score.shape == (4,)
    score.sum().backward()
    assert image.grad is not None and (image.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize("size", [7, (8, 7), 0])
def test_a_discriminator_needs_eight_pixels(size: int | tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match=r"DcganDiscriminator.size: expected a whole number of at least 8"):
        DcganDiscriminator(size=size)


def test_a_size_is_one_number_or_two() -> None:
    with pytest.raises(RecipeError, match=r"DcganDiscriminator.size: expected one number or \(height, width\)"):
        DcganDiscriminator(size=(8, 8, 8))  # type: ignore[arg-type]

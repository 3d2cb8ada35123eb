"""SN-GAN's residual networks: counts by hand against the published tables, and the formula of self-attention."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.errors import RecipeError
from limbeck.networks.gan.resnet_gan import ResnetDiscriminator, ResnetGenerator, SelfAttention
from limbeck.networks.handling.tap import Tap


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_generator_has_the_papers_parameters_less_the_idle_biases() -> None:
    w, latent = 256, 128
    block = 2 * (9 * w * w) + w * w + 2 * (2 * w)  # two convolutions, shortcut, two norms
    by_hand = (latent + 1) * 16 * w + 3 * block + 2 * w + (9 * w + 1) * 3
    assert by_hand + 3 * 3 * w == 4_276_739  # with a bias in each of the nine convolutions of the blocks
    assert _parameters(ResnetGenerator()) == by_hand == 4_274_435


def test_discriminator_has_the_papers_parameters() -> None:
    w = 128
    conv, shortcut = 9 * w * w + w, w * w + w
    by_hand = (9 * 3 * w + w) + conv + (3 * w + w) + (2 * conv + shortcut) + 2 * (2 * conv) + (w + 1)
    assert _parameters(ResnetDiscriminator(spectral_norm=False)) == by_hand == 1_053_825
    assert _parameters(ResnetDiscriminator()) == by_hand  # spectral normalisation has buffers, no parameters


def test_a_bias_in_a_generator_block_would_change_nothing() -> None:
    """The reason for leaving it out, tried on the last convolution of a block and on its shortcut."""
    torch.manual_seed(0)
    net = ResnetGenerator(width=8, latent=4)
    latent = torch.randn(16, 4)
    plain = net(latent)
    handle = net.blocks[1].register_forward_hook(lambda m, i, out: out + torch.randn(8)[None, :, None, None])
    torch.testing.assert_close(net(latent), plain, atol=1e-4, rtol=1e-4)
    handle.remove()


@pytest.mark.parametrize("attention", [False, True])
def test_taps(attention: bool) -> None:
    generator = ResnetGenerator(width=8, latent=4, attention=attention)
    discriminator = ResnetDiscriminator(width=8, attention=attention)
    paths = [f"blocks.{i}" for i in range(3)]
    with Tap(generator, paths) as tap:
        image = generator(torch.randn(2, 4))
    assert [tuple(tap[p].shape[1:]) for p in paths] == [(8, 8, 8), (8, 16, 16), (8, 32, 32)]
    paths += ["blocks.3"]
    with Tap(discriminator, paths) as tap:
        discriminator(image)
    assert [tuple(tap[p].shape[1:]) for p in paths] == [(8, 16, 16), (8, 8, 8), (8, 8, 8), (8, 8, 8)]


def test_attention_starts_as_nothing_and_is_the_papers_sum() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16)
    x = torch.randn(2, 16, 6, 4)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gain.fill_(0.7)
    query = torch.einsum("oc,nchw->nohw", layer.query.weight[:, :, 0, 0], x).flatten(2)
    key = F.max_pool2d(torch.einsum("oc,nchw->nohw", layer.key.weight[:, :, 0, 0], x), 2).flatten(2)
    value = F.max_pool2d(torch.einsum("oc,nchw->nohw", layer.value.weight[:, :, 0, 0], x), 2).flatten(2)
    seen = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=1.0
    ).transpose(1, 2)
    expected = x + 0.7 * torch.einsum("co,nop->ncp", layer.out.weight[:, :, 0, 0], seen).view_as(x)
    torch.testing.assert_close(layer(x), expected)


def test_attention_stands_at_16() -> None:
    for net, size in ((ResnetGenerator(width=8, latent=4, attention=True), 32),
                      (ResnetDiscriminator(width=8, attention=True, size=64), 64)):  # fmt: skip
        with Tap(net, ["attention"]) as tap:
            net(torch.randn(2, 4) if size == 32 else torch.randn(2, 3, 64, 64))
        assert tap["attention"].shape == (2, 8, 16, 16)


@pytest.mark.parametrize("network", [ResnetGenerator, ResnetDiscriminator])
def test_sizes(network: type[ResnetGenerator] | type[ResnetDiscriminator]) -> None:
    with pytest.raises(RecipeError, match="power of two of at least 16, found 8"):
        network(size=8)
    with pytest.raises(RecipeError, match="power of two of at least 32, found 16"):
        network(size=16, attention=True)
    with pytest.raises(RecipeError, match="attention: expected a width of at least 2, found 1"):
        network(width=1, attention=True)

"""Generators of image translation: their published sizes, what joins what, and a discriminator that sees the input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.errors import RecipeError
from limbeck.methods.restore import Restore
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.networks.translators.translation_resnet import TranslationResnet
from limbeck.networks.translators.translation_unet import TranslationUnet
from limbeck.terms.perceptual import CriticFeatures
from limbeck.types import Batch


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, side: int) -> float:
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta")(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 2


def test_sizes_are_those_of_the_papers() -> None:
    assert count(TranslationUnet()) == 54_414_531  # Isola et al. 2017: 54.41 M
    resnet, normalized = TranslationResnet(), 64 + 128 + 256 + 128 + 64 + 18 * 256
    assert count(resnet) - normalized == 11_378_179  # 11.38 M where biases stand for gains and offsets
    # Li et al. 2020 state 56.8 G at 256 pixels, where a transposed convolution counts as if its input were enlarged.
    enlarged = 3 * (64 * 64 * 9 * 256 * 128 + 128 * 128 * 9 * 128 * 64)
    assert (macs(resnet, 256) + enlarged) / 1e9 == pytest.approx(56.8, abs=0.05)


def test_separable_blocks_save_most_of_the_cost() -> None:
    whole, cheap = (macs(TranslationResnet(16, 4, separable=s), 64) for s in (False, True))
    channels, places = 64, 16 * 16
    assert whole - cheap == 8 * places * channels * (9 * channels - 9 - channels)
    assert macs(TranslationUnet(16, 5, separable=True), 64) < macs(TranslationUnet(16, 5), 64) / 3


@pytest.mark.parametrize("network", [TranslationUnet(4, 3, 2), TranslationResnet(4, 2, 2)])
def test_any_size_by_padding_at_the_lower_right(network: nn.Module) -> None:
    network.eval()
    image = torch.rand(2, 2, 21, 13, generator=torch.Generator().manual_seed(0)) * 2 - 1
    padded = nn.functional.pad(image, (0, 3, 0, 3), mode="replicate")
    with torch.no_grad():
        assert torch.equal(network(image), network(padded)[..., :21, :13])
        assert network(image).shape == image.shape and network(image).abs().max() <= 1


def test_what_is_fine_passes_by_the_innermost_layers() -> None:
    """With all but the last layer of the way up silenced, the output still depends on the first of the way down."""
    torch.manual_seed(0)
    network = TranslationUnet(4, 3).eval()
    with torch.no_grad():
        for layer in network.up[:-1]:
            layer[1].weight.zero_()
        image = torch.rand(1, 3, 16, 16) * 2 - 1
        first = network(image)
        image[..., 3, 3] += 1
        changed = (network(image) - first).abs().amax((0, 1))
    assert changed[:7, :7].max() > 0 and changed[8:, 8:].max() == 0


def test_dropout_is_noise_in_training_alone() -> None:
    network = TranslationUnet(4, 5, normalization="instance", dropout=0.5)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    assert not torch.equal(network(image), network(image))
    assert [layer[3].p for layer in network.up[:-1]] == [0.5, 0.5, 0.5, 0.0]
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"normalization": "layer"}, "TranslationUnet.normalization: expected one of 'batch', 'instance'"),
        ({"dropout": 1.0}, r"TranslationUnet.dropout: expected at least 0 and below 1, found 1\.0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        TranslationUnet(4, 2, **options)


def test_a_conditional_discriminator_states_the_image_that_it_judges() -> None:
    torch.manual_seed(0)
    critic = PatchDiscriminator(4, 3, 16, halvings=1, condition=2)
    assert critic.image_shape == (3, 16, 16)
    assert critic(torch.zeros(2, 5, 16, 16)).shape == (2, 6, 6)
    with pytest.raises(RecipeError, match=r"PatchDiscriminator\.condition: expected a whole number of at least 1"):
        PatchDiscriminator(condition=0)


def test_pix2pix_learns_pairs_and_a_student_follows_it() -> None:
    """Negatives of blobs; the student hears of them through its teacher and the teacher's critic alone."""
    torch.manual_seed(0)
    coarse = torch.rand(8, 3, 4, 4) * 1.6 - 0.8
    batch = Batch(image=nn.functional.interpolate(coarse, 16), target=nn.functional.interpolate(-coarse, 16))
    teacher, critic = TranslationUnet(8, 3, normalization="instance"), PatchDiscriminator(4, 3, 16, condition=3)
    before = error(teacher, batch)
    learn(Restore(teacher, critic, conditional=True), batch, {"reconstruction": 100.0, "adversarial": 1.0})
    assert error(teacher, batch) < before / 3
    student = TranslationUnet(4, 3, normalization="instance", separable=True)
    terms = {"student.critic_feature": CriticFeatures(["blocks.0", "blocks.1"])}
    method = Restore(student, None, teacher, critic, conditional=True, terms=terms)
    before = error(student, batch)
    learn(method, Batch(image=batch.image), {"output": 50.0, "critic_feature": 10.0})
    assert error(student, batch) < before / 1.5


def error(network: nn.Module, batch: Batch) -> float:
    assert batch.image is not None and batch.target is not None
    with torch.no_grad():
        found: Tensor = network(batch.image)
    return float((found - batch.target).abs().mean())


def learn(method: Restore, batch: Batch, weights: dict[str, float]) -> None:
    optimizers = {n: torch.optim.Adam(p.parameters(), 2e-3, betas=(0.5, 0.999)) for n, p in method.players().items()}
    for step in range(60):
        for update in method.updates(batch, step):
            named = {n: v() if callable(v) else v for n, v in update.losses.items() if n in weights or n == "real_fake"}
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            torch.stack([weights.get(n, 1.0) * v for n, v in named.items()]).sum().backward()
            optimizers[update.player].step()

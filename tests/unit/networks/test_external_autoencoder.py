"""networks/external_autoencoder.py: somebody's own module, and diffusers' AutoencoderKL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.hint import Hint
from limbeck.methods.vae import Vae
from limbeck.networks.autoencoders.vae import SpatialVae
from limbeck.networks.given.external_autoencoder import ImportAutoencoder, WrappedAutoencoder
from limbeck.networks.given.weights import save_weights
from limbeck.networks.roles import unwrap
from limbeck.types import Batch

KL = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 4,
    "norm_num_groups": 4,
}


class Own(nn.Module):
    """Works on [0, 1], and returns mean and log variance in one tensor."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(1, 2 * width, 2, stride=2), nn.ConvTranspose2d(width, 1, 2, stride=2)

    def encode(self, image: Tensor) -> Tensor:
        assert image.min() >= 0 and image.max() <= 1
        return self.encoder(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(latent).sigmoid()


class Pair(Own):
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self.encoder(image).chunk(2, 1)


class Silent(Own):
    def encode(self, image: Tensor) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize("name", ["Own", "Pair"])
def test_ones_own_module(name: str) -> None:
    torch.manual_seed(0)
    network = ImportAutoencoder(
        f"{__name__}.{name}", {"width": 3}, image_range=(0, 1), image_shape=[1, 8, 8], scale=0.5
    )
    assert network.latent_shape == (3, 4, 4) and network.training
    image = torch.rand(2, 1, 8, 8) * 2 - 1
    mean, log_variance = network.posterior(image)
    own = unwrap(network)
    expected = own.encoder((image + 1) / 2).chunk(2, 1)  # type: ignore[operator]
    torch.testing.assert_close(mean, expected[0] / 2)
    torch.testing.assert_close(log_variance.exp(), expected[1].exp() / 4)
    torch.testing.assert_close(network.decode(mean), own.decode(expected[0]) * 2 - 1)  # type: ignore[operator]
    assert network(image).abs().max() <= 1


def test_diffusers_autoencoder_teaches_one_of_ours(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    original = diffusers.AutoencoderKL(**KL).eval()
    save_weights(original, tmp_path / "kl.safetensors")
    teacher = ImportAutoencoder(
        "diffusers.AutoencoderKL", KL, str(tmp_path / "kl.safetensors"), image_shape=[3, 16, 16], scale=0.18215
    ).eval()
    image = torch.rand(4, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        published = original.encode(image).latent_dist
        torch.testing.assert_close(teacher.encode(image), published.mean * 0.18215)
        torch.testing.assert_close(teacher(image), original.decode(published.mean).sample)
    assert teacher.latent_shape == (4, 8, 8)
    student = SpatialVae(2, 4, size=16, halvings=1)
    features = {"encoder.stages.0": "encoder.down_blocks.0.resnets.0", "decoder.stages.0": "decoder.mid_block"}
    method = Vae(student, teacher=teacher, terms={"student.feature": Hint(features)})
    drawn = {name: torch.randn(4, *draw.shape) for name, draw in method.draws().items()}
    (update,) = method.updates(Batch(image=image, drawn=drawn), 0)
    losses = {name: loss() if callable(loss) else loss for name, loss in update.losses.items()}
    assert losses["posterior"] > 0 and losses["decoder"] > 0 and losses["feature"] > 0
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())


def test_what_cannot_be_used_is_refused() -> None:
    place = f"{__name__}.Own"
    for options, message in (
        ({"image_shape": [8, 8]}, "image_shape: expected"),
        (
            {"image_shape": [3, 8, 8], "image_range": (0, 1)},
            r"image_shape: expected .* Own can encode, found \[3, 8, 8\]",
        ),
        ({"image_shape": [1, 8, 8], "scale": 0.0}, "scale: expected a number above 0"),
        ({"image_shape": [1, 8, 8], "image_range": (1, 1)}, "image_range: expected"),
    ):
        with pytest.raises(RecipeError, match=message):
            ImportAutoencoder(place, **options)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"Silent\.encode: expected mean and log variance, found NoneType"):
        ImportAutoencoder(f"{__name__}.Silent", image_range=(0, 1), image_shape=[1, 8, 8])
    with pytest.raises(RecipeError, match="Linear: expected an autoencoder with encode and decode"):
        ImportAutoencoder("torch.nn.Linear", {"in_features": 1, "out_features": 1}, image_shape=[1, 8, 8])
    student = ImportAutoencoder(place, image_range=(0, 1), image_shape=[1, 8, 8])
    message = r"student\.reconstruction: .* expected bernoulli or l1 for ImportAutoencoder, .* without log_scale"
    with pytest.raises(RecipeError, match=message):
        Vae(student)


def test_a_module_that_is_there_is_called_as_an_imported_one_and_can_be_trained_by_a_gaussian() -> None:
    torch.manual_seed(0)
    own = Pair(3)
    network = WrappedAutoencoder(own, image_range=(0, 1), image_shape=[1, 8, 8], scale=0.5)
    image = torch.rand(2, 1, 8, 8) * 2 - 1
    expected = own.encoder((image + 1) / 2).chunk(2, 1)[0]
    torch.testing.assert_close(network.encode(image), expected / 2)
    torch.testing.assert_close(network(image), own.decode(expected) * 2 - 1)
    method = Vae(network)
    assert "student.reconstruction" in method.terms
    drawn = {name: torch.randn(2, *draw.shape) for name, draw in method.draws().items()}
    (update,) = method.updates(Batch(image=image, drawn=drawn), 0)
    losses = {name: loss() if callable(loss) else loss for name, loss in update.losses.items()}
    losses["reconstruction"].backward()
    assert network.log_scale.grad is not None and network.log_scale.grad != 0
    assert unwrap(network) is own

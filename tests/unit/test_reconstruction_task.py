"""tasks/reconstruction.py: metrics by hand and against exact likelihoods; pictures that show what they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from limbeck.data.tensors import TensorImages
from limbeck.errors import RecipeError
from limbeck.metrics.image import psnr
from limbeck.networks.autoencoders.vae import ConvVae
from limbeck.networks.roles import VariationalAutoencoder
from limbeck.tasks.disagreement import Disagreement
from limbeck.tasks.reconstruction import Reconstruction

SIDE = 4


class Linear(VariationalAutoencoder):
    """x = b + W z + σ ε with orthogonal columns of W: its true posterior is a diagonal Gaussian, known in closed form.

    The scale is so wide that a discretised pixel has a density's probability to a part in a thousand.
    """

    def __init__(self, size: float = 0.3, offset: float = 0.0) -> None:
        super().__init__()
        self.latent_shape, self.image_shape = (2,), (1, SIDE, SIDE)
        columns = torch.linalg.qr(torch.randn(SIDE * SIDE, 2, generator=torch.Generator().manual_seed(0))).Q
        self.weight = nn.Parameter(columns * size)
        self.log_scale = nn.Parameter(torch.tensor(math.log(0.15)))
        self.size, self.offset = size, offset
        self.encoder, self.decoder = nn.Linear(1, 1), nn.Linear(1, 2)

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        variance = self.log_scale.exp() ** 2
        precision = 1 + self.size**2 / variance
        mean = image.flatten(1) @ self.weight / variance / precision
        return mean + self.offset, -precision.log().expand_as(mean)

    def decode(self, latent: Tensor) -> Tensor:
        return (latent @ self.weight.T).unflatten(1, self.image_shape)

    def exact_bits(self, image: Tensor) -> float:
        covariance = self.weight @ self.weight.T + self.log_scale.exp() ** 2 * torch.eye(SIDE * SIDE)
        density = MultivariateNormal(torch.zeros(SIDE * SIDE), covariance).log_prob(image.flatten(1))
        nats = density + SIDE * SIDE * math.log(2 / 255)  # probability of a pixel's value: density times its width
        return float(-nats.mean().detach()) / (SIDE * SIDE * math.log(2))


def data(count: int = 900) -> TensorImages:
    model = Linear()
    draw = torch.Generator().manual_seed(1)
    image = model.decode(torch.randn(count, 2, generator=draw)).detach()
    image = image + 0.15 * torch.randn(image.shape, generator=draw)
    level = ((image.clamp(-0.95, 0.95) + 1) * 127.5).round().to(torch.uint8)
    return TensorImages(level, validation=0.1, test=0.8)


DATA = data()


def evaluate(network: nn.Module, **options: object) -> dict[str, float]:
    task = Reconstruction(2000, sampled=False, bits=True, **options)  # type: ignore[arg-type]
    return task.evaluate(network.eval(), DATA, split="test", seed=0)


def reference() -> Tensor:
    image = DATA.split("test").read(torch.arange(len(DATA.split("test")))).image
    assert image is not None
    return image


def test_bits_of_a_linear_model_at_its_true_posterior_are_its_exact_likelihood() -> None:
    model = Linear()
    assert evaluate(model)["bits_per_dim"] == pytest.approx(model.exact_bits(reference()), abs=0.02)


def test_more_importance_samples_tighten_a_loose_bound_and_never_pass_the_likelihood() -> None:
    model = Linear(offset=0.8)
    exact = model.exact_bits(reference())
    one, many = evaluate(model)["bits_per_dim"], evaluate(model, importance=30)["bits_per_dim"]
    assert one > exact + 0.05
    assert exact - 0.02 < many < one - 0.6 * (one - exact)


def test_bits_need_a_scale() -> None:
    model = Linear()
    del model.log_scale
    model.posterior = lambda image: (image.flatten(1)[:, :2],) * 2  # type: ignore[method-assign]
    with pytest.raises(RecipeError, match=r"task\.bits: expected networks with a scale .* found 'Linear'; set bits"):
        evaluate(model)


def test_metrics_by_hand() -> None:
    model, image = Linear(), reference()
    found = evaluate(model)
    assert found["psnr"] == pytest.approx(float(psnr(model(image), image).detach().mean()), abs=1e-3)
    mean, log_variance = (t.detach() for t in model.posterior(image))
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
    assert found["kl"] == pytest.approx(float(kl), rel=1e-4)
    assert found["active_units"] == 2 and evaluate(Linear(size=0.004))["active_units"] == 0
    assert (found["encoder_parameters"], found["decoder_parameters"]) == (2, 4)


def test_swapping_parts_with_the_teacher() -> None:
    torch.manual_seed(0)
    one, other = ConvVae(2, 3, size=16).eval(), ConvVae(3, 3, size=16).eval()
    for parameter in [*one.parameters(), *other.parameters()]:
        nn.init.normal_(parameter, std=0.3)
    images = TensorImages(torch.randint(0, 255, (40, 1, 16, 16), generator=torch.Generator().manual_seed(0)).byte())
    task = Reconstruction(20, sampled=False)
    itself = task.evaluate(one, images, split="test", seed=0, teacher=one)
    assert itself["encoder_swap_psnr_to_teacher"] == pytest.approx(itself["psnr"])
    assert itself["decoder_swap_psnr_to_teacher"] == pytest.approx(itself["psnr"])
    assert itself["psnr_to_teacher"] == 100  # dB: infinity would be no mean
    apart = task.evaluate(one, images, split="test", seed=0, teacher=other)
    with torch.no_grad():
        everything = images.split("test").read(torch.arange(len(images.split("test")))).image
        assert everything is not None
        swapped = float(psnr(other.decode(one.encode(everything)), everything).mean())
    assert apart["encoder_swap_psnr_to_teacher"] == pytest.approx(swapped, abs=0.3)
    smaller = task.evaluate(one, images, split="test", seed=0, teacher=ConvVae(3, 4, size=16).eval())
    assert "encoder_swap_psnr_to_teacher" not in smaller and "psnr_to_teacher" in smaller


def test_decoders_are_driven_apart_at_latents_of_the_prior() -> None:
    """Of x = W z and x = 0 the gap is the mean of |W z|, at every latent and at those that an attack has turned."""
    student, teacher = Linear(), Linear(size=0.0)
    task = Reconstruction(300, sampled=False, latent_disagreement=Disagreement(0.5, steps=10, samples=200))
    found = task.evaluate(student, DATA, split="test", seed=0, teacher=teacher)
    clean, worst = found["decoder_gap_to_teacher"], found["worst_decoder_gap_to_teacher"]
    rows = student.weight.detach().norm(dim=1)
    assert clean == pytest.approx(float(rows.mean()) * math.sqrt(2 / math.pi), rel=0.15)  # w·z is N(0, |w|²)
    assert clean < worst
    itself = task.evaluate(student, DATA, split="test", seed=0, teacher=student)
    assert itself["decoder_gap_to_teacher"] == itself["worst_decoder_gap_to_teacher"] == 0
    teacher.latent_shape = (3,)
    other = task.evaluate(student, DATA, split="test", seed=0, teacher=teacher)
    assert not any("decoder_gap" in name for name in other)


def test_a_collapsed_posterior_raises_an_alarm() -> None:
    task = Reconstruction(20)
    assert task.alarm(Linear(), DATA) is None
    alarm = task.alarm(Linear(size=0.001), DATA)
    assert alarm is not None and "collapsed" in alarm and "student.kl" in alarm


def test_interpolations_end_in_reconstructions_and_traversals_move_one_unit() -> None:
    task, model = Reconstruction(20), Linear()
    pictures = {p.title.split()[0]: p for p in task.preview(model, DATA, 0)}
    assert list(pictures) == ["images,", "samples", "interpolations", "the"]
    image = pictures["images,"].images
    rebuilt = model(image[:8]).detach().clamp(-1, 1)
    torch.testing.assert_close(image[8:16], rebuilt)
    rows = pictures["interpolations"].images.unflatten(0, (8, 8))
    torch.testing.assert_close(rows[0, 0], rebuilt[0])
    torch.testing.assert_close(rows[0, -1], rebuilt[1])
    torch.testing.assert_close(rows[0, 1:] - rows[0, :-1], (rows[0, 1] - rows[0, 0]).expand(7, -1, -1, -1))  # linear
    moved = pictures["the"].images.unflatten(0, (2, 8))
    steps = (moved[:, 1:] - moved[:, :-1]).flatten(2)
    directions = nn.functional.normalize(steps, dim=2)
    assert (directions[0] @ directions[1].T).abs().max() < 0.01  # columns of W are orthogonal


@pytest.mark.parametrize("count", [5, 9])
def test_reconstructions_stand_below_their_images_however_few_there_are(count: int) -> None:
    level = torch.randint(0, 256, (30, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(2)).byte()
    few, model = TensorImages(level, test=count / 30), Linear()
    pictures = {p.title.split()[0]: p for p in Reconstruction(20).preview(model, few, 0)}
    image, rebuilt = pictures["images,"].images.unflatten(0, (4, 2, 8)).transpose(0, 1).flatten(1, 2)
    assert len(few.split("test")) == len(image.unique(dim=0)) == count
    torch.testing.assert_close(rebuilt, model(image).detach().clamp(-1, 1))
    rows = pictures["interpolations"].images.unflatten(0, (8, 8))
    torch.testing.assert_close(rows[:, 0], rebuilt[0:16:2])
    torch.testing.assert_close(rows[:, -1], rebuilt[1:16:2])


def test_what_cannot_be_is_refused() -> None:
    for options, message in (({"samples": 1}, "task.samples: expected"), ({"importance": 0}, "task.importance")):
        with pytest.raises(RecipeError, match=message):
            Reconstruction(**options)

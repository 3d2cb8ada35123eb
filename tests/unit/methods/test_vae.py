"""methods/vae.py and methods/vq.py: losses against their formulas, the map between latents, and that students learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import toy_job, trained

from limbeck.data.base import InMemory
from limbeck.errors import RecipeError
from limbeck.losses import vae as terms
from limbeck.losses.features import l1
from limbeck.methods.vae import Vae
from limbeck.methods.vq import Vq
from limbeck.metrics.image import psnr
from limbeck.networks.autoencoders.vae import ResidualVae
from limbeck.networks.autoencoders.vq_vae import VqVae
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.types import Batch
from limbeck.weighting.scheduled import Scheduled

N = 8


def autoencoder(width: int, latent: int = 4, seed: int = 0) -> ResidualVae:
    torch.manual_seed(seed)
    network = ResidualVae(width, latent, size=8)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def batch(method: Any) -> Batch:
    drawn = {name: d.sample(N, torch.Generator().manual_seed(1)) for name, d in method.draws().items()}
    image = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(image=image, drawn=drawn)


def losses(method: Any, step: int = 0) -> dict[str, Tensor]:
    found = {}
    for update in method.updates(batch(method), step):
        for name, loss in update.losses.items():
            found[f"{update.player}.{name}"] = (loss() if callable(loss) else loss).detach()
    return found


def test_the_terms_of_the_bound_are_those_of_the_formulas() -> None:
    student = autoencoder(2)
    student.log_scale.data.fill_(-0.7)
    for likelihood, form in (
        ("gaussian", partial(terms.gaussian_nll, log_scale=student.log_scale)),
        ("discretized_gaussian", partial(terms.discretized_gaussian_nll, log_scale=student.log_scale)),
        ("bernoulli", terms.bernoulli_nll),
    ):
        method = Vae(student, likelihood=likelihood)  # type: ignore[arg-type]
        found, given = losses(method), batch(method)
        assert given.image is not None and set(found) == {"student.reconstruction", "student.kl"}
        mean, log_variance = student.posterior(given.image)
        made = student.decode(mean + (log_variance / 2).exp() * given.drawn["vae.noise"])
        torch.testing.assert_close(found["student.reconstruction"], form(given.image, made).mean().detach() / 64)
        kl = terms.kl_from_prior(mean, log_variance).sum(1).mean() / 64
        torch.testing.assert_close(found["student.kl"], kl.detach())


def test_the_soft_label_and_the_decoders_on_the_same_latents() -> None:
    student, teacher = autoencoder(2), autoencoder(3, seed=1)
    method = Vae(student, teacher=teacher, prior_share=0.25)
    found, given = losses(method), batch(method)
    assert given.image is not None
    taught, mine = teacher.eval().posterior(given.image), student.posterior(given.image)
    torch.testing.assert_close(found["student.posterior"], terms.kl_between(*taught, *mine).mean().detach() / 4)
    own = taught[0] + (taught[1] / 2).exp() * given.drawn["vae.teacher_noise"]
    of_prior = given.drawn["vae.share"] < 0.25
    assert 0 < of_prior.sum() < N
    latent = torch.where(of_prior[:, None], given.drawn["vae.prior"], own)
    torch.testing.assert_close(
        found["student.decoder"], l1(student.decode(latent), teacher.decode(latent)).mean().detach()
    )
    torch.testing.assert_close(found["student.decoder_swap"], l1(student.decode(own), given.image).mean().detach())
    same = losses(Vae(autoencoder(3, seed=1), teacher=autoencoder(3, seed=1)))
    assert same["student.posterior"].abs() < 1e-6 and same["student.decoder"] < 1e-6


def test_a_smaller_latent_waits_for_its_map_which_then_stays() -> None:
    method = Vae(autoencoder(2, 2), teacher=autoencoder(3, 5, seed=1), map_steps=2)
    assert method.map is not None
    assert "student.posterior" not in losses(method, 0) and "student.posterior" not in losses(method, 1)
    assert not method.map.ready
    found = losses(method, 2)
    assert method.map.ready and found["student.posterior"] > 0 and "student.encoder_swap" not in found
    basis = method.map.basis.clone()
    losses(method, 3)
    assert torch.equal(basis, method.map.basis)
    copy = Vae(autoencoder(2, 2), teacher=autoencoder(3, 5, seed=1))
    copy.load_state_dict(method.state_dict())
    assert copy.map is not None and copy.map.ready and torch.equal(copy.map.basis, basis)
    with pytest.raises(RecipeError, match="expected a student's latent like the teacher's"):
        Vae(autoencoder(2, 6), teacher=autoencoder(3, 5))


def test_perceptual_and_adversarial_terms() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "feature_network": SmallCnn(channels=1, size=8, classes=3),
        "perceptual_paths": ["blocks.0"],
        "discriminator": PatchDiscriminator(2, 1, 8, halvings=1),
    }
    method = Vae(autoencoder(2), teacher=autoencoder(3, seed=1), **options)
    assert list(method.players()) == ["discriminator", "student"]
    found = losses(method)
    assert found["student.perceptual"] > 0 and found["student.decoder_perceptual"] > 0
    assert found["discriminator.real_fake"] > 0 and found["student.adversarial"] > 0
    for update in method.updates(batch(method), 0):
        for name, loss in update.losses.items():
            if name == "real_fake":
                (loss() if callable(loss) else loss).backward()
    assert all(p.grad is None for p in method.student.parameters())  # judged, not taught


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "normal"}, r"vae\.likelihood: expected one of gaussian"),
        ({"free_bits": -1.0}, r"vae\.free_bits"),
        ({"prior_share": 1.5}, r"vae\.prior_share"),
        ({"map_steps": 0}, r"vae\.map_steps"),
        ({"perceptual_paths": ["blocks.0"]}, r"vae\.perceptual_paths"),
        ({"features": {"encoder.trunk.stages.9": "encoder.trunk.stages.0"}}, "no such module in ResidualVae"),
        ({"features": {"encoder.trunk.stages.0": "encoder.trunk.stages.1"}}, "features that differ in width only"),
        (
            {"features": {"encoder.trunk.stages.1": "decoder.trunk.stages.0"}},
            r"vae\.features: expected paths of the same part, .* found \{'encoder.trunk.stages.1': 'decoder",
        ),
        ({"features": {"decoder.trunk.stages.0": "encoder.trunk.stages.1"}}, r"vae\.features: expected paths of the"),
        ({"teacher": VqVae(2, 3, size=8)}, r"vae\.teacher: expected a variational autoencoder, .* found 'VqVae'"),
        ({"student": VqVae(2, 3, size=8)}, r"vae\.student: expected a variational autoencoder, .* found 'VqVae'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Vae(**{"student": autoencoder(2), "teacher": autoencoder(3, seed=1)} | options)


def test_gradients_pass_the_codes_by_to_the_encoder() -> None:
    torch.manual_seed(0)
    network = VqVae(2, 3, size=8, halvings=1, codes=5)
    method = Vq(network)
    (update,) = method.updates(batch(method), 0)
    found = {name: loss() if callable(loss) else loss for name, loss in update.losses.items()}
    assert set(found) == {"reconstruction", "codebook", "commitment"}
    torch.testing.assert_close(found["codebook"], found["commitment"])  # the same distance, with other gradients
    (to_codes,) = torch.autograd.grad(found["codebook"], network.codebook, retain_graph=True)
    assert to_codes.abs().sum() > 0
    encoder = list(network.encoder.parameters())
    assert all(g is None for g in torch.autograd.grad(found["codebook"], encoder, retain_graph=True, allow_unused=True))
    slopes = torch.autograd.grad(found["reconstruction"], encoder)
    assert all(slope.abs().sum() > 0 for slope in slopes)


def test_pixels_that_are_wrong_for_sure_still_teach_under_bf16() -> None:
    """-log p of a black pixel is log(1 + e^2a) of what the decoder says before its tanh; in bf16 tanh(5) is 1."""
    network = autoencoder(2)
    network.decoder = nn.Sequential(last := nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, 5.0)
    with torch.autocast("cpu", torch.bfloat16):
        nll = terms.bernoulli_nll(-torch.ones(1, 1, 8, 8), network.decode(torch.zeros(1, 4)))
    nll.sum().backward()
    expected = 2 * torch.tensor(10.0).sigmoid().expand(64)
    torch.testing.assert_close(last.bias.grad, expected, rtol=0.01, atol=0)


def blobs(count: int = 512) -> InMemory:
    """A bright disc somewhere: two numbers say where, and so should the latent."""
    place = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 4 + 2
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    distance = (rows - place[:, 0, None, None]) ** 2 + (columns - place[:, 1, None, None]) ** 2
    return InMemory((255 * (-distance / 3).exp()).to(torch.uint8)[:, None])


def learned(folder: Path, method: Any, steps: int, weights: dict[str, float]) -> nn.Module:
    job = toy_job(
        folder,
        method,
        task=Reconstruction(64),
        images=blobs(),
        weighting=Scheduled(weights, method.weights),
        steps=steps,
        batch=16,
        warmup=10,
        schedule="cosine",
        optimizers={"student": lambda p: torch.optim.Adam(p, 1e-2)},
    )
    state = trained(job)
    network: nn.Module = method.student
    network.load_state_dict(state["student"])
    return network.eval()


@torch.no_grad()
def quality(network: nn.Module) -> float:
    image = blobs().read(torch.arange(512)).image
    assert image is not None
    return float(psnr(network(image), image).mean())


def test_a_student_learns_and_sooner_from_its_teacher(tmp_path: Path) -> None:
    def made(width: int, seed: int) -> ResidualVae:
        torch.manual_seed(seed)
        return ResidualVae(width, 4, size=8)

    teacher = learned(tmp_path / "teacher", Vae(made(12, 0)), 150, {"student.kl": 0.2})
    weights = {"student.kl": 0.2, "student.decoder": 5.0, "student.posterior": 0.1}
    before = quality(made(3, 1).eval())
    alone, taught = [], []
    for seed in range(3):
        alone.append(quality(learned(tmp_path / f"alone {seed}", Vae(made(3, seed)), 60, {"student.kl": 0.2})))
        method = Vae(made(3, seed), teacher=teacher)  # type: ignore[arg-type]
        taught.append(quality(learned(tmp_path / f"taught {seed}", method, 60, weights)))
    assert quality(teacher) > max(alone) > before + 3
    assert sum(taught) > sum(alone) + 3 * 0.7  # dB


def test_codes_learn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VqVae(4, 4, size=8, halvings=2, codes=16)
    before = quality(network.eval())
    assert quality(learned(tmp_path, Vq(network.train()), 200, {})) > before + 5

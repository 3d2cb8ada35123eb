"""methods/vae.py and methods/vq.py: losses against their formulas, the map between latents, and that students learn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import toy_job, trained

from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import FixedStrength
from limbeck.data.base import InMemory
from limbeck.errors import RecipeError
from limbeck.losses import vae as forms
from limbeck.losses.feature_matching import FeatureMatching
from limbeck.losses.features import l1
from limbeck.losses.rkd import Rkd
from limbeck.methods.vae import Vae
from limbeck.methods.vq import Vq
from limbeck.metrics.image import psnr
from limbeck.networks.autoencoders.vae import ResidualVae
from limbeck.networks.autoencoders.vq_vae import VqVae
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.networks.handling.tap import features_at
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.terms.base import SampleTerm, Term
from limbeck.terms.bound import PriorDivergence, ReconstructionLoss
from limbeck.terms.codes import Codebook
from limbeck.terms.decoded import Decoded
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.perceptual import Perceptual
from limbeck.terms.scene import Scene
from limbeck.terms.worst import Worst
from limbeck.types import Batch
from limbeck.weighting.scheduled import Scheduled

N = 8


def autoencoder(width: int, latent: int = 4, seed: int = 0) -> ResidualVae:
    torch.manual_seed(seed)
    network = ResidualVae(width, latent, size=8)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def feature(mine: str, goal: str) -> dict[str, Any]:
    return {"student.feature": FeatureMatching({mine: goal})}


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
        ("gaussian", partial(forms.gaussian_nll, log_scale=student.log_scale)),
        ("discretized_gaussian", partial(forms.discretized_gaussian_nll, log_scale=student.log_scale)),
        ("bernoulli", forms.bernoulli_nll),
    ):
        method = Vae(student, terms={"student.reconstruction": ReconstructionLoss(likelihood)})  # type: ignore[arg-type]
        found, given = losses(method), batch(method)
        assert given.image is not None and set(found) == {"student.reconstruction", "student.kl"}
        mean, log_variance = student.posterior(given.image)
        made = student.decode(mean + (log_variance / 2).exp() * given.drawn["vae.noise"])
        torch.testing.assert_close(found["student.reconstruction"], form(given.image, made).mean().detach() / 64)
        kl = forms.kl_from_prior(mean, log_variance).sum(1).mean() / 64
        torch.testing.assert_close(found["student.kl"], kl.detach())


def test_the_soft_label_and_the_decoders_on_the_same_latents() -> None:
    student, teacher = autoencoder(2), autoencoder(3, seed=1)
    method = Vae(student, teacher=teacher, prior_share=0.25)
    found, given = losses(method), batch(method)
    assert given.image is not None
    taught, mine = teacher.eval().posterior(given.image), student.posterior(given.image)
    torch.testing.assert_close(found["student.posterior"], forms.kl_between(*taught, *mine).mean().detach() / 4)
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


def test_the_map_is_that_of_all_images_however_many_micro_batches_there_are(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = []
    for parts in (1, 4):
        method = Vae(autoencoder(2, 2), teacher=autoencoder(3, 5, seed=1), map_steps=2)
        rest = {"images": InMemory(image), "task": Reconstruction(8), "weighting": Scheduled({}, method.losses())}
        trained(toy_job(tmp_path / str(parts), method, steps=3, batch=16, micro_batches=parts, **rest))
        assert method.map is not None and method.map.count == 32  # two steps of 16
        found.append(method.map.basis)
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


def test_perceptual_and_adversarial_terms() -> None:
    torch.manual_seed(0)
    eyes, critic = SmallCnn(channels=1, size=8, classes=3), PatchDiscriminator(2, 1, 8, halvings=1)
    seen: dict[str, Term] = {
        "student.perceptual": Perceptual(eyes, ["blocks.0"], "image"),
        "student.decoder_perceptual": Decoded(Perceptual(eyes, ["blocks.0"])),
    }
    method = Vae(autoencoder(2), critic, autoencoder(3, seed=1), terms=seen)
    assert list(method.players()) == ["discriminator", "student"]
    found = losses(method)
    assert found["student.perceptual"] > 0 and found["student.decoder_perceptual"] > 0
    assert found["discriminator.real_fake"] > 0 and found["student.adversarial"] > 0
    for update in method.updates(batch(method), 0):
        for name, loss in update.losses.items():
            if name == "real_fake":
                (loss() if callable(loss) else loss).backward()
    assert all(p.grad is None for p in method.student.parameters())  # judged, not taught


def test_relations_of_latents_are_those_of_the_means_and_spreads_that_the_encoders_say() -> None:
    student, teacher, loss = autoencoder(2), autoencoder(3, seed=1), Rkd({"encoder.latent": "encoder.latent"})
    method = Vae(student, teacher=teacher, terms={"student.relations": loss})
    image = batch(method).image
    expected = Rkd({"a": "b"})([student.encoder(image)], [teacher.encoder(image)])
    torch.testing.assert_close(losses(method)["student.relations"], expected.detach())


def test_features_of_decoders_are_those_of_the_latents_that_both_are_given() -> None:
    student, teacher = autoencoder(2), autoencoder(2, seed=1)
    path = "decoder.trunk.stages.0"
    method = Vae(student, teacher=teacher, terms={"student.feature": FeatureMatching({path: path})}, prior_share=1.0)
    prior = batch(method).drawn["vae.prior"]  # all of them are of the prior
    (mine,), (goal,) = (features_at(network.decoder, ["trunk.stages.0"], prior) for network in (student, teacher))
    torch.testing.assert_close(losses(method)["student.feature"], (mine - goal).abs().mean().detach())


def test_terms_of_the_same_decoders_on_other_latents() -> None:
    student, teacher = autoencoder(2), autoencoder(3, seed=1)
    made = {f"student.{n}": Decoded(OutputDistance(), n) for n in ("prior", "teacher", "means", "swapped")}  # type: ignore[arg-type]
    method = Vae(student, teacher=teacher, terms={**made, "student.plain": OutputDistance()})
    found, given = losses(method), batch(method)
    assert given.image is not None
    (mean, log_variance), goal = student.posterior(given.image), teacher.posterior(given.image)
    drawn = mean + (log_variance / 2).exp() * given.drawn["vae.noise"]
    own = goal[0] + (goal[1] / 2).exp() * given.drawn["vae.teacher_noise"]
    rebuilt, prior = teacher.decode(goal[0]), given.drawn["vae.prior"]
    for name, pair in (
        ("prior", (student.decode(prior), teacher.decode(prior))),
        ("teacher", (student.decode(own), teacher.decode(own))),
        ("means", (student.decode(mean), rebuilt)),
        ("output", (student.decode(mean), rebuilt)),
        ("swapped", (teacher.decode(drawn), rebuilt)),
        ("encoder_swap", (teacher.decode(drawn), given.image)),
        ("plain", (student.decode(drawn), rebuilt)),
    ):
        torch.testing.assert_close(found[f"student.{name}"], l1(*pair).mean().detach(), msg=name)


class Brightness(SampleTerm):
    """Keeps in the scene what it has seen, as `CriticFeatures` does."""

    def each(self, scene: Scene) -> Tensor:
        return scene.once("brightness", lambda: scene.student_output.flatten(1).mean(1))


def test_what_a_term_keeps_in_the_scene_is_kept_for_each_kind_of_latents() -> None:
    student, teacher = autoencoder(2), autoencoder(3, seed=1)
    drawn, means = Brightness(), Decoded(Brightness(), "means")
    method = Vae(student, teacher=teacher, terms={"student.drawn": drawn, "student.means": means})
    found, image = losses(method), batch(method).image
    torch.testing.assert_close(found["student.means"], student(image).mean().detach())
    assert (found["student.drawn"] - found["student.means"]).abs() > 1e-3


def test_only_free_bits_couple_the_samples_of_a_batch() -> None:
    assert PriorDivergence(0.1).couples and not PriorDivergence().couples
    student = autoencoder(2)
    each = forms.kl_from_prior(*student.posterior(batch(Vae(student)).image)).mean(0)
    least = each.median().item()  # half of the units are below it
    found = losses(Vae(student, terms={"student.kl": PriorDivergence(least)}))["student.kl"]
    torch.testing.assert_close(found, each.clamp(min=least).sum().detach() / 64)


def test_a_swapped_encoder_learns_through_the_teachers_decoder_and_no_decoder_does() -> None:
    student = autoencoder(2)
    method = Vae(student, teacher=autoencoder(3, seed=1))
    (update,) = method.updates(batch(method), 0)
    loss = update.losses["encoder_swap"]
    (loss() if callable(loss) else loss).backward()
    assert all(p.grad is not None for p in student.encoder.parameters())
    assert all(p.grad is None for p in student.decoder.parameters())


def test_without_a_teacher_reconstructions_can_be_attacked_too() -> None:
    student = autoencoder(2).eval()

    def worst(radius: float) -> float:
        term = Worst(ReconstructionLoss("l1"), Pgd(0.1, 0.05, 3), FixedStrength(radius))
        method = Vae(student, terms={"student.worst": term, "student.reconstruction": ReconstructionLoss("l1")}).eval()
        return float(losses(method)["student.worst"])

    plain = Vae(student, terms={"student.reconstruction": ReconstructionLoss("l1")}).eval()
    assert worst(0.0) == pytest.approx(float(losses(plain)["student.reconstruction"]))
    assert worst(0.0) < worst(0.05) < worst(0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior_share": 1.5}, "prior_share: expected"),
        ({"map_steps": 0}, "map_steps: expected"),
        ({"terms": feature("encoder.trunk.stages.9", "encoder.trunk.stages.0")}, "no such module in ResidualVae"),
        ({"terms": feature("encoder.trunk.stages.0", "encoder.trunk.stages.1")}, "features that differ in width only"),
        (
            {"terms": feature("encoder.trunk.stages.1", "decoder.trunk.stages.0")},
            r"terms\.student\.feature: expected paths of the same part, .* found \{'encoder.trunk.stages.1': 'decoder",
        ),
        ({"terms": feature("decoder.trunk.stages.0", "encoder.trunk.stages.1")}, "expected paths of the same part"),
        ({"teacher": VqVae(2, 3, size=8)}, r"teacher: expected a variational autoencoder, .* found 'VqVae'"),
        ({"student": VqVae(2, 3, size=8)}, r"student: expected a variational autoencoder, .* found 'VqVae'"),
        (
            {"terms": {"student.decoder": Decoded(OutputDistance("image"), "prior")}},
            r"terms\.student\.decoder: 'prior' latents belong to no image",
        ),
        (
            {"student": autoencoder(2, 3), "terms": {"student.swap": Decoded(OutputDistance(), "swapped")}},
            r"terms\.student\.swap: 'swapped' latents: expected latents of one shape, found \(3,\), \(4,\)",
        ),
        ({"terms": {"student.codes": Codebook()}}, "Codebook is not for Vae: it needs steps of the kind CodesScene"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Vae(**{"student": autoencoder(2), "teacher": autoencoder(3, seed=1)} | options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReconstructionLoss("normal"), r"ReconstructionLoss\.likelihood: expected one of gaussian"),
        (lambda: PriorDivergence(-1.0), r"PriorDivergence\.free_bits: expected a number of at least 0"),
        (lambda: Decoded(OutputDistance(), "own"), r"Decoded\.latents: expected one of means, mixed"),
        (lambda: Vq(autoencoder(2)), "student: expected an autoencoder with a codebook"),  # type: ignore[arg-type]
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


def test_terms_that_the_networks_do_not_allow_are_left_out_with_a_reason() -> None:
    method = Vae(autoencoder(2, 3), teacher=autoencoder(3, 4, seed=1))
    assert set(method.left_out) == {"discriminator.real_fake", "student.adversarial", "student.encoder_swap"}
    assert "latents of one shape" in method.left_out["student.encoder_swap"]
    codes = Vq(VqVae(2, 3, size=8, halvings=1), autoencoder(2))
    assert "latents of one shape" in codes.left_out["student.decoder"]


def test_features_and_an_adversary_of_codes() -> None:
    torch.manual_seed(0)
    student, teacher = (VqVae(width, 3, size=8, halvings=1, codes=5) for width in (2, 3))
    paths = {"encoder.stages.0": "encoder.stages.0", "decoder.stages.0": "decoder.stages.0"}
    critic = PatchDiscriminator(2, 1, 8, halvings=1)
    method = Vq(student, teacher, critic, terms={"student.feature": FeatureMatching(paths)})
    found, image = losses(method), batch(method).image
    loss = method.terms["student.feature"].loss
    mine, goal = (features_at(network, list(paths), image) for network in (student, teacher.eval()))
    torch.testing.assert_close(found["student.feature"], loss(mine, goal).detach())
    assert list(method.players()) == ["discriminator", "student"]
    real, fake = critic(image), critic(student(image))
    expected = nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()
    torch.testing.assert_close(found["discriminator.real_fake"], expected.detach())


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
        nll = forms.bernoulli_nll(-torch.ones(1, 1, 8, 8), network.decode(torch.zeros(1, 4)))
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

"""Adversarial training of generators: what is attacked gets worse, stays where it may be, and students learn of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import toy_job, trained

from limbeck.attacks.boundary import Boundary, BoundarySearch, DeepFoolBoundary
from limbeck.attacks.latent import on_shell
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import FixedStrength, Strength
from limbeck.data.base import InMemory
from limbeck.errors import RecipeError
from limbeck.methods.gan import Gan
from limbeck.methods.vae import Vae
from limbeck.networks.autoencoders.vae import ResidualVae
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.tasks.disagreement import Disagreement
from limbeck.tasks.generation import Generation
from limbeck.terms.base import Term
from limbeck.terms.decoded import Decoded
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.posterior_divergence import PosteriorDivergence
from limbeck.terms.soft_label import BoundarySoftLabel
from limbeck.terms.worst import Worst
from limbeck.types import Batch
from limbeck.weighting.scheduled import Scheduled

LATENT = 6


def latent_pgd(steps: int = 5, **options: Any) -> Pgd:
    return Pgd(1.5, 0.6, steps, "l2", low=None, high=None, name="latent", **options)


def at_worst(attack: Pgd, strength: Strength | None = None) -> dict[str, Term]:
    return {"student.worst_output": Worst(OutputDistance(), attack, strength)}


def generator(width: int, seed: int, spread: float = 0.5) -> DcganGenerator:
    torch.manual_seed(seed)
    network = DcganGenerator(width, latent=LATENT, size=8)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=spread)
    return network


def batch(method: Any, count: int = 16) -> Batch:
    drawn = {name: d.sample(count, torch.Generator().manual_seed(1)) for name, d in method.draws().items()}
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(count, 1, 8, 8, generator=draw) * 2 - 1
    return Batch(image=image, latent=torch.randn(count, LATENT, generator=draw), drawn=drawn)


def losses(method: Any) -> dict[str, float]:
    """Return the losses of the first step, without the one that needs a teacher's discriminator."""
    found = {}
    for update in method.updates(batch(method), 0):
        for name, loss in update.losses.items():
            if name != "soft_label":
                found[f"{update.player}.{name}"] = float((loss() if callable(loss) else loss).detach())
    return found


class Watching(nn.Module):
    """A network that notes its inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, []
        self.latent_shape = (LATENT,)

    def forward(self, latent: Tensor) -> Tensor:
        self.seen.append(latent.detach())
        return self.network(latent)


def test_on_the_shell_a_latent_keeps_its_length_and_its_new_direction() -> None:
    start, moved = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    found = on_shell(moved, start)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), start.flatten(1).norm(dim=1))
    cosine = nn.functional.cosine_similarity(found.flatten(1), moved.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(5))
    torch.testing.assert_close(on_shell(start, start), start)


def test_the_worst_latents_are_worse_stay_on_the_shell_and_are_near() -> None:
    teacher = Watching(generator(3, 1).eval())
    critic = DcganDiscriminator(2, size=8)
    gan = Gan(generator(2, 0).eval(), critic, teacher, terms=at_worst(latent_pgd())).eval()
    found = losses(gan)
    assert found["student.worst_output"] > 1.02 * found["student.output"]
    start, worst = batch(gan).latent, teacher.seen[-1]
    assert start is not None and not torch.equal(worst, start)
    torch.testing.assert_close(worst.norm(dim=1), start.norm(dim=1))
    assert ((worst - start).norm(dim=1) < 2 * 1.5).all()


def test_a_strength_replaces_the_radius_and_none_leaves_latents_alone() -> None:
    teacher = generator(3, 1).eval()
    critic = DcganDiscriminator(2, size=8)

    def at(strength: float) -> float:
        method = Gan(generator(2, 0).eval(), critic, teacher, terms=at_worst(latent_pgd(), FixedStrength(strength)))
        return losses(method.eval())["student.worst_output"]

    plain = losses(Gan(generator(2, 0).eval(), critic, teacher).eval())["student.output"]
    assert plain == pytest.approx(at(0.0), abs=1e-6)
    assert plain < at(0.3) < at(1.5)


def test_boundary_samples_lie_where_the_teachers_discriminator_cannot_decide() -> None:
    torch.manual_seed(0)
    critic, judge = DcganDiscriminator(2, size=8), DcganDiscriminator(2, size=8)
    for parameter in judge.parameters():
        nn.init.normal_(parameter, std=0.4)
    seen: list[Tensor] = []
    critic.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    terms = {"discriminator.boundary": BoundarySoftLabel(DeepFoolBoundary("half", margin=0.05))}
    method = Gan(generator(2, 0), critic, generator(3, 1), judge, terms=terms)
    assert losses(method)["discriminator.boundary"] > 0
    there = next(images for images in seen if len(images) == 32)  # real and generated ones together
    certainty = (2 * judge(there).sigmoid() - 1).abs()
    assert (certainty <= 0.05).float().mean() > 0.8
    with pytest.raises(RecipeError, match="BoundarySoftLabel needs a teacher_discriminator, and there is none"):
        Gan(generator(2, 0), critic, generator(3, 1), terms=terms)


def test_images_from_which_no_boundary_was_reached_teach_nothing() -> None:
    """Half of them stay where they were: the loss is half of what it is where all count."""

    class Nowhere(BoundarySearch):
        def __init__(self, reached: int) -> None:
            self.reached = reached

        def __call__(self, output: Callable[[Tensor], Tensor], input: Tensor) -> Boundary:
            return Boundary(input[:1].expand_as(input), torch.arange(len(input)) < self.reached)

    torch.manual_seed(0)
    critic, judge = DcganDiscriminator(2, size=8), DcganDiscriminator(2, size=8)
    found = []
    for count in (32, 16, 0):
        terms = {"discriminator.boundary": BoundarySoftLabel(Nowhere(count))}
        method = Gan(generator(2, 0), critic, generator(3, 1), judge, terms=terms)
        found.append(losses(method)["discriminator.boundary"])
    assert found[0] > 0 and found[1] == pytest.approx(found[0] / 2) and found[2] == 0


def test_without_a_teacher_nothing_is_attacked() -> None:
    method = Gan(generator(2, 0), DcganDiscriminator(2, size=8), terms=at_worst(latent_pgd()))
    assert method.draws() == {} and "student.worst_output" not in losses(method)


def test_the_attacked_posterior_is_worse_and_images_stay_in_the_ball() -> None:
    torch.manual_seed(0)
    teacher, student = ResidualVae(3, 4, size=8).eval(), ResidualVae(2, 4, size=8).eval()
    for network in (teacher, student):
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    seen: list[Tensor] = []
    attack = Pgd(0.1, 0.03, 5)
    terms = {
        "student.worst_posterior": Worst(PosteriorDivergence(), attack),
        "student.worst_output": Worst(Decoded(OutputDistance(), "means"), attack),
        "student.prior": Decoded(OutputDistance(), "prior"),
        "student.worst_decoder": Worst(Decoded(OutputDistance(), "prior"), latent_pgd()),
    }
    method = Vae(student, teacher=teacher, terms=terms).eval()
    latents: list[Tensor] = []
    teacher.decoder.register_forward_pre_hook(lambda module, inputs: latents.append(inputs[0].detach()))
    student.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    found = losses(method)
    assert found["student.worst_posterior"] > 1.1 * found["student.posterior"]
    assert found["student.worst_output"] > 1.02 * found["student.output"]
    assert found["student.worst_decoder"] > 1.02 * found["student.prior"]
    prior = batch(method).drawn["vae.prior"]
    assert not torch.equal(latents[-1], prior)  # the last one that the teacher decoded is the worst
    torch.testing.assert_close(latents[-1].norm(dim=1), prior.norm(dim=1))
    assert max((image - batch(method).image).abs().max().item() for image in seen) <= 0.1 + 1e-6


def test_output_is_the_distance_of_the_reconstructions_from_posterior_means() -> None:
    teacher, student = ResidualVae(3, 4, size=8).eval(), ResidualVae(2, 4, size=8).eval()
    for network in (teacher, student):
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    method = Vae(student, teacher=teacher).eval()
    image = batch(method).image
    mine, goal = (network.decode(network.posterior(image)[0]) for network in (student, teacher))
    assert losses(method)["student.output"] == pytest.approx((mine - goal).abs().mean().item(), rel=1e-5)


def test_attacks_of_one_name_draw_apart() -> None:
    terms = {
        "student.worst_output": Worst(Decoded(OutputDistance(), "means"), Pgd()),
        "student.worst_decoder": Worst(Decoded(OutputDistance(), "prior"), Pgd(1.0, 0.5, low=None, high=None)),
    }
    draws = Vae(ResidualVae(2, 4, size=8), teacher=ResidualVae(3, 5, size=8), terms=terms).draws()
    assert draws["student.worst_output.pgd.start"].shape == (1, 1, 8, 8)
    assert draws["student.worst_decoder.pgd.start"].shape == (1, 5)  # as the teacher has them


class Images(InMemory):
    """Sixteen dull images: only the teacher matters here."""

    def __init__(self) -> None:
        super().__init__(torch.zeros(16, 1, 8, 8, dtype=torch.uint8))


def students(tmp_path: Path) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    for name, weights in (("plain", {"student.worst_output": 0.0}), ("attacked", {"student.output": 0.5})):
        teacher, student = generator(3, 1, 0.15).eval(), generator(3, 2, 0.1)
        method = Gan(student, DcganDiscriminator(1, size=8), teacher, terms=at_worst(latent_pgd(3)))
        only = {"student.adversarial": 0.0, "discriminator.real_fake": 1.0}
        job = toy_job(
            tmp_path / name,
            method,
            task=Generation((LATENT,), samples=16),
            images=Images(),
            weighting=Scheduled(only | weights, method.weights),
            steps=150,
            batch=16,
            optimizers={"student": lambda p: torch.optim.Adam(p, 1e-2)},
        )
        state = trained(job)
        student.load_state_dict(state["student"])
        yield name, student.eval(), teacher


def test_training_on_the_worst_latents_brings_down_what_a_fresh_attack_finds(tmp_path: Path) -> None:
    latent = torch.randn(100, LATENT, generator=torch.Generator().manual_seed(3))
    measure: Callable[..., dict[str, float]] = Disagreement(1.5, steps=10, samples=100).measure
    found = {name: measure(s, t, latent, place=on_shell) for name, s, t in students(tmp_path)}
    assert all(gaps["worst_gap_to_teacher"] > gaps["gap_to_teacher"] for gaps in found.values())
    assert found["attacked"]["worst_gap_to_teacher"] < 0.97 * found["plain"]["worst_gap_to_teacher"]

"""methods/restore.py: losses against their formulas, and that a student learns from images and from a teacher alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from toys import ToyRestorer, toy_job, trained

from limbeck.attacks.pgd import Pgd
from limbeck.data.base import InMemory
from limbeck.data.degradations.add_noise import AddNoise
from limbeck.data.degradations.downscale import Downscale
from limbeck.errors import RecipeError
from limbeck.losses import restoration
from limbeck.losses.feature_affinity import FeatureAffinity
from limbeck.losses.features import l1
from limbeck.methods.restore import Restore
from limbeck.metrics.image import psnr
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.networks.given.external import Wrapped
from limbeck.tasks.restoration import Restoration
from limbeck.terms.adversarial import RealFake
from limbeck.terms.distribution import Likelihood, SoftDistribution
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.perceptual import CriticFeatures, Perceptual
from limbeck.terms.spectral import Spectral
from limbeck.terms.worst import Worst
from limbeck.types import Batch
from limbeck.weighting.scheduled import Scheduled

N = 8
ATTACKED: dict[str, Any] = {"output": OutputDistance, "soft_label": SoftDistribution, "likelihood": Likelihood}
TERMS: dict[str, Any] = {
    kind.__name__: kind for kind in (OutputDistance, Likelihood, SoftDistribution, Perceptual, CriticFeatures, RealFake)
}


def network(width: int, seed: int = 0, **options: Any) -> ToyRestorer:
    torch.manual_seed(seed)
    return ToyRestorer(width, **options)


def batch(side: int = 8, scale: int = 1) -> Batch:
    draw = torch.Generator().manual_seed(0)
    image, whole = (torch.rand(N, 1, s, s, generator=draw) * 2 - 1 for s in (side, side * scale))
    return Batch(image=image, target=whole)


def losses(method: Restore, given: Batch) -> dict[str, Tensor]:
    found = {}
    for update in method.updates(given, 0):
        for name, loss in update.losses.items():
            found[f"{update.player}.{name}"] = (loss() if callable(loss) else loss).detach()
    return found


def test_every_loss_is_that_of_its_formula() -> None:
    student, teacher, given = network(3, scale=2), network(5, 1, scale=2), batch(scale=2)
    terms = {
        "student.reconstruction": OutputDistance("target", "l2"),
        "student.output": OutputDistance(distance="l2"),
        "student.features": FeatureAffinity({"body": "body"}),
    }
    method = Restore(student, teacher=teacher, terms=terms)
    found = losses(method, given)
    assert given.image is not None and given.target is not None
    (mine, sure), (goal, certain) = (n.distribution(given.image) for n in (student, teacher))
    expected = {
        "student.reconstruction": (mine - given.target).square().mean(),
        "student.likelihood": restoration.laplace_nll(given.target, mine, sure).mean(),
        "student.output": (mine - goal).square().mean(),
        "student.spectral": restoration.spectral(mine, goal).mean(),
        "student.soft_label": restoration.laplace_kl(goal, certain, mine, sure).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found.pop(name), value.detach(), msg=name)
    assert set(found) == {"student.features"} and found["student.features"] > 0


def test_without_a_teacher_it_is_plain_training() -> None:
    method = Restore(network(3), terms={"student.features": FeatureAffinity({"body": "body"})})
    assert set(losses(method, batch())) == {"student.reconstruction", "student.likelihood"}
    assert method.players() == {"student": method.student}


def test_images_that_nobody_has_whole_teach_through_the_teacher_alone() -> None:
    given = Batch(image=batch().image)
    assert set(losses(Restore(network(3), teacher=network(5, 1)), given)) == {
        "student.output",
        "student.spectral",
        "student.soft_label",
    }
    with pytest.raises(RecipeError, match=r"or a teacher, found None; .*`teacher: {load: \.\.\.}`.*`control: false`"):
        losses(Restore(network(3)), given)


def test_a_conditional_discriminator_sees_the_degraded_image_too() -> None:
    seen: list[Tensor] = []
    critic = PatchDiscriminator(2, 1, 8, halvings=1, condition=1)
    critic.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    given, student = batch(), network(3)
    losses(Restore(student, critic, conditional=True), given)
    assert given.image is not None and given.target is not None
    assert torch.equal(seen[0], torch.cat([given.image, given.target], 1))
    assert torch.equal(seen[1], torch.cat([given.image, student(given.image).detach()], 1))


@pytest.mark.parametrize(
    ("condition", "conditional", "says"),
    [
        (None, True, "condition: 1, as conditional is true, found None"),
        (3, True, "condition: 1, as conditional is true, found 3"),
        (1, False, "condition: null, as conditional is false, found 1"),
    ],
)
def test_a_discriminator_is_shown_what_it_says_it_is(condition: int | None, conditional: bool, says: str) -> None:
    critic = PatchDiscriminator(2, 1, 8, halvings=1, condition=condition)
    with pytest.raises(RecipeError, match=rf"discriminator: expected {says}"):
        Restore(network(3), critic, conditional=conditional)
    with pytest.raises(RecipeError, match=rf"teacher_discriminator: expected {says}"):
        Restore(network(3), teacher=network(5), teacher_discriminator=critic, conditional=conditional)


def test_a_discriminator_sees_two_images_only_of_one_size() -> None:
    critic = PatchDiscriminator(2, 1, 16, halvings=1, condition=1)
    with pytest.raises(RecipeError, match=r"conditional: expected degraded images of \(16, 16\) .*, found \(8, 8\)"):
        losses(Restore(network(3, scale=2), critic, conditional=True), batch(scale=2))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "size: expected pixels of at least 1, found 0"),
        ({"terms": {"student.seen": CriticFeatures(["a"])}}, "terms.student.seen: .* needs a teacher_discriminator"),
        ({"terms": {"student.features": FeatureAffinity({"nobody": "body"})}}, "feature path 'nobody': no such module"),
        (
            {"terms": {"discriminator.real_fake": RealFake()}},
            "found no player 'discriminator'",
        ),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Restore(network(3), teacher=network(5, 1), **options)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_generator_cannot_restore(role: str) -> None:
    theirs = {role: Wrapped(network(3), role="generator")}
    with pytest.raises(RecipeError, match=rf"{role}: expected .* role: restorer, found 'generator'"):
        Restore(**{"student": network(5)} | theirs)
    Restore(Wrapped(network(3), role="restorer"), teacher=Wrapped(network(5), role="restorer"))


@pytest.mark.parametrize(
    ("term", "argument"),
    [(OutputDistance, "distance"), (Likelihood, "distribution"), (SoftDistribution, "distribution"), (Spectral, "to")],
)
def test_a_word_that_a_term_does_not_know_is_refused(term: Any, argument: str) -> None:
    with pytest.raises(RecipeError, match=rf"{term.__name__}\.{argument}: expected .*, found 'cauchy'"):
        term(**{argument: "cauchy"})


def test_a_network_without_distribution_or_channels_is_named() -> None:
    plain, sure = nn.Conv2d(1, 1, 3, padding=1), network(2)
    missing = "expected a {} that gives a distribution, such as UncertainRestorer, found Conv2d"
    critics = {
        "discriminator.real_fake": "RealFake needs a discriminator, and there is none",
        "student.adversarial": "Adversarial needs a discriminator, and there is none",
    }
    assert Restore(plain).left_out == {**critics, "student.likelihood": missing.format("student")}
    assert Restore(sure, teacher=plain).left_out == {**critics, "student.soft_label": missing.format("teacher")}
    with pytest.raises(RecipeError, match=f"terms.student.likelihood: {missing.format('student')}"):
        Restore(plain, terms={"student.likelihood": Likelihood()})
    assert set(losses(Restore(plain), batch())) == {"student.reconstruction"}
    with pytest.raises(RecipeError, match="expected Conv2d to state its channels as `inputs`"):
        Restore(plain, teacher=sure, terms={"student.features": FeatureAffinity({"body": "body"})})


def test_a_term_at_its_worst_is_further_from_the_teacher() -> None:
    """Distributions are attacked, too: the log scales there are those of the attacked images, not of the clean ones."""
    terms = {f"student.worst_{term}": Worst(kind(), Pgd(0.2, 0.1, 3)) for term, kind in ATTACKED.items()}
    method, given = Restore(network(3), teacher=network(5, 1), terms=terms, size=8), batch()
    draw = torch.Generator().manual_seed(0)
    found = losses(method, given.replace(drawn={n: d.sample(N, draw) for n, d in method.draws().items()}))
    for term in ATTACKED:
        assert found[f"student.worst_{term}"] > 1.05 * found[f"student.{term}"], term


def waves(count: int = 256) -> InMemory:
    """Images of two plane waves: what is lost of them can be known."""
    draw = torch.Generator().manual_seed(2)
    at = torch.arange(16.0)
    image = torch.zeros(count, 1, 16, 16)
    for _ in range(2):
        row, column, phase = (
            torch.rand(3, count, 1, 1, 1, generator=draw) * torch.tensor([1.2, 1.2, 6.3]).view(3, 1, 1, 1, 1)
        ).unbind()
        image += torch.cos(row * at[:, None] + column * at + phase) / 2
    return InMemory(((image + 1) * 127.5).round().to(torch.uint8))


def taught(folder: Path, seed: int, teacher: nn.Module | None, weights: dict[str, float], **task: Any) -> ToyRestorer:
    method = Restore(network(8, seed), teacher=teacher)
    job = toy_job(
        folder,
        method,
        images=waves(),
        task=Restoration(AddNoise(60), **task),
        weighting=Scheduled(weights, Restore.losses()),
        seed=seed,
        steps=200,
        optimizers={"student": partial(torch.optim.Adam, lr=0.01)},
    )
    student = network(8, seed)
    student.load_state_dict(trained(job)["student"])
    return student.eval()


def quality(student: nn.Module) -> float:
    images = waves(64)
    whole = images.read(torch.arange(64)).image
    assert whole is not None
    degraded = AddNoise(60)(whole, torch.arange(64))
    with torch.no_grad():
        return float(psnr(student(degraded), whole).mean())


def test_a_student_learns_to_restore_alone_from_a_teacher_and_by_soft_labels(tmp_path: Path) -> None:
    alone = taught(tmp_path / "alone", 0, None, {})
    start, learnt = quality(network(8)), quality(alone)
    assert learnt > start + 6 and learnt > quality(nn.Identity()) + 2
    followed = taught(tmp_path / "followed", 1, alone, {"student.reconstruction": 0.0})
    labels = {
        "student.reconstruction": 0.0,
        "student.output": 0.0,
        "student.likelihood": 0.2,
        "student.soft_label": 0.8,
    }
    soft = taught(tmp_path / "soft", 1, alone, labels)
    for student in (followed, soft):
        assert quality(student) > learnt - 0.7


def test_a_student_learns_from_images_that_are_only_there_degraded(tmp_path: Path) -> None:
    """The waves themselves are then the input: the student comes to do to them what the teacher does."""
    teacher = taught(tmp_path / "teacher", 0, None, {})
    student = taught(tmp_path / "student", 1, teacher, {}, unlabelled=True)
    image = waves(64).read(torch.arange(64)).image
    assert image is not None
    with torch.no_grad():
        before = l1(network(8, 1)(image), teacher(image)).mean()
        assert l1(student(image), teacher(image)).mean() < before / 4


def test_downscaled_images_are_as_large_as_the_network_expects() -> None:
    with pytest.raises(RecipeError, match="expected the same shape"):
        losses(Restore(network(3, scale=4)), batch(scale=2))
    assert Downscale(4).scale == 4


@pytest.mark.parametrize("argument", Restore.moved_arguments)
def test_what_an_old_argument_is_told_can_be_written(argument: str) -> None:
    """Networks apart: with values in place of the dots it makes terms that the method takes."""
    values = {"distance": "l2", "distribution": "gaussian", "loss": "hinge", "paths": ["blocks.0"]}
    terms = yaml.safe_load(f"{{{Restore.moved_arguments[argument]}}}")
    for name, term in terms.items():
        if argument == "features":
            terms[name] = FeatureAffinity({"body": "body"})
            continue
        given = {key: values.get(key, value) for key, value in term["init_args"].items()}
        given |= {"network": SmallCnn(2, 1, 8, classes=3)} if "network" in given else {}
        terms[name] = TERMS[term["class_path"]](**given)
    critics = [PatchDiscriminator(2, 1, 8, halvings=1) for _ in range(2)]
    Restore(network(3), critics[0], network(5), critics[1], terms=terms)

"""methods/gan.py: who is computed when, where gradients go, what teacher and student see, and that it distils."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.attacks.boundary import DeepFoolBoundary
from limbeck.attacks.pgd import Pgd
from limbeck.data.base import Augmentation
from limbeck.errors import DataError, RecipeError
from limbeck.losses import gan
from limbeck.losses.base import FeatureLoss
from limbeck.losses.feature_matching import FeatureMatching
from limbeck.losses.features import l1
from limbeck.losses.kd import Kd
from limbeck.losses.soft_label import soft_label
from limbeck.methods.gan import Gan
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.networks.handling.frozen import Frozen
from limbeck.terms.adversarial import RealFake
from limbeck.terms.base import Term
from limbeck.terms.follow import FollowFeatures
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.penalties import R1, GradientPenalty
from limbeck.terms.perceptual import CriticFeatures, Perceptual
from limbeck.terms.soft_label import BoundarySoftLabel, SoftLabel
from limbeck.terms.worst import Worst
from limbeck.types import Batch, Draw, Update


class Calls:
    """Counts a network's forward passes and keeps their inputs."""

    def __init__(self, network: nn.Module) -> None:
        self.inputs: list[tuple[Tensor, ...]] = []
        network = network.network if isinstance(network, Frozen) else network
        network.register_forward_pre_hook(lambda module, inputs: self.inputs.append(inputs))

    def __len__(self) -> int:
        return len(self.inputs)


def generator(width: int = 2, classes: int = 0) -> DcganGenerator:
    return DcganGenerator(width=width, latent=4, size=8, classes=classes)


def critic(width: int = 2, classes: int = 0) -> DcganDiscriminator:
    network = DcganDiscriminator(width=width, size=8, classes=classes)
    for parameter in network.parameters():  # far from 0, so that scores differ
        nn.init.normal_(parameter, std=0.3)
    return network


def batch(count: int = 6, **more: Any) -> Batch:
    draw = torch.Generator().manual_seed(5)
    image = torch.rand(count, 1, 8, 8, generator=draw) * 2 - 1
    return Batch(image=image, latent=torch.randn(count, 4, generator=draw), **more)


def full(terms: dict[str, Term | FeatureLoss | None] | None = None, **options: Any) -> Gan:
    """Return a method with terms of every kind, and with others in their place or beside them."""
    torch.manual_seed(0)
    networks = generator(), critic(), generator(5), critic()
    usual: dict[str, Term | FeatureLoss | None] = {
        "discriminator.penalty": R1(),
        "student.feature": FeatureMatching({"blocks.0": "blocks.0"}),
        "student.critic_feature": CriticFeatures(["blocks.0"]),
        "student.critic_mean": CriticFeatures(["blocks.0"], means=True),
        "student.perceptual": Perceptual(SmallCnn(channels=1, size=8, classes=3), ["blocks.0"]),
    }
    return Gan(*networks, terms=usual | (terms or {}), **options)


def game(loss: Any) -> dict[str, Term | FeatureLoss | None]:
    return {"discriminator.real_fake": RealFake(loss)}


def value(loss: Tensor | Callable[[], Tensor]) -> Tensor:
    return loss() if callable(loss) else loss


def eye_of(method: Gan) -> nn.Module:
    """Return the network of the perceptual term."""
    term = method.terms["student.perceptual"]
    assert isinstance(term, Perceptual)
    return term.network.network


def adapter_of(method: Gan) -> nn.Module:
    """Return the adapter of the feature term."""
    term = method.terms["student.feature"]
    assert isinstance(term, FollowFeatures) and isinstance(term.loss, FeatureMatching)
    return term.loss.adapters[0]


def names(updates: list[Update]) -> list[str]:
    return [f"{update.player}.{name}" for update in updates for name in update.losses]


# Order and laziness


def test_the_discriminator_moves_first_and_every_term_is_yielded() -> None:
    attack = Pgd(1.0, 0.5, 2, "l2", random_start=False, low=None, high=None)
    more = {
        "student.worst_output": Worst(OutputDistance(), attack),
        "discriminator.boundary": BoundarySoftLabel(DeepFoolBoundary("half")),
    }
    method = full(more)
    updates = list(method.updates(batch(), 0))
    assert [update.player for update in updates] == ["discriminator", "student"]
    assert set(names(updates)) == set(method.terms) == set(method.weights) >= {*Gan.losses(), *more}


def test_without_a_teacher_it_is_the_control() -> None:
    terms = {"student.feature": FeatureMatching({"no": "matter"}), "student.critic_feature": CriticFeatures(["any"])}
    updates = list(Gan(generator(), critic(), terms=terms).updates(batch(), 0))
    assert names(updates) == ["discriminator.real_fake", "discriminator.soft_label", "student.adversarial"]


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    method = full()
    assert method.teacher is not None
    names = ("student", "discriminator", "teacher", "teacher_discriminator")
    spies = [Calls(network) for network in [*map(method.network, names), eye_of(method)]]
    updates = list(method.updates(batch(), 0))
    assert [len(spy) for spy in spies] == [0, 0, 0, 0, 0]
    value(updates[1].losses["output"])  # neither a discriminator nor the feature network takes part
    assert [len(spy) for spy in spies] == [1, 0, 1, 0, 0]


def test_images_are_made_once_a_step_whatever_asks_for_them() -> None:
    method = full({"discriminator.penalty": GradientPenalty()})
    student, teacher = Calls(method.student), Calls(method.network("teacher"))
    given = batch(drawn={"discriminator.penalty.epsilon": torch.rand(6)})
    for update in method.updates(given, 0):
        for loss in update.losses.values():
            value(loss)
    assert len(student) == len(teacher) == 1
    assert student.inputs[0][0] is teacher.inputs[0][0] is given.latent


def test_critic_steps() -> None:
    method = Gan(generator(), critic(), critic_steps=3)
    players = [[update.player for update in method.updates(batch(), step)] for step in range(6)]
    both = ["discriminator", "student"]
    assert players == [["discriminator"], ["discriminator"], both] * 2
    with torch.enable_grad():
        spy: list[Tensor] = []
        method.student.register_forward_hook(lambda module, inputs, output: spy.append(output))
        for step in (0, 2):
            value(next(method.updates(batch(), step)).losses["real_fake"])
    assert [image.requires_grad for image in spy] == [False, True]  # no graph for a student that stays


def test_lazy_regularisation() -> None:
    every, lazy = full(), full({"discriminator.penalty": R1(every=4)})
    assert ["penalty" in next(lazy.updates(batch(), step)).losses for step in range(6)] == [
        True,
        *[False] * 3,
        True,
        False,
    ]
    once = value(next(every.updates(batch(), 4)).losses["penalty"])
    torch.testing.assert_close(value(next(lazy.updates(batch(), 4)).losses["penalty"]), 4 * once)


# Values


def test_values_are_those_of_the_loss_functions() -> None:
    method = full(
        {
            "student.output": OutputDistance(distance="l2"),
            "discriminator.penalty": R1(3.0),
            "discriminator.soft_label": SoftLabel(0.3, 2.0),
        }
    )
    reference = copy.deepcopy(method)
    given = batch()
    assert given.image is not None
    found = {f"{u.player}.{name}": value(loss) for u in method.updates(given, 0) for name, loss in u.losses.items()}

    student, judge = reference.student, reference.discriminator
    expert, eye = reference.network("teacher_discriminator"), eye_of(reference)
    fake, goal = student(given.latent), reference.network("teacher")(given.latent)
    at, of_real, of_fake = {"temperature": 2.0, "alpha": 0.3}, judge(given.image), judge(fake)
    expected = {
        "discriminator.real_fake": gan.logistic_discriminator(of_real, of_fake),
        "discriminator.soft_label": soft_label(of_real, expert(given.image), real=True, **at).mean()
        + soft_label(of_fake, expert(fake), real=False, **at).mean(),
        "discriminator.penalty": 3 * gan.r1_penalty(judge, given.image),
        "student.adversarial": gan.logistic_generator(of_fake),
        "student.output": F.mse_loss(fake, goal),
        "student.critic_feature": l1(expert.blocks[0](fake), expert.blocks[0](goal)).mean(),
        "student.critic_mean": (expert.blocks[0](fake).mean(0) - expert.blocks[0](goal).mean(0)).abs().mean(),
        "student.perceptual": l1(eye.blocks[0](fake), eye.blocks[0](goal)).mean(),
    }
    first = partial(lambda network: network.blocks[0](given.latent[:, :, None, None], None))
    adapted = adapter_of(reference)(first(student))
    expected["student.feature"] = l1(adapted, first(reference.network("teacher"))).mean()
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, msg=lambda text, name=name: f"{name}: {text}")
    assert set(found) == set(expected)


def test_a_student_that_is_the_teacher_has_nothing_to_follow() -> None:
    teacher, expert = generator().eval(), critic()
    student = copy.deepcopy(teacher)
    terms = {
        "student.feature": FeatureMatching({"blocks.0": "blocks.0"}),
        "student.critic_feature": CriticFeatures(["blocks.0"]),
        "student.critic_mean": CriticFeatures(["blocks.0"], means=True),
        "discriminator.soft_label": SoftLabel(0.0),
    }
    method = Gan(student, copy.deepcopy(expert), teacher, expert, terms=terms)
    judge, follow = method.updates(batch(), 0)
    assert value(judge.losses["soft_label"]).item() == pytest.approx(0, abs=1e-6)
    assert all(value(follow.losses[name]) == 0 for name in ("output", "feature", "critic_feature", "critic_mean"))
    assert method.players()["student"] is student  # features of the teacher's width need no adapter


def test_soft_label_without_a_teacher_is_the_hard_label() -> None:
    (judge, _) = Gan(generator(), critic(), terms={"discriminator.soft_label": SoftLabel(0.2)}).updates(batch(), 0)
    torch.testing.assert_close(value(judge.losses["soft_label"]), value(judge.losses["real_fake"]))


def test_soft_label_needs_log_odds() -> None:
    for loss in ("hinge", "wasserstein"):
        why = rf"log-odds, and those of the {loss} loss are not.*calibration"
        with pytest.raises(RecipeError, match=rf"terms\.discriminator\.soft_label: .*{why}"):
            full(game(loss) | {"discriminator.soft_label": SoftLabel()})
        method = full(game(loss))  # as a default it stays away, and says why
        assert "discriminator.soft_label" not in method.terms
        assert re.search(why, method.left_out["discriminator.soft_label"])
    plain, calibrated, other = (
        value(next(full(terms).updates(batch(), 0)).losses["soft_label"])
        for terms in (
            {},
            game("hinge") | {"discriminator.soft_label": SoftLabel(calibration=(1.0, 0.0))},
            {"discriminator.soft_label": SoftLabel(calibration=(2.0, 1.0))},
        )
    )
    torch.testing.assert_close(calibrated, plain)
    assert other != plain


def test_black_box_follows_the_pictures_in_the_data() -> None:
    given = batch()
    target = generator(5)(given.latent).detach()
    pairs = Batch(image=given.image, latent=given.latent, target=target)
    terms = {
        "student.output": OutputDistance("target"),
        "student.critic_feature": CriticFeatures(["blocks.0"], to="target"),
    }
    method = Gan(generator(), critic(), None, critic(), terms=terms)
    (_, follow) = method.updates(pairs, 0)
    assert list(follow.losses) == ["adversarial", "output", "critic_feature"]
    torch.testing.assert_close(value(follow.losses["output"]), F.l1_loss(method.student(given.latent), target))
    assert value(follow.losses["critic_feature"]) > 0
    (_, alone) = Gan(generator(), critic()).updates(pairs, 0)  # a target is somebody else's business unless asked for
    assert list(alone.losses) == ["adversarial"]


# Gradients


def test_gradients_reach_the_player_and_no_teacher() -> None:
    method = full({"student.feature": FeatureMatching({"blocks.0": "blocks.0", "output": "output"})})
    teachers = [method.network("teacher"), method.network("teacher_discriminator"), eye_of(method)]
    updates = list(method.updates(batch(), 0))
    reached = {
        "discriminator.real_fake": {"discriminator"}, "discriminator.soft_label": {"discriminator"},
        "discriminator.penalty": {"discriminator"}, "student.adversarial": {"student", "discriminator"},
        "student.output": {"student"}, "student.feature": {"student", "student/feature"},
        "student.critic_feature": {"student"}, "student.critic_mean": {"student"}, "student.perceptual": {"student"},
    }  # fmt: skip
    for update in updates:
        for name, loss in update.losses.items():
            method.zero_grad()
            value(loss).backward(retain_graph=True)
            touched = [key for key, p in method.named_parameters() if p.grad is not None and p.grad.any()]
            moved = {key.removeprefix("_terms.").split(".")[0] for key in touched}
            assert moved == reached[f"{update.player}.{name}"], name
            for teacher in teachers:
                assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_players_hold_everything_that_trains_and_nothing_twice() -> None:
    method = full()
    players = {name: {id(p) for p in module.parameters()} for name, module in method.players().items()}
    assert not players["discriminator"] & players["student"]
    assert players["discriminator"] | players["student"] == {id(p) for p in method.parameters()}
    assert {id(p) for p in adapter_of(method).parameters()} < players["student"]
    assert not any("teacher" in name or "network" in name for name in method.state_dict())


# Augmentation, drawing, conditions


class Shift(Augmentation):
    """Adds a drawn brightness; images of other networks stay as they are."""

    def draws(self) -> Mapping[str, Draw]:
        return {"shift": Draw((1, 1, 1), "uniform")}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        return image + 100 * (1 + drawn["shift"])


def test_augmentation_stands_in_front_of_both_discriminators_only() -> None:
    method = full(augment=Shift())
    assert method.draws() == {"shift": Draw((1, 1, 1), "uniform")}
    given = batch(drawn={"shift": torch.rand(6, 1, 1, 1)})
    judge, follow = method.updates(given, 0)
    own, expert = Calls(method.discriminator), Calls(method.network("teacher_discriminator"))
    value(judge.losses["soft_label"])
    value(judge.losses["penalty"])
    value(follow.losses["adversarial"])
    assert len(own) == 4  # real, fake, the penalty's real, fake again for the student
    assert len(expert) == 2
    assert all(inputs[0].mean() > 90 for spy in (own, expert) for inputs in spy.inputs)
    torch.testing.assert_close(own.inputs[1][0], own.inputs[3][0])  # drawn once a step
    value(follow.losses["critic_feature"])
    assert all(inputs[0].abs().max() <= 1 for inputs in expert.inputs[2:])  # what is compared is not augmented


def test_draws_of_the_gradient_penalty() -> None:
    between = {"discriminator.penalty": GradientPenalty()}
    method = full(between, augment=Shift())
    assert set(method.draws()) == {"shift", "discriminator.penalty.epsilon"}
    assert method.draws()["discriminator.penalty.epsilon"] == Draw((), "uniform")
    assert full().differentiates == "twice"
    assert method.differentiates == "twice"
    assert full({"discriminator.penalty": None}).differentiates == "once"
    looks = []  # epsilon is used: 0 and 1 look at other places
    for epsilon in (torch.zeros(6), torch.ones(6)):
        drawn = {"discriminator.penalty.epsilon": epsilon}
        looks.append(value(next(full(between).updates(batch(drawn=drawn), 0)).losses["penalty"]))
    assert looks[0] != looks[1]


def test_conditional_networks_get_the_label_and_others_do_not() -> None:
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    terms = {"student.critic_feature": CriticFeatures(["blocks.0"])}
    method = Gan(generator(classes=3), critic(), generator(classes=3), critic(classes=3), terms=terms)
    names = ("student", "discriminator", "teacher", "teacher_discriminator")
    spies = [Calls(method.network(name)) for name in names]
    for update in method.updates(batch(label=label), 0):
        for loss in update.losses.values():
            value(loss)
    for spy, expected in zip(spies, (True, False, True, True), strict=True):
        assert len(spy) > 0
        assert all((len(inputs) == 2 and inputs[1] is label) == expected for inputs in spy.inputs)
    with pytest.raises(DataError, match="DcganGenerator, which is conditioned on labels: expected data with labels"):
        value(next(method.updates(batch(), 0)).losses["real_fake"])


def test_somebody_elses_networks_need_no_attributes() -> None:
    make = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
    patches = nn.Conv2d(1, 1, 4, stride=4)  # a score for each of four patches
    method = Gan(make, patches, copy.deepcopy(make), copy.deepcopy(patches), terms={"discriminator.penalty": R1()})
    for update in method.updates(batch(), 0):
        assert all(value(loss).isfinite() and value(loss).ndim == 0 for loss in update.losses.values())


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RealFake("lsgan"), r"RealFake\.loss: expected one of logistic, hinge, wasserstein, found 'lsgan'"),
        (lambda: R1(-1.0), r"R1\.weight: expected a number of at least 0, found -1\.0"),
        (lambda: GradientPenalty(every=0), r"GradientPenalty\.every: expected a whole number of at least 1, found 0"),
        (lambda: full(critic_steps=0), "critic_steps"),
        (lambda: SoftLabel(1.5), r"alpha: expected a number in \[0, 1\], found 1.5"),
        (lambda: SoftLabel(temperature=0.0), "temperature: expected a number above 0"),
        (lambda: OutputDistance(distance="l3"), "distance: expected one of l1, l2, charbonnier, found 'l3'"),
        (lambda: OutputDistance("truth"), "to: expected teacher, target or image, found 'truth'"),
        (lambda: Perceptual(critic(), []), "Perceptual.paths: expected module paths"),
        (lambda: Perceptual(critic(), ["blocks.99"]), "blocks.99"),
        (lambda: full({"student.look": CriticFeatures(["block.0"])}), r"terms\.student\.look: .*mean 'blocks.0'"),
        (
            lambda: full({"student.feature": FeatureMatching({"blocks.0": "output"})}),
            r"terms\.student\.feature: .*'blocks.0' -> 'output': .* \(2, 4, 4\) and \(1, 8, 8\)",
        ),
        (
            lambda: full({"student.real_fake": RealFake()}),
            "expected a term of the student, found RealFake, one of the disc",
        ),
        (lambda: full({"studnet.output": OutputDistance()}), r"terms\.studnet\.output: expected player\.NAME.*mean"),
        (lambda: full({"student.logits": Kd()}), "FollowLogits is about logits .* and this student says images"),
    ],
)
def test_what_cannot_be_used(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


def test_networks_that_cannot_be_used() -> None:
    student, judge = generator(), critic()
    with pytest.raises(RecipeError, match="another network than the student"):
        Gan(student, judge, student)
    with pytest.raises(RecipeError, match="another network than the discriminator"):
        Gan(student, judge, generator(), judge)
    with pytest.raises(RecipeError, match="CriticFeatures needs a teacher_discriminator, and there is none"):
        Gan(student, judge, generator(), terms={"student.critic_feature": CriticFeatures(["blocks.0"])})
    method = Gan(student, judge, generator())
    assert "the teacher's discriminator" in method.left_out["discriminator.soft_label"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Batch(image=torch.zeros(2, 1, 8, 8)), "latents"),
        (Batch(latent=torch.zeros(2, 4)), "Gan: expected data with images"),
    ],
)
def test_batches_without_what_is_needed(given: Batch, message: str) -> None:
    with pytest.raises(DataError, match=message):
        value(next(Gan(generator(), critic()).updates(given, 0)).losses["real_fake"])


# Distillation


def train(method: Gan, images: Tensor, steps: int, weights: Mapping[str, float]) -> None:
    """A plain loop: what the engine does, without anything around it."""
    players = method.players()
    optimizers = {name: torch.optim.Adam(module.parameters(), 2e-3, (0.5, 0.9)) for name, module in players.items()}
    draw = torch.Generator().manual_seed(1)
    for step in range(steps):
        image = images[torch.randint(len(images), (64,), generator=draw)]
        given = Batch(image=image, latent=torch.randn(64, 4, generator=draw))
        for update in method.updates(given, step):
            weighed = {name: weights.get(f"{update.player}.{name}", 1.0) for name in update.losses}
            method.zero_grad()
            total = sum(weight * value(update.losses[name]) for name, weight in weighed.items() if weight)
            assert isinstance(total, Tensor)
            total.backward()
            optimizers[update.player].step()


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E‖a - b‖ - E‖a - a'‖ - E‖b - b'‖ (Székely & Rizzo 2013): 0 for the same distribution."""
    a, b = a.flatten(1), b.flatten(1)
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * torch.cdist(a, b).mean() - within[0] - within[1])


def mlp(*widths: int) -> list[nn.Module]:
    layers = [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), nn.LeakyReLU(0.2))]
    return layers[:-1]


def image_maker(width: int) -> nn.Sequential:
    return nn.Sequential(*mlp(4, width, width, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """More threads than free cores make such small networks many times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_a_student_with_a_teacher_comes_closer_than_its_control(loss: str) -> None:
    torch.manual_seed(0)
    teacher = image_maker(32)
    for layer in teacher:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=2 / layer.in_features**0.5)  # curved enough to be worth copying
    student, judge = image_maker(12), nn.Sequential(nn.Flatten(), *mlp(64, 48, 48, 1))
    with torch.no_grad():
        images = teacher(torch.randn(2000, 4))  # here the teacher is perfect: its images are the data
        test = torch.randn(1000, 4)
        goal = teacher(torch.randn(1000, 4))

    def distances(guide: nn.Module | None) -> tuple[float, float]:
        terms = {**game(loss), "discriminator.penalty": R1(0.1)}
        method = Gan(copy.deepcopy(student), copy.deepcopy(judge), guide, terms=terms)
        train(method, images, 300, {"discriminator.soft_label": 0.0, "student.output": 10.0})
        with torch.no_grad():
            made = method.student(test)
            return energy_distance(made, goal), float((made - teacher(test)).abs().mean())

    control, taught = distances(None), distances(copy.deepcopy(teacher))
    assert taught[0] < 0.8 * control[0]  # as a distribution
    assert taught[1] < 0.8 * control[1]  # latent by latent

"""What every term keeps to, in every method that has what it needs. A new one adds its makings to `MAKINGS`.

Losses of logits and of features are terms as they are: all of them are tried, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from method_contract import images
from pair import Pair, train
from torch import Tensor, nn
from toys import ToyRestorer, ToySegmenter, differences, resumed, toy_job, trained

from limbeck.attacks.boundary import DeepFoolBoundary
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import SteeredStrength
from limbeck.data.degradations.blur import Blur
from limbeck.errors import RecipeError
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.losses.factor_transfer import FactorTransfer
from limbeck.losses.hint import Hint
from limbeck.losses.kd import Kd
from limbeck.losses.review import Review
from limbeck.methods.adversarial import AdversarialTraining
from limbeck.methods.adversarial_segment import AdversarialSegment
from limbeck.methods.ard import Ard
from limbeck.methods.base import Method
from limbeck.methods.boundary_distillation import BoundaryDistillation
from limbeck.methods.gan import Gan
from limbeck.methods.iad import Iad
from limbeck.methods.mutual import Mutual
from limbeck.methods.pseudo_label import PseudoLabel
from limbeck.methods.restore import Restore
from limbeck.methods.rslad import Rslad
from limbeck.methods.segment import Segment
from limbeck.methods.stylize import Stylize
from limbeck.methods.supervised import Supervised
from limbeck.methods.trades import Trades
from limbeck.methods.vae import Vae
from limbeck.methods.vq import Vq
from limbeck.networks.autoencoders.vae import ResidualVae
from limbeck.networks.autoencoders.vq_vae import VqVae
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.recipe.catalogue import arguments, catalogue
from limbeck.tasks.base import Task
from limbeck.tasks.classification import Classification
from limbeck.tasks.generation import Generation
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.tasks.restoration import Restoration
from limbeck.tasks.segmentation import Segmentation
from limbeck.tasks.stylization import Stylization
from limbeck.terms import (
    adversarial,
    attacked,
    bound,
    boundary_weighted_kl,
    codes,
    cross_entropy,
    decoded,
    distribution,
    follow,
    mutual,
    output_distance,
    painting,
    penalties,
    perceptual,
    pixel_cross_entropy,
    posterior_divergence,
    soft_label,
    spectral,
    stored_boundary,
    total_variation,
    under_attack,
    unlabelled,
    worst,
)
from limbeck.terms.base import Term
from limbeck.training.checkpoint import load
from limbeck.training.feed import Feed
from limbeck.training.job import Job, Material
from limbeck.types import Batch
from limbeck.weighting.scheduled import Scheduled

Making = Callable[[Mapping[str, str]], Term | LogitLoss | FeatureLoss]
"""Makes a term, from the module paths that it may compare."""
STEPS, BATCH = 4, 8
ATTACK = partial(Pgd, 0.1, 0.05, 2, "l2")  # without the sign of a gradient, which rounding can turn
LATENT = partial(Pgd, 1.0, 0.5, 2, "l2", low=None, high=None, name="latent")


class ToyGenerator(nn.Module):
    """Latents of four numbers into images of 8x8, without batch statistics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent_shape, self.image_shape, self.classes = (4,), (1, 8, 8), 0
        self.start = nn.Linear(4, width * 16)
        self.body = nn.Sequential(nn.Unflatten(1, (width, 4, 4)), nn.Upsample(scale_factor=2), nn.Tanh())
        self.tail = nn.Sequential(nn.Conv2d(width, 1, 3, padding=1), nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.tail(self.body(self.start(latent)))
        return image


class ToyClassifier(nn.Module):
    """Images of 8x8 into three logits, without batch statistics; steep, so that boundaries are near."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_shape, self.classes = (1, 8, 8), 3
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.Tanh())
        self.pooled = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(4 * width, 3)
        with torch.no_grad():
            self.head.weight.mul_(8)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pooled(self.body(image)))
        return logits


@dataclass(frozen=True)
class Setting:
    """A method with every network that it can have.

    Attributes:
        build: Makes it from terms.
        task: What makes its batches.
        channels: Channels of the images.
        paths: Module paths in the student for those of the teacher: maps first, then vectors.
    """

    build: Callable[[Mapping[str, Any]], Method]
    task: Task
    channels: int = 1
    paths: tuple[Mapping[str, str], ...] = field(default=({"body": "body"},))

    def method(self, terms: Mapping[str, Any]) -> Method:
        torch.manual_seed(0)
        return self.build(terms)

    def batch(self, method: Method, step: int) -> Batch:
        material = Material(images(self.channels), self.task)
        return next(Feed(material, method.draws(), seed=0, batch=BATCH).steps(step, step + 1))

    def job(self, folder: Path, makings: Mapping[str, Any], weight: float = 1e-3, **options: Any) -> Job:
        torch.manual_seed(1)
        method = self.method({name: making() for name, making in makings.items()})
        weights = dict.fromkeys(makings, weight)
        rates = {player: partial(torch.optim.SGD, lr=1e-3) for player in method.players()}
        rest = {
            "images": images(self.channels), "task": self.task, "steps": STEPS, "batch": BATCH, "checkpoint_every": 2,
            "weighting": Scheduled(weights, method.weights), "optimizers": rates,
        }  # fmt: skip
        return toy_job(folder, method, **rest | options)


class ToyCritic(nn.Module):
    """One score an image."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.classes = 0
        self.blocks = nn.Sequential(nn.Conv2d(channels, 2, 3, padding=1), nn.Tanh())
        self.score = nn.Linear(128, 1)

    def forward(self, image: Tensor) -> Tensor:
        score: Tensor = self.score(self.blocks(image).flatten(1))
        return score.squeeze(1)


class Eye(nn.Module):
    """Sees images of any number of channels in grey."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh())

    def forward(self, image: Tensor) -> Tensor:
        seen: Tensor = self.layers(image.mean(1, keepdim=True))
        return seen


def critic(channels: int = 1) -> PatchDiscriminator:
    return PatchDiscriminator(2, channels, 8, halvings=1)


def attacked_case(cls: type[Method], taught: bool = True) -> Setting:
    def build(terms: Mapping[str, Any]) -> Method:
        teacher = {"teacher": ToyClassifier(3)} if taught else {}
        return cls(ToyClassifier(2), **teacher, terms=terms, attack=ATTACK())

    return Setting(build, Classification(), paths=CLASSIFIERS)


def stylize(terms: Mapping[str, Any]) -> Method:
    seen = {name: term for name, term in SEEN.items() if name not in terms}
    networks = JohnsonStylizer(1, 1), JohnsonStylizer(2, 1)
    look = {"styles": ["gravel.png"], "style_size": 16, "feature_network": Vgg16(until="relu1_2"), "size": 8}
    return Stylize(*networks, terms={**{name: make() for name, make in seen.items()}, **terms}, **look)


SEEN: dict[str, Callable[[], Term]] = {
    "student.content": lambda: painting.Content(["relu1_2"]),
    "student.style": lambda: painting.Style(["relu1_1"]),
    "student.perceptual": lambda: painting.Content(["relu1_2"], "teacher"),
    "student.gram": lambda: painting.Style(["relu1_1"], "teacher"),
    "student.statistics": lambda: painting.ChannelStatistics(["relu1_1"]),
}
CLASSIFIERS = ({"body": "body"}, {"pooled": "pooled"})
SMALL_VAE: dict[str, Any] = {"channels": 1, "size": 8}
SMALL_VQ: dict[str, Any] = {"latent": 3, "channels": 1, "size": 8, "halvings": 1, "codes": 5}
SETTINGS: dict[str, Setting] = {
    "Gan": Setting(
        lambda terms: Gan(ToyGenerator(2), ToyCritic(), ToyGenerator(3), ToyCritic(), terms=terms),
        Generation((4,), samples=8),
        paths=({"body": "body"}, {"start": "start"}),
    ),
    "Supervised": Setting(
        lambda terms: Supervised(ToyClassifier(2), ToyClassifier(3), terms=terms), Classification(), paths=CLASSIFIERS
    ),
    "Mutual": Setting(lambda terms: Mutual(ToyClassifier(2), ToyClassifier(3), terms=terms), Classification()),
    "AdversarialTraining": attacked_case(AdversarialTraining, taught=False),
    "Trades": attacked_case(Trades, taught=False),
    "Ard": attacked_case(Ard),
    "Rslad": attacked_case(Rslad),
    "Iad": attacked_case(Iad),
    "BoundaryDistillation": Setting(
        lambda terms: BoundaryDistillation(
            ToyClassifier(2), ToyClassifier(3), terms=terms, search=DeepFoolBoundary(margin=0.5), stored=16, interval=1
        ),
        Classification(),
        paths=CLASSIFIERS,
    ),
    "Restore": Setting(
        lambda terms: Restore(ToyRestorer(2), ToyCritic(), ToyRestorer(3), ToyCritic(), terms=terms, size=8),
        Restoration(Blur(1.0)),
    ),
    "Segment": Setting(
        lambda terms: Segment(ToySegmenter(2), critic(4), ToySegmenter(3), terms=terms, size=8), Segmentation()
    ),
    "PseudoLabel": Setting(
        lambda terms: PseudoLabel(ToySegmenter(2), ToySegmenter(3), terms=terms, size=8), Segmentation()
    ),
    "AdversarialSegment": Setting(
        lambda terms: AdversarialSegment(ToySegmenter(2), ToySegmenter(3), terms=terms, size=8, attack=ATTACK()),
        Segmentation(),
    ),
    "Stylize": Setting(
        stylize, Stylization(["gravel.png"], Vgg16(until="relu1_2"), ["relu1_2"], ["relu1_2"], style_size=16), 3,
        paths=({"blocks.0": "blocks.0"},),
    ),
    "Vae": Setting(
        lambda terms: Vae(
            ResidualVae(2, 3, **SMALL_VAE), critic(), ResidualVae(3, 3, **SMALL_VAE), terms=terms
        ),
        Reconstruction(8),
        paths=({"encoder.trunk.stages.0": "encoder.trunk.stages.0"}, {"encoder": "encoder"}),
    ),
    "Vq": Setting(
        lambda terms: Vq(VqVae(2, **SMALL_VQ), VqVae(3, **SMALL_VQ), terms=terms),
        Reconstruction(8),
        paths=({"encoder": "encoder"},),
    ),
}  # fmt: skip


def around(term: Callable[..., Term]) -> Callable[[Mapping[str, str]], Term]:
    return lambda paths: term()


MAKINGS: dict[type[Term], list[Making]] = {
    adversarial.RealFake: [around(adversarial.RealFake)],
    adversarial.Adversarial: [around(adversarial.Adversarial)],
    attacked.SoftAnswers: [around(attacked.SoftAnswers), around(partial(attacked.SoftAnswers, "clean", 2.0))],
    attacked.Stability: [around(attacked.Stability), around(partial(attacked.Stability, 0.5))],
    bound.ReconstructionLoss: [around(bound.ReconstructionLoss)],
    bound.PriorDivergence: [around(partial(bound.PriorDivergence, 0.01))],
    posterior_divergence.PosteriorDivergence: [around(posterior_divergence.PosteriorDivergence)],
    decoded.Decoded: [
        around(lambda: decoded.Decoded(output_distance.OutputDistance())),
        around(lambda: worst.Worst(decoded.Decoded(output_distance.OutputDistance(), "prior"), LATENT())),
    ],
    codes.Codebook: [around(codes.Codebook)],
    codes.Commitment: [around(codes.Commitment)],
    cross_entropy.CrossEntropy: [around(partial(cross_entropy.CrossEntropy, 0.1))],
    distribution.Likelihood: [around(distribution.Likelihood)],
    distribution.SoftDistribution: [around(distribution.SoftDistribution)],
    follow.FollowLogits: [around(lambda: follow.FollowLogits(Kd()))],
    follow.FollowFeatures: [lambda paths: follow.FollowFeatures(Hint(paths))],
    mutual.MutualLearning: [around(mutual.MutualLearning)],
    output_distance.OutputDistance: [
        around(output_distance.OutputDistance), around(partial(output_distance.OutputDistance, "image", "l2"))
    ],
    painting.Content: [around(partial(painting.Content, ["relu1_1"]))],
    painting.Style: [around(partial(painting.Style, ["relu1_1"]))],
    painting.ChannelStatistics: [around(partial(painting.ChannelStatistics, ["relu1_1"]))],
    penalties.R1: [around(partial(penalties.R1, 1.0, 2))],
    penalties.GradientPenalty: [around(partial(penalties.GradientPenalty, 1.0))],
    perceptual.Perceptual: [around(lambda: perceptual.Perceptual(Eye(), ["layers"]))],
    perceptual.CriticFeatures: [
        around(partial(perceptual.CriticFeatures, ["blocks"])),
        around(partial(perceptual.CriticFeatures, ["blocks"], True)),
    ],
    pixel_cross_entropy.PixelCrossEntropy: [around(pixel_cross_entropy.PixelCrossEntropy)],
    boundary_weighted_kl.BoundaryWeightedKl: [around(boundary_weighted_kl.BoundaryWeightedKl)],
    soft_label.SoftLabel: [around(soft_label.SoftLabel)],
    soft_label.BoundarySoftLabel: [around(lambda: soft_label.BoundarySoftLabel(DeepFoolBoundary("half", margin=0.9)))],
    spectral.Spectral: [around(spectral.Spectral)],
    stored_boundary.StoredBoundary: [around(stored_boundary.StoredBoundary)],
    total_variation.TotalVariation: [around(total_variation.TotalVariation)],
    under_attack.UnderAttack: [
        around(lambda: under_attack.UnderAttack(cross_entropy.CrossEntropy())),
        around(lambda: under_attack.UnderAttack(pixel_cross_entropy.PixelCrossEntropy())),
        lambda paths: under_attack.UnderAttack(follow.FollowFeatures(Hint(paths))),
    ],
    unlabelled.PseudoLabels: [around(partial(unlabelled.PseudoLabels, 0.0))],
    unlabelled.AgreedLabels: [around(partial(unlabelled.AgreedLabels, 0.0))],
    worst.Worst: [
        around(lambda: worst.Worst(output_distance.OutputDistance(), ATTACK(), SteeredStrength())),
        around(lambda: worst.Worst(output_distance.OutputDistance(), LATENT())),
        around(lambda: worst.Worst(cross_entropy.CrossEntropy(), ATTACK())),
        around(lambda: worst.Worst(boundary_weighted_kl.BoundaryWeightedKl(), ATTACK())),
    ],
}  # fmt: skip
SMALL = {"k": 2, "count": 24, "negatives": 3, "classes": 3, "pixels": 6, "regions": 3, "pixel_anchors": 6, "stored": 2}


def makings_of(loss: type[LogitLoss | FeatureLoss]) -> list[Making]:
    """Return a loss with what it cannot do without; one around another loss has a simple one."""
    known = {name: value for name, value in SMALL.items() if name in arguments(loss)}
    if issubclass(loss, FeatureLoss):
        return [lambda paths: loss(paths, **known)]  # type: ignore[call-arg]
    return [lambda paths: loss(**known, **({"loss": Kd()} if "loss" in arguments(loss) else {}))]


LOSSES: list[type[Any]] = [*catalogue(LogitLoss), *catalogue(FeatureLoss)]
ALL: dict[type[Any], list[Making]] = {**MAKINGS, **{loss: makings_of(loss) for loss in LOSSES}}


def player_of(term: object, setting: str) -> str:
    return (term.player or "student") if isinstance(term, Term) else "student"


@cache
def admitted(name: str) -> dict[str, tuple[type[Any], Callable[[], Any]]]:
    """Return the terms that a method takes, by the name that they have in it: their kind, and what makes each.

    A term that is refused is refused in one line, before anything is trained.
    """
    setting, found = SETTINGS[name], {}
    for kind, makings in ALL.items():
        for number, making in enumerate(makings):
            for paths in setting.paths:
                make = partial(making, paths)
                place = f"{player_of(make(), name)}.{kind.__name__}{number}"
                try:
                    method = setting.method({place: make()})
                except RecipeError as error:
                    assert "\n" not in str(error) and place in str(error), str(error)
                    continue
                if place in method.terms:  # it falls away where it is taught and there is no teacher
                    found[place] = (kind, make)
                    break
    return found


PAIRS = [pytest.param(name, place, id=f"{name}: {place}") for name in SETTINGS for place in admitted(name)]


def test_every_term_has_makings_and_every_method_a_setting() -> None:
    assert set(catalogue(Term)) == set(MAKINGS)
    assert {cls.__name__ for cls in catalogue(Method)} == set(SETTINGS)


def test_every_term_works_somewhere_and_what_was_impossible_works() -> None:
    kinds = {name: {kind.__name__ for kind, _ in admitted(name).values()} for name in SETTINGS}
    assert set().union(*kinds.values()) == {kind.__name__ for kind in ALL}
    assert {"Vid", "Crd", "Rkd", "Hint", "Worst", "CriticFeatures", "TotalVariation"} <= kinds["Gan"]
    assert {"Rkd", "Perceptual", "Worst", "RealFake", "R1"} <= kinds["Vae"]
    assert {"RealFake", "Adversarial", "GradientPenalty", "Dkd", "Worst"} <= kinds["Segment"]
    assert {"Kd", "Hint", "CrossEntropy", "UnderAttack"} <= kinds["Ard"]
    assert not {"Kd", "CrossEntropy"} & kinds["Gan"] and "OutputDistance" not in kinds["Supervised"]
    assert not any(issubclass(kind, FeatureLoss) for kind, _ in admitted("Mutual").values())  # it has no teacher


@pytest.mark.parametrize(("name", "place"), PAIRS)
def test_a_term_says_something_and_its_gradient_reaches_its_player(name: str, place: str) -> None:
    setting = SETTINGS[name]
    method = setting.method({place: admitted(name)[place][1]()}).train()
    player, _, short = place.partition(".")
    parameters = list(method.players()[player].parameters())
    heard = []
    for step in range(3):
        for update in method.updates(setting.batch(method, step), step):
            if update.player == player and short in update.losses:
                loss = update.losses[short]
                assert callable(loss)
                value = loss()
                assert value.shape == () and value.isfinite()
                slopes = torch.autograd.grad(value, parameters, allow_unused=True)
                heard.append(any(slope is not None and slope.abs().sum() > 0 for slope in slopes))
            method.moved(update.player, step)
    assert any(heard)
    assert all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize("name", SETTINGS)
def test_terms_move_their_player_and_no_other(name: str, tmp_path: Path) -> None:
    setting = SETTINGS[name]
    makings = {place: make for place, (_, make) in admitted(name).items()}
    names = setting.method({place: make() for place, make in makings.items()}).of_players
    for player in names:
        own = {place: make for place, make in makings.items() if place.startswith(f"{player}.")}
        if not own:
            continue
        usual = setting.method({}).weights
        method = setting.method({place: make() for place, make in own.items()})
        before = {n: p.detach().clone() for n, p in method.named_parameters()}
        off = {place: 0.0 for place in method.weights if place in usual}
        weighting = Scheduled({**off, **dict.fromkeys(own, 1e-3)}, method.weights)
        state = trained(setting.job(tmp_path / player, own, weighting=weighting))["method"]
        moved = {n.partition(".")[0] for n, p in before.items() if not torch.equal(state[n], p)} - {"_terms"}
        assert moved == {player}, moved


@pytest.mark.parametrize("name", SETTINGS)
def test_a_method_with_all_its_terms_resumes_with_the_same_bits(name: str, tmp_path: Path) -> None:
    makings = {place: make for place, (_, make) in admitted(name).items()}

    def make(folder: str, **options: Any) -> Job:
        return SETTINGS[name].job(tmp_path / folder, makings, **options)

    assert differences(trained(make("whole")), resumed(partial(make, "killed"), 3)) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_follow_one_whatever_the_terms(name: str, pair: Pair, tmp_path: Path) -> None:
    """They end within a fiftieth of the way that was gone; batch statistics of a loss are each process's own."""
    setting = SETTINGS[name]
    makings = {place: make for place, (_, make) in admitted(name).items() if not has_batch_statistics(make())}
    job = setting.job(tmp_path / "1", makings)
    assert isinstance(job.method, Method)
    before = {key: value.clone() for key, value in job.method.state_dict().items()}
    one = trained(job)["method"]
    halves = setting.job(tmp_path / "2", makings, processes=2)
    pair(train, halves)
    two = load(halves.place.final)["method"]
    assert any(not torch.equal(one[key], value) for key, value in before.items())
    for key, value in before.items():
        start, end, other = (tensor.double() for tensor in (value, one[key], two[key]))
        assert (other - end).norm() <= 0.02 * (end - start).norm() + 1e-6 * start.norm() + 1e-7, key


def has_batch_statistics(term: nn.Module) -> bool:
    """Tell whether a term normalises over a batch, once it has joined: factor transfer and review do."""
    loss = term.loss if isinstance(term, follow.FollowFeatures) else term
    return isinstance(loss, FactorTransfer | Review)

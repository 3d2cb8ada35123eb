"""What every Method of the package keeps to. A new one adds its cases to `CASES`: small, each with other options."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Dying, Killed, ToyRestorer, ToySegmenter, differences, every_module, resumed, toy_job, trained

from limbeck.attacks.boundary import DeepFoolBoundary
from limbeck.attacks.mixture import AttackMixture
from limbeck.attacks.noise import GaussianNoise
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import ScheduledStrength, SteeredStrength
from limbeck.data.augmentations.diffaugment import DiffAugment
from limbeck.data.base import Degradation, InMemory
from limbeck.data.degradations.add_noise import AddNoise
from limbeck.data.degradations.blur import Blur
from limbeck.data.degradations.downscale import Downscale
from limbeck.data.degradations.holes import Holes
from limbeck.losses.cirkd_memory import CirkdMemory
from limbeck.losses.crd import Crd
from limbeck.losses.cwd import Cwd
from limbeck.losses.dkd import Dkd
from limbeck.losses.feature_affinity import FeatureAffinity
from limbeck.losses.feature_matching import FeatureMatching
from limbeck.losses.hint import Hint
from limbeck.losses.ifvd import Ifvd
from limbeck.losses.kd import Kd
from limbeck.losses.mgd import Mgd
from limbeck.losses.pairwise_structure import PairwiseStructure
from limbeck.losses.rkd import Rkd
from limbeck.losses.vid import Vid
from limbeck.methods.adversarial import AdversarialMethod, AdversarialTraining
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
from limbeck.networks.autoencoders.vae import ConvVae, ResidualVae, SpatialVae
from limbeck.networks.autoencoders.vq_vae import VqVae
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.stylizers.adaptive_stylizer import AdaptiveStylizer
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.tasks.base import Task
from limbeck.tasks.classification import Classification
from limbeck.tasks.generation import Generation
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.tasks.restoration import Restoration
from limbeck.tasks.segmentation import Segmentation
from limbeck.tasks.stylization import Stylization
from limbeck.terms.adversarial import RealFake
from limbeck.terms.base import Term
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.terms.follow import FollowFeatures
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.penalties import R1, GradientPenalty
from limbeck.terms.perceptual import CriticFeatures, Perceptual
from limbeck.terms.soft_label import BoundarySoftLabel
from limbeck.terms.worst import Worst
from limbeck.training.feed import Feed
from limbeck.training.job import Job
from limbeck.types import VOID, Batch, Update
from limbeck.weighting.scheduled import Scheduled

STEPS = 4


def images(channels: int = 1) -> InMemory:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (24, channels, 8, 8), generator=draw, dtype=torch.uint8)
    mask = image[:, 0] // 86
    mask[:, :2, :2] = VOID
    mask[::3] = VOID  # nobody has labelled these
    return InMemory(image, torch.arange(24) % 3, mask)


@dataclass(frozen=True)
class Case:
    """One set of options of a method.

    Attributes:
        build: Makes the method, with its teacher or without.
        task: What makes its batches.
        weights: Weights that switch on what is off by default.
        channels: Channels of the images.
    """

    build: Callable[[bool], Method]
    task: Task
    weights: dict[str, float]
    channels: int = 1

    def method(self, taught: bool = True) -> Method:
        torch.manual_seed(0)
        return self.build(taught)

    def job(self, folder: Path, taught: bool = True, **options: Any) -> Job:
        method = self.method(taught)
        rest = {
            "images": images(self.channels),
            "steps": STEPS,
            "ema": 0.9,
            "checkpoint_every": 2,
            "task": self.task,
        } | options
        return toy_job(folder, method, weighting=Scheduled(self.weights, method.weights), **rest)

    def batch(self, method: Method, step: int = 0) -> Batch:
        return next(Feed(images(self.channels), self.task, method.draws(), None, seed=0, batch=8).steps(step, step + 1))


def generator(width: int, classes: int) -> DcganGenerator:
    return DcganGenerator(width, latent=4, size=8, classes=classes)


def gan(
    taught: bool, *, classes: int = 0, terms: Mapping[str, Callable[[], Term]] | None = None, **options: Any
) -> Method:
    critic = partial(DcganDiscriminator, size=8, classes=classes)
    teachers = {"teacher": generator(5, classes), "teacher_discriminator": critic(3)} if taught else {}
    made = {name: term() for name, term in (terms or {}).items()}
    return Gan(generator(2, classes), critic(2), **teachers, terms=made, **options)


def gan_case(weights: Mapping[str, float] | None = None, **options: Any) -> Case:
    task = Generation((4,), samples=8, conditional=options.get("classes", 0) > 0)
    return Case(partial(gan, **options), task, {"discriminator.soft_label": 0.5} if weights is None else dict(weights))


def game(loss: str) -> dict[str, Callable[[], Term]]:
    return {"discriminator.real_fake": partial(RealFake, loss)}


def classifier(width: int) -> SmallCnn:
    return SmallCnn(width, channels=1, size=8, classes=3)


def supervised_case(**terms: Any) -> Case:
    def build(taught: bool) -> Method:
        made = {f"student.{name}": term() for name, term in terms.items()}
        return Supervised(classifier(2), classifier(3) if taught else None, terms=made)

    return Case(build, Classification(), {})


def adversarial_case(cls: type[AdversarialMethod], weights: dict[str, float] | None = None, **options: Any) -> Case:
    def build(taught: bool) -> Method:
        made = {name: value() for name, value in {"attack": partial(Pgd, steps=2), **options}.items()}
        teacher = {"teacher": classifier(3)} if teachable(cls) and taught else {}
        return cls(classifier(2), **teacher, **made)

    return Case(build, Classification(), weights or {})


def boundary(taught: bool, **options: Any) -> Method:
    search = DeepFoolBoundary(margin=0.5)  # an untrained network hardly answers two images differently
    return BoundaryDistillation(classifier(2), classifier(3) if taught else None, search=search, **options)


def vae(taught: bool, *, cls: Any = ResidualVae, latents: tuple[int, int] = (3, 3), **options: Any) -> Method:
    small = {"channels": 1, "size": 8} | ({"halvings": 1} if cls is SpatialVae else {})
    made = {name: value() if callable(value) else value for name, value in options.items()}
    return Vae(cls(2, latents[0], **small), teacher=cls(3, latents[1], **small) if taught else None, **made)


def vae_case(weights: dict[str, float] | None = None, **options: Any) -> Case:
    return Case(partial(vae, **options), Reconstruction(8), weights or {})


def vq(taught: bool, **options: Any) -> Method:
    small = {"latent": 3, "channels": 1, "size": 8, "halvings": 1, "codes": 5}
    return Vq(VqVae(2, **small), VqVae(3, **small) if taught else None, **options)


def restore(taught: bool, *, degradation: Degradation, **options: Any) -> Method:
    channels, scale = 1 + degradation.masks, degradation.scale
    made = {name: value() if callable(value) else value for name, value in options.items()}
    if taught and "critic_features" in made:
        made["teacher_discriminator"] = PatchDiscriminator(3, channels=1, size=8, halvings=1)
    teacher = ToyRestorer(5, scale, channels) if taught else None
    return Restore(ToyRestorer(3, scale, channels), teacher=teacher, **made)


def restore_case(degradation: Degradation, weights: dict[str, float] | None = None, **options: Any) -> Case:
    return Case(partial(restore, degradation=degradation, **options), Restoration(degradation), weights or {})


def stylize(taught: bool, *, styles: int = 1, **options: Any) -> Method:
    made = {name: value() if callable(value) else value for name, value in options.items()}
    teacher = JohnsonStylizer(2, 1, styles) if taught else None
    pictures = ["gravel.png", "brick.png"][:styles]
    seen = {"content_paths": ["relu1_2"], "style_paths": ["relu1_1", "relu1_2"], "style_size": 16}
    return Stylize(JohnsonStylizer(1, 1, styles), teacher, styles=pictures, feature_network=Vgg16(), **seen, **made)


def stylize_by_picture(taught: bool) -> Method:
    """A stylizer that takes the style as a picture, its encoder following the teacher's through an embedding."""

    def built(width: int) -> AdaptiveStylizer:
        return AdaptiveStylizer(Vgg16(width=width, until="relu2_1", trained=width < 4))

    seen = {"content_paths": ["relu1_2"], "style_paths": ["relu1_1", "relu1_2"], "style_size": 16}
    pictures, features = ["gravel.png", "brick.png"], Hint({"encoder.relu2_1": "encoder.relu2_1"})
    teacher = built(4) if taught else None
    return Stylize(built(2), teacher, styles=pictures, feature_network=Vgg16(), features=features, **seen)


def stylize_case(weights: dict[str, float] | None = None, **options: Any) -> Case:
    task = Stylization(["gravel.png"], Vgg16(), ["relu1_2"], ["relu1_2"], style_size=16)
    return Case(partial(stylize, **options), task, weights or {}, 3)


def segmenting(cls: type[Method], weights: dict[str, float] | None = None, **options: Any) -> Case:
    def build(taught: bool) -> Method:
        made = {name: value() if callable(value) else value for name, value in options.items()}
        return cls(ToySegmenter(3), teacher=ToySegmenter(5) if taught else None, **made)

    return Case(build, Segmentation(), weights or {})


SWAPPED = {"student.encoder_swap": 1.0, "student.decoder_swap": 1.0}
SEEN = {"feature_network": lambda: SmallCnn(channels=1, size=8, classes=3), "perceptual_paths": ["blocks.0"]}
LABELLED = {"student.likelihood": 0.5, "student.soft_label": 0.5}
LATENT_PGD = partial(Pgd, 1.0, 0.5, 2, "l2", low=None, high=None, name="latent")
RKD = partial(Rkd, {"blocks.3": "blocks.3"})
FOLLOWED = {
    "student.feature": lambda: FollowFeatures(FeatureMatching({"blocks.0": "blocks.0"})),
    "student.critic_feature": partial(CriticFeatures, ["blocks.0", "score"]),
    "student.critic_mean": partial(CriticFeatures, ["blocks.0"], means=True),
}
CASES: dict[type[Method], dict[str, Case]] = {
    Gan: {
        "plain": gan_case(),
        "features": gan_case(terms={**FOLLOWED, "student.output": partial(OutputDistance, distance="l2")}),
        "variational": gan_case(terms={"student.vid": lambda: FollowFeatures(Vid({"blocks.0": "blocks.0"}))}),
        "perceptual": gan_case(
            terms={"student.perceptual": lambda: Perceptual(SmallCnn(channels=1, size=8, classes=3), ["blocks.0"])}
        ),
        "hinge, two critic steps": gan_case({}, critic_steps=2, terms=FOLLOWED | game("hinge")),
        "lazy r1": gan_case(terms={"discriminator.penalty": partial(R1, every=3)}),
        "wasserstein": gan_case(
            {}, critic_steps=3, terms=game("wasserstein") | {"discriminator.penalty": GradientPenalty}
        ),
        "conditional, augmented": gan_case(classes=3, augment=DiffAugment(), terms=FOLLOWED),
        "attacked latents, boundary": gan_case(
            terms={
                "student.worst_output": lambda: Worst(OutputDistance(), LATENT_PGD(), ScheduledStrength(0.1, 1.0, 3)),
                "discriminator.boundary": lambda: BoundarySoftLabel(DeepFoolBoundary("half", steps=3)),
            }
        ),
        "conditional, steered attack": gan_case(
            classes=3,
            terms={
                "student.worst_output": lambda: Worst(OutputDistance(), LATENT_PGD(), SteeredStrength(0.5, 0.1, 1.0))
            },
        ),
    },
    Supervised: {
        "plain": supervised_case(cross_entropy=partial(CrossEntropy, 0.1)),
        "logits": supervised_case(logits=Kd),
        "adapters and relations": supervised_case(features=partial(Hint, {"blocks.1": "blocks.1"}), relations=RKD),
        "drawn masks": supervised_case(logits=Kd, features=partial(Mgd, {"blocks.2": "blocks.2"})),
        "memory": supervised_case(relations=partial(Crd, {"blocks.3": "blocks.3"}, count=24, negatives=5)),
    },
    AdversarialTraining: {
        "plain": adversarial_case(AdversarialTraining, {"student.cross_entropy": 1.0}),
        "mixture": adversarial_case(
            AdversarialTraining, attack=lambda: AttackMixture([Pgd(steps=2), GaussianNoise()], each="sample")
        ),
    },
    Trades: {
        "plain": adversarial_case(Trades),
        "scheduled strength": adversarial_case(Trades, strength=partial(ScheduledStrength, start=0.01, until=3)),
    },
    Ard: {
        "plain": adversarial_case(Ard, {"student.cross_entropy": 0.5}),
        "steered strength": adversarial_case(Ard, strength=SteeredStrength),
    },
    Rslad: {"plain": adversarial_case(Rslad)},
    Iad: {"plain": adversarial_case(Iad, {"student.cross_entropy": 0.5})},
    BoundaryDistillation: {
        "plain": Case(boundary, Classification(), {}),
        "renewed": Case(partial(boundary, stored=12, interval=1), Classification(), {}),
    },
    Restore: {
        "super-resolution": restore_case(Downscale(2), {"student.spectral": 0.5}, distance="charbonnier"),
        "noise, distributions, affinity": restore_case(
            AddNoise(25, 50), LABELLED, features=partial(FeatureAffinity, {"body": "body"}), distribution="gaussian"
        ),
        "holes, hints": restore_case(Holes(), LABELLED, features=partial(Hint, {"body.0": "body.0"})),
        "perceptual, adversarial": restore_case(
            Blur(1.0),
            feature_network=SEEN["feature_network"],
            perceptual_paths=["blocks.0"],
            discriminator=lambda: PatchDiscriminator(2, 1, 8, halvings=1, condition=1),
            conditional=True,
        ),
        "teacher's critic": restore_case(
            Downscale(2),
            discriminator=lambda: PatchDiscriminator(2, 1, 8, halvings=1),
            critic_features=["blocks.0"],
            loss="hinge",
        ),
    },
    Stylize: {
        "one style": stylize_case({"student.total_variation": 0.1, "student.gram": 0.5}),
        "two styles, statistics, embedding": stylize_case(
            {"student.statistics": 0.5, "student.perceptual": 0.5},
            styles=2,
            features=partial(Hint, {"blocks.0": "blocks.0"}),
        ),
        "styles as pictures": replace(stylize_case(), build=stylize_by_picture),
    },
    Vae: {
        "plain": vae_case(),
        "features and swaps": vae_case(
            SWAPPED, features={"encoder.trunk.stages.0": "encoder.trunk.stages.0", "decoder.latent": "decoder.latent"}
        ),
        "convolutional, smaller latent": vae_case(cls=ConvVae, latents=(2, 4), map_steps=1, likelihood="bernoulli"),
        "spatial, smaller latent": vae_case(cls=SpatialVae, latents=(2, 3), map_steps=2, free_bits=0.01),
        "perceptual, adversarial": vae_case(
            **SEEN, likelihood="l1", discriminator=lambda: PatchDiscriminator(2, 1, 8, halvings=1)
        ),
        "attacked": vae_case(
            {"student.output": 1.0, "student.worst_output": 1.0},
            attack=partial(Pgd, steps=2),
            latent_attack=LATENT_PGD,
            strength=SteeredStrength,
            likelihood="discretized_gaussian",
        ),
    },
    Segment: {
        "logits, borders": segmenting(Segment, {"student.boundary": 0.5}, logits=Kd),
        "logits of known pixels": segmenting(Segment, logits=Dkd),
        "features, relations": segmenting(
            Segment, features=partial(Cwd, {"body": "body"}), relations=partial(Ifvd, {"body": "body"})
        ),
        "pairs, drawn masks": segmenting(
            Segment,
            features=partial(PairwiseStructure, {"body": "body"}),
            relations=partial(Mgd, {"body": "body"}),
            size=8,
        ),
        "memory": segmenting(
            Segment, features=partial(CirkdMemory, {"body": "body"}, 3, pixels=8, regions=3, pixel_anchors=6, stored=2)
        ),
        "holistic": segmenting(Segment, discriminator=lambda: PatchDiscriminator(2, 4, 8, halvings=1)),
        "holistic, hinge": segmenting(
            Segment, discriminator=lambda: PatchDiscriminator(2, 4, 8, halvings=1), loss="hinge"
        ),
    },
    PseudoLabel: {
        "teacher's masks": segmenting(PseudoLabel, threshold=0.0),
        "views": segmenting(PseudoLabel, {"student.agreed": 1.0}, threshold=0.0),
    },
    AdversarialSegment: {
        "plain": segmenting(AdversarialSegment, size=8, attack=partial(Pgd, steps=2)),
        "steered strength": segmenting(
            AdversarialSegment, size=(8, 8), attack=partial(Pgd, steps=2), strength=SteeredStrength
        ),
    },
    Vq: {"plain": Case(vq, Reconstruction(8), {"student.decoder": 1.0})},
    Mutual: {"plain": Case(lambda taught: Mutual(classifier(2), classifier(3)), Classification(), {})},
}
ALL = [pytest.param(case, id=f"{cls.__name__}: {name}") for cls, cases in CASES.items() for name, case in cases.items()]
every_case = pytest.mark.parametrize("case", ALL)


def found() -> set[type[Method]]:
    names = every_module("methods")
    modules = [importlib.import_module(name) for name in names]
    classes = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, Method)}
    return {c for c in classes if not inspect.isabstract(c) and c.__module__ != "limbeck.methods.legacy"}


def teachable(method: type[Method] | Method) -> bool:
    cls = method if inspect.isclass(method) else type(method)
    return "teacher" in inspect.signature(cls).parameters


def updates(case: Case, method: Method) -> Iterator[Update]:
    """Yield the updates of the first steps of a method that nobody trains."""
    for step in range(STEPS):
        for update in method.updates(case.batch(method, step), step):
            yield update
            method.moved(update.player, step)


def numbers(case: Case, method: Method) -> dict[str, list[Tensor]]:
    """Return every loss of the first steps that has a weight."""
    method.train()
    values: dict[str, list[Tensor]] = {}
    weighting = Scheduled(case.weights, method.weights)
    for update in updates(case, method):
        for short, loss in update.losses.items():
            name = f"{update.player}.{short}"
            if weighting.weight(name, 0.0):
                values.setdefault(name, []).append(loss() if callable(loss) else loss)
    return values


def frozen(method: Method) -> list[nn.Module]:
    return [module.network for module in method.modules() if isinstance(module, Frozen)]


def test_every_method_has_cases() -> None:
    assert found() and found() == set(CASES)


@pytest.mark.parametrize("cls", CASES, ids=lambda cls: cls.__name__)
def test_the_cases_yield_every_declared_loss(cls: type[Method]) -> None:
    yielded = {name for case in CASES[cls].values() for name in numbers(case, case.method())}
    assert yielded >= set(cls.losses())


@every_case
class TestMethod:
    def test_losses_are_declared_finite_scalars_with_a_gradient_to_their_player(self, case: Case) -> None:
        method = case.method()
        players = method.players()
        values = numbers(case, method)
        assert values and set(values) <= set(method.weights)
        for name, losses in values.items():
            parameters = list(players[name.split(".")[0]].parameters())
            for loss in losses:
                assert loss.shape == () and loss.isfinite(), name
                slopes = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
                assert any(slope is not None and slope.abs().sum() > 0 for slope in slopes), name

    def test_players_are_disjoint_and_cover_what_trains(self, case: Case) -> None:
        method = case.method()
        players = method.players()
        of = {name: {id(p) for p in module.parameters()} for name, module in players.items()}
        assert sum(len(ids) for ids in of.values()) == len(set().union(*of.values()))
        assert set().union(*of.values()) == {id(p) for p in method.parameters() if p.requires_grad}
        assert {id(p) for p in method.student.parameters()} <= of["student"]
        assert {update.player for update in updates(case, method)} == set(players)

    def test_everything_random_is_declared(self, case: Case) -> None:
        """Nothing is drawn outside of `draws`: the same on every rank, and nothing to remember for resuming."""
        method = case.method()
        before = torch.random.get_rng_state()
        assert numbers(case, method)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_teachers_never_change(self, case: Case, tmp_path: Path) -> None:
        job = case.job(tmp_path)
        teachers = frozen(job.method)
        assert teachers or not teachable(job.method)
        before = [deepcopy(teacher.state_dict()) for teacher in teachers]
        trained(job)
        for teacher, state in zip(teachers, before, strict=True):
            assert differences(state, teacher.state_dict()) == []
            assert not teacher.training
            assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
        assert not any(name.startswith("teacher") for name in job.method.state_dict())

    def test_without_its_teacher_it_is_the_control(self, case: Case, tmp_path: Path) -> None:
        if not teachable(case.method()):
            pytest.skip("it takes no teacher")
        taught, alone = case.method(), case.method(taught=False)
        assert alone.players().keys() == taught.players().keys()
        assert alone.student.state_dict().keys() == taught.student.state_dict().keys()
        state = trained(case.job(tmp_path, taught=False))
        assert state["step"] == STEPS and state["counts"]["student"] > 0

    @pytest.mark.parametrize("taught", [True, False], ids=["taught", "alone"])
    def test_it_learns_and_resumes_with_the_same_bits(self, case: Case, tmp_path: Path, taught: bool) -> None:
        def make(folder: str, **more: Any) -> Job:
            return case.job(tmp_path / folder, taught, **more)

        whole = trained(make("whole"))
        before = case.method(taught).state_dict()
        moved = {name.split(".")[0] for name, value in whole["method"].items() if not torch.equal(value, before[name])}
        assert moved >= set(whole["counts"])
        assert differences(whole, resumed(partial(make, "killed"), 3)) == []

    def test_bf16(self, case: Case, tmp_path: Path) -> None:
        whole = trained(case.job(tmp_path / "32"))
        half = trained(case.job(tmp_path / "bf16", precision="bf16"))
        assert not {v.dtype for v in half["method"].values()} & {torch.bfloat16, torch.float16}
        assert differences(whole["method"], half["method"]) != []  # it really runs in bf16
        first, other = whole["history"][0], half["history"][0]
        assert other == pytest.approx(first, rel=0.1, abs=0.05)

    def test_micro_batches(self, case: Case, tmp_path: Path) -> None:
        whole = trained(case.job(tmp_path / "1", batch=8))
        parts = trained(case.job(tmp_path / "2", batch=8, micro_batches=2))
        assert parts["counts"] == whole["counts"]
        assert [set(row) for row in parts["history"]] == [set(row) for row in whole["history"]]

    def test_a_copy_is_equal_and_independent(self, case: Case) -> None:
        method = case.method()
        copy = deepcopy(method)
        expected, found = numbers(case, method), numbers(case, copy)
        assert differences(expected, found) == []
        assert not {id(p) for p in method.parameters()} & {id(p) for p in copy.parameters()}
        for one, other in zip(frozen(method), frozen(copy), strict=True):
            assert one is not other and differences(one.state_dict(), other.state_dict()) == []

    def test_it_works_where_it_can_be_killed_at_once(self, case: Case, tmp_path: Path) -> None:
        """A step that has not ended leaves nothing behind."""
        with pytest.raises(Killed):
            trained(case.job(tmp_path, images=Dying(images(case.channels), 0)))
        assert not list(tmp_path.rglob("*.safetensors"))

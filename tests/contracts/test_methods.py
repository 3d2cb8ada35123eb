"""What every Method of the package keeps to. A new one adds its cases to `CASES`: small, each with other options."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from method_contract import (
    MEMORY,
    Case,
    Trainings,
    check_bf16,
    check_control,
    check_copies,
    check_draws,
    check_killing,
    check_losses,
    check_means,
    check_micro_batches,
    check_players,
    check_resuming,
    check_teachers,
    teachable,
    updates,
    weighted,
)
from toys import ToyRestorer, ToySegmenter, every_module

from limbeck.attacks.boundary import DeepFoolBoundary
from limbeck.attacks.mixture import AttackMixture
from limbeck.attacks.noise import GaussianNoise
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import ScheduledStrength, SteeredStrength
from limbeck.data.augmentations.diffaugment import DiffAugment
from limbeck.data.base import Degradation
from limbeck.data.degradations.add_noise import AddNoise
from limbeck.data.degradations.blur import Blur
from limbeck.data.degradations.downscale import Downscale
from limbeck.data.degradations.holes import Holes
from limbeck.losses.base import FeatureLoss, LogitLoss
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
from limbeck.networks.stylizers.adaptive_stylizer import AdaptiveStylizer
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.tasks.classification import Classification
from limbeck.tasks.generation import Generation
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.tasks.restoration import Restoration
from limbeck.tasks.segmentation import Segmentation
from limbeck.tasks.stylization import Stylization
from limbeck.terms.adversarial import RealFake
from limbeck.terms.base import Term
from limbeck.terms.bound import PriorDivergence, ReconstructionLoss
from limbeck.terms.boundary_weighted_kl import BoundaryWeightedKl
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.terms.decoded import Decoded
from limbeck.terms.distribution import Likelihood, SoftDistribution
from limbeck.terms.follow import FollowFeatures
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.painting import ChannelStatistics, Content, Style
from limbeck.terms.penalties import R1, GradientPenalty
from limbeck.terms.perceptual import CriticFeatures, Perceptual
from limbeck.terms.posterior_divergence import PosteriorDivergence
from limbeck.terms.soft_label import BoundarySoftLabel
from limbeck.terms.spectral import Spectral
from limbeck.terms.total_variation import TotalVariation
from limbeck.terms.under_attack import UnderAttack
from limbeck.terms.unlabelled import AgreedLabels, PseudoLabels
from limbeck.terms.worst import Worst


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


def patches() -> PatchDiscriminator:
    return PatchDiscriminator(2, 1, 8, halvings=1)


def vae_case(
    weights: dict[str, float] | None = None,
    *,
    cls: Any = ResidualVae,
    latents: tuple[int, int] = (3, 3),
    judged: bool = False,
    terms: Mapping[str, Callable[[], Term]] | None = None,
    **options: Any,
) -> Case:
    small = {"channels": 1, "size": 8} | ({"halvings": 1} if cls is SpatialVae else {})

    def build(taught: bool) -> Method:
        student, teacher = (cls(width, latent, **small) for width, latent in zip((2, 3), latents, strict=True))
        made = {name: term() for name, term in (terms or {}).items()}
        return Vae(student, patches() if judged else None, teacher if taught else None, terms=made, **options)

    return Case(build, Reconstruction(8), weights or {})


def vq_case(judged: bool = False, **terms: Callable[[], Term]) -> Case:
    def build(taught: bool) -> Method:
        student, teacher = (VqVae(width, latent=3, channels=1, size=8, halvings=1, codes=5) for width in (2, 3))
        made = {f"student.{name}": term() for name, term in terms.items()}
        return Vq(student, teacher if taught else None, patches() if judged else None, terms=made)

    return Case(build, Reconstruction(8), {"student.decoder": 1.0})


def matched(*paths: str) -> FollowFeatures:
    return FollowFeatures(FeatureMatching({path: path for path in paths}))


def restore(
    taught: bool, *, degradation: Degradation, terms: Mapping[str, Callable[[], Any]] | None = None, **options: Any
) -> Method:
    channels, scale = 1 + degradation.masks, degradation.scale
    made = {name: value() if callable(value) else value for name, value in options.items()}
    made["terms"] = {name: term() for name, term in (terms or {}).items()}
    if taught and "student.critic_feature" in made["terms"]:
        made["teacher_discriminator"] = PatchDiscriminator(3, channels=1, size=8, halvings=1)
    teacher = ToyRestorer(5, scale, channels) if taught else None
    return Restore(ToyRestorer(3, scale, channels), teacher=teacher, **made)


def restore_case(degradation: Degradation, weights: dict[str, float] | None = None, **options: Any) -> Case:
    coupled = "relations of samples" if "student.relations" in options.get("terms", {}) else ""
    build = partial(restore, degradation=degradation, **options)
    return Case(build, Restoration(degradation), weights or {}, coupled=coupled)


def painting(content: list[str], style: list[str]) -> dict[str, Term]:
    """Return the terms of painters that look at these layers."""
    return {
        "student.content": Content(content),
        "student.style": Style(style),
        "student.perceptual": Content(list(dict.fromkeys([*content, *style])), "teacher"),
        "student.gram": Style(style, "teacher"),
        "student.statistics": ChannelStatistics(style),
    }


def stylize(
    taught: bool, *, styles: int = 1, terms: Mapping[str, Callable[[], Any]] | None = None, **options: Any
) -> Method:
    made = painting(["relu1_2"], ["relu1_1", "relu1_2"]) | {name: term() for name, term in (terms or {}).items()}
    teacher = JohnsonStylizer(2, 1, styles) if taught else None
    pictures = ["gravel.png", "brick.png"][:styles]
    seen = {"feature_network": Vgg16(), "styles": pictures, "style_size": 16}
    return Stylize(JohnsonStylizer(1, 1, styles), teacher, terms=made, **seen, **options)


def stylize_by_picture(taught: bool) -> Method:
    """A stylizer that takes the style as a picture, its encoder following the teacher's through an embedding."""

    def built(width: int) -> AdaptiveStylizer:
        return AdaptiveStylizer(Vgg16(width=width, until="relu2_1", trained=width < 4))

    follow = Hint({"encoder.relu2_1": "encoder.relu2_1"})
    terms = {**painting(["relu1_2"], ["relu1_1", "relu1_2"]), "student.features": follow}
    teacher = built(4) if taught else None
    pictures = ["gravel.png", "brick.png"]
    return Stylize(built(2), teacher, styles=pictures, style_size=16, feature_network=Vgg16(), terms=terms)


def stylize_case(weights: dict[str, float] | None = None, **options: Any) -> Case:
    task = Stylization(["gravel.png"], Vgg16(), ["relu1_2"], ["relu1_2"], style_size=16)
    return Case(partial(stylize, **options), task, weights or {}, 3)


KNOWN_PIXELS = "means over the pixels whose class is known"


def segmenting(
    cls: type[Method],
    weights: dict[str, float] | None = None,
    terms: Mapping[str, Callable[[], Term | FeatureLoss | LogitLoss]] | None = None,
    **options: Any,
) -> Case:
    def build(taught: bool) -> Method:
        made = {name: value() if callable(value) else value for name, value in options.items()}
        if terms is not None:
            made["terms"] = {name: term() for name, term in terms.items()}
        return cls(ToySegmenter(3), teacher=ToySegmenter(5) if taught else None, **made)

    return Case(build, Segmentation(), weights or {}, coupled=KNOWN_PIXELS)


def mask_critic() -> PatchDiscriminator:
    """Sees an image of one channel with the probabilities of three classes."""
    return PatchDiscriminator(2, 4, 8, halvings=1)


SWAPPED = {"student.encoder_swap": 1.0, "student.decoder_swap": 1.0}
SEEN = {"feature_network": lambda: SmallCnn(channels=1, size=8, classes=3), "perceptual_paths": ["blocks.0"]}
LABELLED = {"student.likelihood": 0.5, "student.soft_label": 0.5}
BODY = {"body": "body"}
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
        "features under attack": adversarial_case(
            Ard, terms=lambda: {"student.features": UnderAttack(FollowFeatures(Hint({"blocks.1": "blocks.1"})))}
        ),
    },
    Rslad: {"plain": adversarial_case(Rslad)},
    Iad: {"plain": adversarial_case(Iad, {"student.cross_entropy": 0.5})},
    BoundaryDistillation: {
        "plain": Case(boundary, Classification(), {}),
        "renewed": Case(partial(boundary, stored=24, interval=1), Classification(), {}, coupled=MEMORY),
    },
    Restore: {
        "super-resolution": restore_case(
            Downscale(2),
            {"student.spectral": 0.5},
            terms={"student.reconstruction": partial(OutputDistance, "target", "charbonnier")},
        ),
        "noise, distributions, affinity": restore_case(
            AddNoise(25, 50),
            LABELLED,
            terms={
                "student.features": partial(FeatureAffinity, {"body": "body"}),
                "student.likelihood": partial(Likelihood, "gaussian"),
                "student.soft_label": partial(SoftDistribution, "gaussian"),
            },
        ),
        "holes, hints": restore_case(
            Holes(), LABELLED, terms={"student.features": partial(Hint, {"body.0": "body.0"})}
        ),
        "perceptual, adversarial": restore_case(
            Blur(1.0),
            terms={
                "student.perceptual": lambda: Perceptual(classifier(2), ["blocks.0"], "target"),
                "student.output_perceptual": lambda: Perceptual(classifier(2), ["blocks.0"]),
            },
            discriminator=lambda: PatchDiscriminator(2, 1, 8, halvings=1, condition=1),
            conditional=True,
        ),
        "teacher's critic, hinge": restore_case(
            Downscale(2),
            discriminator=lambda: PatchDiscriminator(2, 1, 8, halvings=1),
            terms={"student.critic_feature": partial(CriticFeatures, ["blocks.0"])} | game("hinge"),
        ),
        "penalty, relations, drawn masks": restore_case(
            Blur(1.0),
            discriminator=lambda: PatchDiscriminator(2, 1, 8, halvings=1),
            terms={
                "discriminator.penalty": partial(R1, every=2),
                "student.relations": partial(Rkd, {"body": "body"}),
                "student.masks": partial(Mgd, {"body": "body"}),
                "student.total_variation": TotalVariation,
            },
            size=8,
        ),
        "attacked": restore_case(
            Blur(1.0),
            terms={
                "student.worst_output": lambda: Worst(OutputDistance(), Pgd(steps=2)),
                "student.worst_label": lambda: Worst(SoftDistribution(), Pgd(steps=2)),
            },
            size=8,
        ),
    },
    Stylize: {
        "one style": stylize_case({"student.total_variation": 0.1, "student.gram": 0.5}),
        "two styles, statistics, embedding": stylize_case(
            {"student.statistics": 0.5, "student.perceptual": 0.5},
            styles=2,
            terms={"student.features": partial(Hint, {"blocks.0": "blocks.0"})},
        ),
        "styles as pictures": replace(stylize_case(), build=stylize_by_picture),
        "two styles, attacked, drawn masks": stylize_case(
            styles=2,
            terms={
                "student.worst_style": lambda: Worst(Style(["relu1_1"]), Pgd(steps=2)),
                "student.masks": partial(Mgd, {"blocks.0": "blocks.0"}),
                "student.spectral": Spectral,
            },
            size=8,
        ),
    },
    Vae: {
        "plain": vae_case(),
        "features and swaps": vae_case(
            SWAPPED, terms={"student.feature": partial(matched, "encoder.trunk.stages.0", "decoder.latent")}
        ),
        "relations of latents": replace(
            vae_case(terms={"student.rkd": lambda: FollowFeatures(Rkd({"encoder.latent": "encoder.latent"}))}),
            coupled="relations of the samples of a batch",
        ),
        "drawn masks": vae_case(
            terms={"student.mgd": lambda: FollowFeatures(Mgd({"decoder.trunk.stages.1": "decoder.trunk.stages.1"}))}
        ),
        "convolutional, smaller latent": vae_case(
            cls=ConvVae,
            latents=(2, 4),
            map_steps=1,
            terms={"student.reconstruction": partial(ReconstructionLoss, "bernoulli")},
        ),
        "spatial, smaller latent": replace(
            vae_case(cls=SpatialVae, latents=(2, 3), map_steps=2, terms={"student.kl": partial(PriorDivergence, 0.01)}),
            coupled="free bits of a batch's mean",
        ),
        "perceptual, adversarial": vae_case(
            judged=True,
            terms={
                "student.reconstruction": partial(ReconstructionLoss, "l1"),
                "student.perceptual": lambda: Perceptual(classifier(2), ["blocks.0"], "image"),
                "student.decoder_perceptual": lambda: Decoded(Perceptual(classifier(2), ["blocks.0"])),
            },
        ),
        "hinge, penalty": vae_case(judged=True, terms=game("hinge") | {"discriminator.penalty": R1}),
        "attacked": vae_case(
            {"student.output": 1.0},
            terms={
                "student.reconstruction": partial(ReconstructionLoss, "discretized_gaussian"),
                "student.worst_reconstruction": lambda: Worst(ReconstructionLoss(), Pgd(steps=2)),
                "student.worst_posterior": lambda: Worst(PosteriorDivergence(), Pgd(steps=2), SteeredStrength()),
                "student.worst_output": lambda: Worst(Decoded(OutputDistance(), "means"), Pgd(steps=2)),
                "student.worst_decoder": lambda: Worst(Decoded(OutputDistance(), "prior"), LATENT_PGD()),
            },
        ),
    },
    Segment: {
        "logits, borders": segmenting(Segment, {"student.boundary": 0.5}, {"student.logits": Kd}),
        "logits of known pixels": segmenting(Segment, terms={"student.logits": Dkd}),
        "features, relations": segmenting(
            Segment, terms={"student.features": partial(Cwd, BODY), "student.relations": partial(Ifvd, BODY)}
        ),
        "pairs, drawn masks": segmenting(
            Segment,
            terms={"student.features": partial(PairwiseStructure, BODY), "student.masked": partial(Mgd, BODY)},
            size=8,
        ),
        "memory": replace(
            segmenting(
                Segment,
                terms={"student.memory": partial(CirkdMemory, BODY, 3, pixels=8, regions=3, pixel_anchors=6, stored=2)},
            ),
            coupled=MEMORY,
        ),
        "holistic": segmenting(Segment, discriminator=mask_critic),
        "holistic, hinge, lazy r1": segmenting(
            Segment, terms=game("hinge") | {"discriminator.r1": partial(R1, every=3)}, discriminator=mask_critic
        ),
        "variational, worst borders, unlabelled": segmenting(
            Segment,
            {"student.worst_boundary": 0.5},
            {
                "student.variational": partial(Vid, BODY),
                "student.worst_boundary": lambda: Worst(BoundaryWeightedKl(), Pgd(steps=2), SteeredStrength()),
                "student.agreed": partial(AgreedLabels, 0.0),
            },
            size=8,
        ),
    },
    PseudoLabel: {
        "teacher's masks": segmenting(PseudoLabel, terms={"student.pseudo": partial(PseudoLabels, 0.0)}),
        "views": segmenting(
            PseudoLabel,
            {"student.agreed": 1.0},
            {"student.pseudo": partial(PseudoLabels, 0.0), "student.agreed": partial(AgreedLabels, 0.0)},
        ),
        "logits, features": segmenting(
            PseudoLabel,
            terms={
                "student.pseudo": partial(PseudoLabels, 0.0),
                "student.logits": Kd,
                "student.features": partial(Hint, BODY),
            },
        ),
    },
    AdversarialSegment: {
        "plain": segmenting(AdversarialSegment, size=8, attack=partial(Pgd, steps=2)),
        "steered strength": segmenting(
            AdversarialSegment, size=(8, 8), attack=partial(Pgd, steps=2), strength=SteeredStrength
        ),
        "features under attack, borders": segmenting(
            AdversarialSegment,
            terms={
                "student.features": lambda: UnderAttack(FollowFeatures(Hint(BODY))),
                "student.boundary": lambda: UnderAttack(BoundaryWeightedKl()),
                "student.masked": partial(Mgd, BODY),
            },
            size=8,
            attack=partial(Pgd, steps=2),
        ),
    },
    Vq: {
        "plain": vq_case(),
        "features, attacked": vq_case(
            feature=partial(matched, "encoder.stages.0", "decoder.stages.0"),
            # Of codes a loss is flat but for steps: which of equal points PGD calls the worst is rounding.
            worst_output=lambda: Worst(OutputDistance(), GaussianNoise()),
        ),
        "adversarial": vq_case(judged=True),
    },
    Mutual: {"plain": Case(lambda taught: Mutual(classifier(2), classifier(3)), Classification(), {})},
}
ALL = [pytest.param(case, id=f"{cls.__name__}: {name}") for cls, cases in CASES.items() for name, case in cases.items()]


def found() -> set[type[Method]]:
    names = every_module("methods")
    modules = [importlib.import_module(name) for name in names]
    classes = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, Method)}
    return {c for c in classes if not inspect.isabstract(c) and c.__module__ != "limbeck.methods.legacy"}


def test_every_method_has_cases() -> None:
    assert found() and found() == set(CASES)


@pytest.mark.parametrize("cls", CASES, ids=lambda cls: cls.__name__)
def test_the_cases_yield_every_declared_loss(cls: type[Method]) -> None:
    yielded = set()
    for case in CASES[cls].values():
        method = case.method().train()
        yielded |= {name for name, _ in weighted(case, method, updates(case, method))}
    assert yielded >= set(cls.losses())


@pytest.fixture(scope="class", params=ALL)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """One case after the other, with its trainings."""
    return Trainings(request.param, tmp_path_factory.mktemp("case"))


class TestMethod:
    def test_losses_are_declared_finite_scalars_with_a_gradient_to_their_player(self, runs: Trainings) -> None:
        check_losses(runs)

    def test_players_are_disjoint_and_cover_what_trains(self, runs: Trainings) -> None:
        check_players(runs)

    def test_everything_random_is_declared(self, runs: Trainings) -> None:
        check_draws(runs)

    def test_teachers_never_change(self, runs: Trainings) -> None:
        check_teachers(runs)

    def test_without_its_teacher_it_is_the_control(self, runs: Trainings) -> None:
        if not teachable(runs.case.method()):
            pytest.skip("it takes no teacher")
        check_control(runs)

    @pytest.mark.parametrize("taught", [True, False], ids=["taught", "alone"])
    def test_it_learns_and_resumes_with_the_same_bits(self, runs: Trainings, taught: bool) -> None:
        check_resuming(runs, taught)

    def test_it_works_where_it_can_be_killed_at_once(self, runs: Trainings) -> None:
        check_killing(runs)

    def test_bf16(self, runs: Trainings) -> None:
        check_bf16(runs)

    def test_losses_are_means_over_the_batch(self, runs: Trainings) -> None:
        check_means(runs)

    def test_micro_batches(self, runs: Trainings) -> None:
        check_micro_batches(runs)

    def test_a_copy_is_equal_and_independent(self, runs: Trainings) -> None:
        check_copies(runs)

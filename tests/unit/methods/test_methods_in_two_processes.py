"""What methods remember, and what couples their samples, is the same in two processes at half the batch as in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pair import Pair, train
from torch import Tensor, nn
from toys import ToyRestorer, ToySegmenter, toy_job, trained

from limbeck.attacks.boundary import DeepFoolBoundary
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import SteeredStrength
from limbeck.data.base import InMemory
from limbeck.data.degradations.downscale import Downscale
from limbeck.losses.cirkd_memory import CirkdMemory
from limbeck.losses.dkd import Dkd
from limbeck.losses.hint import Hint
from limbeck.methods.base import Method
from limbeck.methods.boundary_distillation import BoundaryDistillation
from limbeck.methods.gan import Gan
from limbeck.methods.iad import Iad
from limbeck.methods.pseudo_label import PseudoLabel
from limbeck.methods.restore import Restore
from limbeck.methods.segment import Segment
from limbeck.methods.stylize import Stylize
from limbeck.methods.vae import Vae
from limbeck.networks.autoencoders.vae import ResidualVae
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.networks.stylizers.stylizer_per_style import StylizerPerStyle
from limbeck.tasks.classification import Classification
from limbeck.tasks.generation import Generation
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.tasks.restoration import Restoration
from limbeck.tasks.segmentation import Segmentation
from limbeck.tasks.stylization import Stylization
from limbeck.terms.bound import PriorDivergence
from limbeck.terms.decoded import Decoded
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.painting import ChannelStatistics, Content, Style
from limbeck.terms.perceptual import CriticFeatures
from limbeck.terms.posterior_divergence import PosteriorDivergence
from limbeck.terms.unlabelled import PseudoLabels
from limbeck.terms.worst import Worst
from limbeck.training.checkpoint import load
from limbeck.types import VOID
from limbeck.weighting.scheduled import Scheduled


class Perceptron(nn.Module):
    """Without batch statistics, which are each process's own; its slopes are steep enough for boundaries to be near."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.image_shape = (1, 6, 6)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 3))
        with torch.no_grad():
            self.layers[3].weight.mul_(4)  # type: ignore[operator]

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


def boundary() -> Method:
    search = DeepFoolBoundary(margin=0.1, steps=4, classes=2)
    return BoundaryDistillation(Perceptron(0), Perceptron(1), search=search, stored=24, interval=2)


def steered() -> Method:
    return Iad(Perceptron(0), Perceptron(1), attack=Pgd(steps=2), strength=SteeredStrength(rate=0.5))


def autoencoder() -> Method:
    torch.manual_seed(0)
    student, teacher = (ResidualVae(width, latent, size=8) for width, latent in ((2, 3), (3, 4)))
    latent_attack = Pgd(1.0, 0.5, 2, "l2", low=None, high=None)
    terms = {
        "student.kl": PriorDivergence(0.05),
        "student.worst_posterior": Worst(PosteriorDivergence(), Pgd(steps=2), SteeredStrength(rate=0.5)),
        "student.worst_decoder": Worst(Decoded(OutputDistance(), "prior"), latent_attack),
    }
    return Vae(student, teacher=teacher, map_steps=3, terms=terms)


def test_two_processes_follow_one_autoencoder(pair: Pair, tmp_path: Path) -> None:
    image = torch.randint(0, 256, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # Adam would make steps of the rounding in gradients that are 0: those of biases before a normalisation.
    optimizers = {"student": partial(torch.optim.SGD, lr=0.05)}
    rest = {"images": InMemory(image), "task": Reconstruction(8), "optimizers": optimizers}
    follow(pair, tmp_path, autoencoder, "map.basis", "_terms.student/worst_posterior.strength.strength", **rest)


@pytest.mark.parametrize(("make", "remembered"), [(boundary, "store.samples"), (steered, "strength.strength")])
def test_two_processes_follow_one(make: Callable[[], Method], remembered: str, pair: Pair, tmp_path: Path) -> None:
    image = torch.randint(0, 256, (32, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    follow(pair, tmp_path, make, remembered, images=InMemory(image, torch.arange(32) % 3), task=Classification())


def restorer() -> Method:
    torch.manual_seed(0)
    student, teacher, critic = ToyRestorer(2, 2), ToyRestorer(3, 2), PatchDiscriminator(2, 1, 8, halvings=1)
    return Restore(student, critic, teacher, terms={"student.features": Hint({"body": "body"})})


def test_restorers_with_a_discriminator_and_what_a_feature_loss_owns(pair: Pair, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (24, 1, 8, 8), generator=draw, dtype=torch.uint8)
    optimizers = {name: partial(torch.optim.SGD, lr=0.05) for name in ("student", "discriminator")}
    rest = {
        "task": Restoration(Downscale(2)),
        "weighting": Scheduled({}, Restore.losses(["student.features"])),
        "optimizers": optimizers,
    }
    follow(pair, tmp_path, restorer, "_terms.student/features.loss.regressors.0.weight", images=InMemory(image), **rest)


def generators() -> Method:
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)), nn.Tanh()) for _ in range(2))
    critics = (PatchDiscriminator(2, 1, 8, halvings=1) for _ in range(2))
    terms = {"student.critic_mean": CriticFeatures(["blocks.0"], means=True)}
    return Gan(student, next(critics), teacher, next(critics), terms=terms)


def test_generators_whose_batches_have_to_look_alike_on_average(pair: Pair, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (24, 1, 8, 8), generator=draw, dtype=torch.uint8)
    optimizers = {name: partial(torch.optim.SGD, lr=0.05) for name in ("student", "discriminator")}
    weights = {"student.critic_mean": 5.0}
    rest = {
        "task": Generation((4,), samples=8),
        "weighting": Scheduled(weights, Gan.losses(weights)),
        "optimizers": optimizers,
    }
    follow(pair, tmp_path, generators, "student.0.weight", images=InMemory(image), **rest)


STYLES = ["gravel.png", "brick.png"]
SEEN: dict[str, Any] = {"content_paths": ["relu1_2"], "style_paths": ["relu1_1", "relu1_2"], "style_size": 16}


def stylizing(student: nn.Module, teacher: nn.Module, **more: Any) -> Method:
    torch.manual_seed(1)
    style = SEEN["style_paths"]
    terms = {
        "student.content": Content(SEEN["content_paths"]),
        "student.style": Style(style),
        "student.perceptual": None,
        "student.gram": Style(style, "teacher"),
        "student.statistics": ChannelStatistics(style),
        **more,
    }
    looks = {"styles": STYLES, "style_size": SEEN["style_size"], "feature_network": Vgg16(until="relu1_2")}
    return Stylize(student, teacher, terms=terms, **looks)


def embedded() -> Method:
    torch.manual_seed(0)
    embedding = {"student.features": Hint({"blocks.0": "blocks.0"})}
    return stylizing(JohnsonStylizer(2, 1, 2), JohnsonStylizer(3, 1, 2), **embedding)


def of_several_teachers() -> Method:
    """Its student has a part for each style, too, so that some steps leave a process without an image for one."""
    torch.manual_seed(0)
    one, two = (StylizerPerStyle([JohnsonStylizer(width, 1) for _ in STYLES]) for width in (2, 3))
    return stylizing(one, two)


@pytest.mark.parametrize(
    ("make", "remembered"),
    [
        (embedded, "_terms.student/features.loss.regressors.0.weight"),
        (of_several_teachers, "student.members.1.output.weight"),
    ],
)
def test_stylizers_of_several_styles(make: Callable[[], Method], remembered: str, pair: Pair, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (24, 3, 16, 16), generator=draw, dtype=torch.uint8)
    # Of a random network with pictures this small, styles weigh hundreds: steps that far would enlarge any rounding.
    weights = {f"student.{name}": 1e-3 for name in ("style", "gram", "statistics", "total_variation")}
    task = Stylization(STYLES, Vgg16(until="relu1_2"), **SEEN)
    rest = {"task": task, "weighting": Scheduled(weights, Stylize.losses(["student.features"]))}
    optimizers = {"student": partial(torch.optim.SGD, lr=0.01)}
    follow(pair, tmp_path, make, remembered, images=InMemory(image), optimizers=optimizers, batch=4, steps=4, **rest)


def segmenter() -> Method:
    torch.manual_seed(0)
    memory = CirkdMemory({"body": "body"}, 3, pixels=12, regions=4, pixel_anchors=9, region_anchors=6, stored=2)
    terms = {"student.logits": Dkd(), "student.features": memory}
    return Segment(ToySegmenter(2), teacher=ToySegmenter(3), terms=terms)


def pseudo_labels() -> Method:
    torch.manual_seed(0)
    return PseudoLabel(ToySegmenter(2), ToySegmenter(3), terms={"student.pseudo": PseudoLabels(0.35)})


@pytest.mark.parametrize(
    ("make", "remembered"),
    [(segmenter, "_terms.student/features.loss.memories.0.pixels"), (pseudo_labels, "student.head.weight")],
)
def test_segmenters_whose_processes_know_different_numbers_of_pixels(
    make: Callable[[], Method], remembered: str, pair: Pair, tmp_path: Path
) -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (24, 1, 8, 8), generator=draw, dtype=torch.uint8)
    mask = torch.randint(0, 3, (24, 8, 8), generator=draw).masked_fill(torch.rand(24, 8, 8, generator=draw) < 0.3, VOID)
    mask[::3] = VOID
    images = InMemory(image, None, mask.to(torch.uint8))
    optimizers = {"student": partial(torch.optim.SGD, lr=0.05)}
    rest = {"task": Segmentation(), "weighting": Scheduled({}, make().weights), "optimizers": optimizers}
    follow(pair, tmp_path, make, remembered, images=images, **rest)


def follow(pair: Pair, tmp_path: Path, make: Callable[[], Method], *remembered: str, **rest: Any) -> None:
    """Train alone and by two processes: all ends the same, and what is `remembered` is not what it was."""
    rest = {"steps": 12, "batch": 8} | rest
    one = trained(toy_job(tmp_path / "1", make(), **rest))
    job = toy_job(tmp_path / "2", make(), processes=2, **rest)
    pair(train, job)
    two, before = load(job.place.final), make().state_dict()
    for name in remembered:
        assert not torch.allclose(one["method"][name], before[name])
    for name, value in one["method"].items():
        torch.testing.assert_close(two["method"][name], value, rtol=1e-4, atol=1e-5, msg=name)

"""What every Task of the package keeps to. A new one adds its cases to `CASES`: the task, its data and a network."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from toys import ToyPairs, ToyRestorer, ToySegmenter, differences, every_module

from limbeck.attacks.pgd import Pgd
from limbeck.data.base import Data
from limbeck.data.degradations.add_noise import AddNoise
from limbeck.data.degradations.downscale import Downscale
from limbeck.data.degradations.holes import Holes
from limbeck.data.tensors import TensorImages
from limbeck.metrics.features import ClassifierFeatures
from limbeck.networks.autoencoders.vae import ConvVae, SpatialVae
from limbeck.networks.autoencoders.vq_vae import VqVae
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.networks.gan.dcgan import DcganGenerator
from limbeck.networks.stylizers.adaptive_stylizer import AdaptiveStylizer
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.networks.translators.translation_unet import TranslationUnet
from limbeck.tasks.base import Picture, Task
from limbeck.tasks.classification import Classification
from limbeck.tasks.disagreement import Disagreement
from limbeck.tasks.generation import Generation
from limbeck.tasks.perceptual_distance import PerceptualDistance
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.tasks.restoration import Restoration
from limbeck.tasks.segmentation import Segmentation
from limbeck.tasks.stylization import Stylization
from limbeck.tasks.translation import ImageTranslation
from limbeck.training.feed import Feed, Material

K = 3


@dataclass(frozen=True)
class Case:
    """A task with a network that it is for.

    Attributes:
        task: The task.
        network: Builds the network from a width.
        drawn: Whether what is evaluated is drawn, so that another seed gives other numbers.
        channels: Channels of the images.
        paired: Whether the images have targets and masks.
    """

    task: Task
    network: Any
    drawn: bool
    channels: int = 1
    paired: bool = False

    @property
    def data(self) -> Data:
        return ToyPairs(DATA[self.channels]) if self.paired else DATA[self.channels]

    def build(self, width: int = 2) -> nn.Module:
        torch.manual_seed(width)
        built: nn.Module = self.network(width)
        for parameter in built.parameters():  # away from all outputs being alike
            nn.init.normal_(parameter, std=0.3)
        return built.eval()

    def evaluate(self, network: nn.Module | None = None, **options: Any) -> dict[str, float]:
        return self.task.evaluate(network or self.build(), self.data, **{"split": "test", "seed": 0} | options)


def data(channels: int = 1) -> Data:
    draw = torch.Generator().manual_seed(0)
    label = torch.arange(120) % K
    image = torch.randint(0, 200, (120, channels, 16, 16), generator=draw, dtype=torch.uint8)
    image[:, :, 4:8] += (label * 27).to(torch.uint8)[:, None, None, None]
    return TensorImages(image, label, validation=0.2, test=0.3)


def style_task(*styles: str) -> Stylization:
    return Stylization(styles, Vgg16(), ["relu1_2"], ["relu1_1", "relu2_1"], style_size=16, samples=20)


def by_picture(width: int) -> AdaptiveStylizer:
    return AdaptiveStylizer(Vgg16(width=width, until="relu2_1"), "whitening")


def features() -> ClassifierFeatures:
    torch.manual_seed(7)
    return ClassifierFeatures(SmallCnn(width=1, channels=1, size=16, classes=K), "tiny")


DATA = {channels: data(channels) for channels in (1, 3)}
CASES: dict[type[Task], dict[str, Case]] = {
    Generation: {
        "unconditional": Case(Generation((4,), samples=40), lambda w: DcganGenerator(w, latent=4, size=16), True),
        "conditional": Case(
            Generation((4,), samples=40, conditional=True, disagreement=Disagreement(1.0, steps=3, samples=9)),
            lambda w: DcganGenerator(w, latent=4, size=16, classes=K),
            True,
        ),
    },
    Reconstruction: {
        "vectors": Case(
            Reconstruction(
                40,
                bits=True,
                disagreement=Disagreement(0.1, "linf", steps=3, samples=9),
                latent_disagreement=Disagreement(0.5, steps=3, samples=9),
            ),
            lambda w: ConvVae(w, 3, size=16),
            True,
        ),
        "maps": Case(
            Reconstruction(40, bits=True, importance=3), lambda w: SpatialVae(w, 2, channels=1, size=16), True
        ),
        "codes": Case(Reconstruction(40, sampled=False), lambda w: VqVae(w, 2, size=16, codes=5), False),
        "not sampled": Case(Reconstruction(40, sampled=False), lambda w: SpatialVae(w, 2, channels=1, size=16), False),
    },
    Restoration: {
        "super-resolution": Case(Restoration(Downscale(2), samples=20), lambda w: ToyRestorer(w, 2), False),
        "noise, tiles, all sides": Case(
            Restoration(AddNoise(), samples=20, tile=9, self_ensemble=True), ToyRestorer, True
        ),
        "holes, perceptual": Case(
            Restoration(Holes(), samples=20, perceptual=PerceptualDistance(Vgg16(width=2))),
            lambda w: ToyRestorer(w, inputs=2),
            True,
        ),
    },
    Stylization: {
        "one style": Case(style_task("gravel.png"), lambda w: JohnsonStylizer(w, 1), False, 3),
        "styles as pictures": Case(style_task("gravel.png", "brick.png"), by_picture, False, 3),
        "two styles": Case(style_task("gravel.png", "brick.png"), lambda w: JohnsonStylizer(w, 1, 2), False, 3),
    },
    ImageTranslation: {
        "negatives": Case(
            ImageTranslation(samples=20),
            lambda w: TranslationUnet(w, 2, 1, normalization="instance"),
            False,
            paired=True,
        )
    },
    Segmentation: {
        "plain": Case(Segmentation(samples=30), ToySegmenter, False, paired=True),
        "tiles, attacked": Case(
            Segmentation(samples=30, tile=9, overlap=2, tolerance=2, attack=Pgd(steps=2), attacked=15),
            ToySegmenter,
            True,
            paired=True,
        ),
    },
    Classification: {
        "plain": Case(Classification(), lambda w: SmallCnn(width=w, channels=1, size=16, classes=K), False)
    },
}
ALL = [pytest.param(case, id=f"{cls.__name__}: {name}") for cls, cases in CASES.items() for name, case in cases.items()]


def base(metric: str) -> str:
    return metric.partition("[")[0]


def found() -> set[type[Task]]:
    names = every_module("tasks")
    modules = [importlib.import_module(name) for name in names]
    classes = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, Task)}
    return {c for c in classes if not inspect.isabstract(c)}


def test_every_task_has_cases() -> None:
    assert found() and found() == set(CASES)


def test_the_direction_of_a_better_number_is_the_declared_one() -> None:
    """A network that has learnt the labels is better than one that has not, in the declared sense."""
    task, network = Classification(), CASES[Classification]["plain"].build()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    batch = DATA[1].split("train").read(torch.arange(60))
    before = task.evaluate(network, DATA[1], split="train", seed=0)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network.train()(batch.image), batch.label).backward()
        optimizer.step()
    after = task.evaluate(network.eval(), DATA[1], split="train", seed=0)
    better = {name: "higher" if after[name] > before[name] else "lower" for name in ("top1", "nll", "brier")}
    assert better.items() <= task.directions.items()


@pytest.mark.parametrize("case", ALL)
class TestTask:
    def test_every_metric_has_a_direction(self, case: Case) -> None:
        task = case.task
        metrics = case.evaluate(extractor=features(), teacher=case.build(3))
        assert metrics and {base(name) for name in metrics} <= set(task.directions)
        assert set(task.directions.values()) <= {"lower", "higher", "none"}
        assert task.main_metric in {base(name) for name in metrics}
        assert task.directions[task.main_metric] in ("lower", "higher")
        assert all(isinstance(value, float) and not math.isnan(value) for value in metrics.values())

    def test_metrics_of_features_carry_their_name_and_need_them(self, case: Case) -> None:
        with_features, without = case.evaluate(extractor=features()), case.evaluate()
        assert {name for name in with_features if not name.endswith("[tiny]")} == set(without)
        assert all(name.endswith("[tiny]") for name in set(with_features) - set(without))

    def test_a_teacher_adds_the_fidelity_to_it_and_changes_nothing_else(self, case: Case) -> None:
        alone, beside = case.evaluate(), case.evaluate(teacher=case.build(3))
        assert {name: beside[name] for name in alone} == alone
        assert all(base(name).endswith("_to_teacher") or name == "agreement" for name in set(beside) - set(alone))

    def test_the_same_seed_gives_the_same_numbers(self, case: Case) -> None:
        options: dict[str, Any] = {"extractor": features(), "teacher": case.build(3)}
        first = case.evaluate(**options)
        torch.rand(5)  # global random numbers play no part
        assert case.evaluate(**options) == first
        assert (case.evaluate(**options | {"seed": 1}) != first) == case.drawn

    def test_every_split_and_number_of_samples(self, case: Case) -> None:
        whole = case.evaluate()
        assert case.evaluate(split="validation").keys() == case.evaluate(split="train").keys() == whole.keys()
        assert case.evaluate(samples=9).keys() == whole.keys()
        assert case.evaluate(samples=9) != whole

    def test_evaluation_leaves_the_network_as_it_was(self, case: Case) -> None:
        network = case.build()
        before = deepcopy(network.state_dict())
        case.evaluate(network, extractor=features(), teacher=case.build(3))
        case.task.preview(network, case.data, 0)
        case.task.alarm(network, case.data)
        assert differences(before, network.state_dict()) == []
        assert not network.training and all(p.grad is None for p in network.parameters())

    def test_what_is_drawn_reaches_the_method(self, case: Case) -> None:
        task = case.task
        draws = task.draws()
        feed = Feed(Material(case.data.split("train"), task), {}, seed=0, batch=8)
        (batch,) = feed.steps(3, 4)
        assert len(batch) == 8 and set(batch.drawn) == set(draws)
        assert set(batch.fields) == set(task.gives(case.data))
        assert all(batch.drawn[name].shape == (8, *draw.shape) for name, draw in draws.items())
        if "latent" in draws:
            assert batch.latent is batch.drawn["latent"]
        (again,) = Feed(Material(case.data.split("train"), task), {}, seed=0, batch=8).steps(3, 4)
        assert differences(tensors(batch), tensors(again)) == []

    def test_the_example_is_how_the_network_is_called(self, case: Case) -> None:
        inputs = case.task.example(case.data, 5)
        assert {len(tensor) for tensor in inputs} == {5}
        with torch.no_grad():
            assert len(case.task.ready(case.build())(*inputs)) == 5
        assert differences(list(inputs), list(case.task.example(case.data, 5))) == []

    def test_pictures(self, case: Case) -> None:
        pictures = case.task.preview(case.build(), case.data, 0)
        again = case.task.preview(case.build(), case.data, 0)
        other = case.task.preview(case.build(3), case.data, 0)
        assert pictures and len(pictures) == len(other)
        for picture, twin, beside in zip(pictures, again, other, strict=True):
            assert isinstance(picture, Picture) and picture.title and picture.columns >= 1
            assert picture.images.ndim == 4 and picture.images.shape == beside.images.shape
            assert picture.images.abs().max() <= 1 and not picture.images.requires_grad
            assert torch.equal(picture.images, twin.images)

    def test_the_floor_has_names_of_the_evaluation(self, case: Case) -> None:
        floor = case.task.floor(case.data, extractor=features())
        assert set(floor) <= set(case.evaluate(extractor=features()))

    def test_the_alarm_is_a_line_or_nothing(self, case: Case) -> None:
        alarm = case.task.alarm(case.build(), case.data)
        assert alarm is None or (isinstance(alarm, str) and "\n" not in alarm)


def tensors(batch: Any) -> Mapping[str, Any]:
    fields = ("image", "label", "target", "mask", "latent", "index")
    return {name: value for name in fields if (value := getattr(batch, name)) is not None} | dict(batch.drawn)

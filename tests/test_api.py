"""Five lines of Python with somebody else's modules."""

from __future__ import annotations

import ast
import json
import math
import pickle
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import limbeck
from limbeck.api.options import Options, in_python
from limbeck.api.plan import Plan
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import FixedStrength
from limbeck.baselines.classification.oriented_pyramid import OrientedPyramid
from limbeck.data.augmentations.augmentation import Flip
from limbeck.data.degradations.downscale import Downscale
from limbeck.data.degradations.holes import Holes
from limbeck.data.folder import ImageFolder
from limbeck.data.tensors import TensorImages
from limbeck.errors import LimbeckError, RecipeError
from limbeck.losses.hint import Hint
from limbeck.losses.kd import Kd
from limbeck.methods.base import Method
from limbeck.methods.supervised import Supervised
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.given.external import Wrapped
from limbeck.recipe.catalogue import arguments, catalogue
from limbeck.recipe.plan import ArmRecipe
from limbeck.tasks.base import Task
from limbeck.tasks.classification import Classification
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.tasks.restoration import Restoration
from limbeck.tasks.segmentation import Segmentation
from limbeck.tasks.stylization import Stylization
from limbeck.tasks.translation import ImageTranslation
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.worst import Worst

pytestmark = pytest.mark.usefixtures("_blank_drawings")
UNIT = (0, 1)


def theirs(width: int) -> nn.Module:
    """Return a generator that knows nothing of Limbeck; its images are in [0, 1]."""
    return nn.Sequential(
        nn.Linear(6, 16 * width), nn.ReLU(), nn.Unflatten(1, (width, 4, 4)),
        nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


class InUnit(nn.Module):
    """Lets images in [0, 1] pass, and no others."""

    def forward(self, image: Tensor) -> Tensor:
        assert image.min() >= -1e-6 and image.max() <= 1 + 1e-6
        return image


def sorter(width: int) -> nn.Module:
    """Return a classifier of four classes."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)
    )


def in_unit(make: Callable[[int], nn.Module], width: int) -> nn.Module:
    """Return a network that refuses images outside of [0, 1]."""
    return nn.Sequential(InUnit(), make(width))


def filters(width: int, outputs: int = 3, scale: int = 1) -> nn.Module:
    """Return convolutions of images, to images of so many channels and `scale` times the size."""
    last = nn.Conv2d(width, outputs * scale**2, 3, padding=1)
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), last, nn.PixelShuffle(scale))


class Theirs(nn.Module):
    """A variational autoencoder that knows nothing of Limbeck; its images are in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, width), nn.ReLU(), nn.Linear(width, 8))
        self.up = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3 * 256), nn.Sigmoid())

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.down(InUnit()(image)).chunk(2, 1)

    def decode(self, latent: Tensor) -> Tensor:
        return self.up(latent).unflatten(1, (3, 16, 16))

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image)[0])


class Use(NamedTuple):
    """How `distill` is called for a task.

    Attributes:
        task: Makes the task.
        network: Makes a network of some width.
        beside: What stands in the data beside images in [-1, 1], of them and of the teacher.
        options: Further arguments.
        shown: What a network is called with of images in [0, 1].
        said: What is compared of what two networks say.
    """

    task: Callable[[], Task]
    network: Callable[[int], nn.Module]
    beside: Callable[[Tensor, nn.Module], Tensor | None] = lambda image, teacher: None
    options: Mapping[str, Any] = MappingProxyType({})
    shown: Callable[[Tensor], Tensor] = lambda image: image
    said: Callable[[Tensor], Tensor] = lambda answer: answer


def classes(image: Tensor, teacher: nn.Module) -> Tensor:
    return teacher(image).detach().argmax(1)


def translated(image: Tensor, teacher: nn.Module) -> Tensor:
    return teacher(image).detach().clamp(0, 1)


def painter() -> Stylization:
    return Stylization(["style.png"], OrientedPyramid(levels=2), ["level.1"], ["level.0", "level.1"], style_size=32)


SOFTLY = {"weights": {"student.cross_entropy": 0.1}}
USES = {
    "classifier": Use(Classification, partial(in_unit, sorter), classes, SOFTLY, said=nn.Softmax(1)),
    "segmenter": Use(Segmentation, partial(in_unit, filters), classes, SOFTLY, said=nn.Softmax(1)),
    "restorer": Use(lambda: Restoration(Downscale(2)), partial(filters, scale=2), shown=nn.AvgPool2d(2)),
    "translator": Use(ImageTranslation, partial(filters, outputs=1), translated, said=lambda image: image.clamp(0, 1)),
    "stylizer": Use(painter, partial(in_unit, filters), options={"weights": {"student.output": 10.0}}),
    "autoencoder": Use(lambda: Reconstruction(samples=40), Theirs, options={"weights": {"student.output": 10.0}}),
}


@pytest.mark.parametrize("name", USES)
def test_every_task_has_its_five_lines(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain modules of a script: the student comes nearer to its teacher, and the result has all three arms."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save("style.png")
    torch.manual_seed(0)
    use = USES[name]
    teacher, student = use.network(16), use.network(4)
    with torch.no_grad():
        list(teacher.parameters())[-2].mul_(2)  # it says more than an untrained student
    image = torch.rand(100, 3, 1, 1) * torch.rand(100, 1, 16, 16)
    beside = use.beside(image, teacher)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    trained = limbeck.distill(
        teacher, student, image if beside is None else (image, beside), task=use.task(), image_range=(0, 1),
        out="runs/mine", steps=150, batch=16, accelerator="cpu", ema=0.9, **use.options,
        optimizers={"student": partial(torch.optim.Adam, lr=5e-3)},
    )  # fmt: skip
    with torch.no_grad():
        seen = use.shown(image)
        goal = use.said(teacher(seen))
        start, end = ((use.said(network(seen)) - goal).abs().mean() for network in (student, trained))
    assert end < 0.8 * start
    assert type(trained) is type(student) and not trained.training
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    result = json.loads(Path("runs/mine/result.json").read_text())
    assert {"teacher", "control", "student"} <= set(result["arms"])
    assert Path("runs/mine/report.html").exists()


def test_distill_brings_the_student_closer_and_leaves_the_models_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, student = theirs(16), theirs(8)
    with torch.no_grad():
        teacher[3].weight.mul_(3)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    images = teacher(torch.randn(128, 6)).detach()
    trained = limbeck.distill(
        teacher, student, images, latent=(6,), image_range=(0, 1), out=tmp_path / "mine", steps=400, batch=16,
        samples=64, weights={"student.adversarial": 0.0, "student.output": 10.0}, accelerator="cpu",
    )  # fmt: skip
    latent = torch.randn(64, 6)
    with torch.no_grad():
        start = (student(latent) - teacher(latent)).abs().mean()
        end = (trained(latent) - teacher(latent)).abs().mean()
    assert end < 0.85 * start
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert (tmp_path / "mine/report.html").exists()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 20)])
def test_images_need_be_neither_square_nor_a_power_of_two(shape: tuple[int, int, int], tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(6, math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape))

    images = torch.rand(40, *shape) * 2 - 1
    trained = limbeck.distill(
        network(), network(), images, latent=(6,), image_range=(-1, 1), out=tmp_path / "mine", steps=2, batch=8,
        samples=16, accelerator="cpu",
    )  # fmt: skip
    assert trained(torch.randn(2, 6)).shape == (2, *shape)
    assert (tmp_path / "mine/report.html").exists()


def test_a_folder_has_the_shape_of_what_a_generator_makes(tmp_path: Path) -> None:
    for number in range(30):
        Image.new("RGB", (20, 12), (number, 0, 0)).save(tmp_path / f"{number}.png")
    limbeck.distill(
        theirs(4), theirs(2), tmp_path, latent=(6,), image_range=(0, 1), out=tmp_path / "mine", steps=1, batch=4,
        samples=8, control=False, accelerator="cpu",
    )  # fmt: skip
    assert (tmp_path / "mine/student.safetensors").exists()


def test_an_arm_of_distill_is_known_by_all_that_it_is_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, student = (nn.Sequential(theirs(width), nn.Threshold(-1, 0)) for width in (4, 2))  # changes nothing
    images = teacher(torch.randn(40, 6)).detach()

    def worst(strength: float) -> dict[str, Any]:
        attack = Pgd(low=None, high=None, steps=1)
        return {"student.worst_output": Worst(OutputDistance(), attack, FixedStrength(strength))}

    def arms(**changed: Any) -> set[str]:
        given = {"image_range": (0, 1), "terms": worst(0.1), "augment": Flip(), "ema": 0.9} | changed
        limbeck.distill(
            teacher, student, images, latent=(6,), out=tmp_path / "mine", steps=1, batch=4, samples=8, control=False,
            accelerator="cpu", **given,
        )  # fmt: skip
        return {folder.name for folder in (tmp_path / "mine/arms").glob("student-*")}

    first = arms()
    torch.manual_seed(1)  # which a discriminator of its own does not depend on
    assert arms() == first and len(first) == 1
    changes = (
        {"image_range": (0, 1.5)},
        {"terms": worst(0.2)},
        {"terms": {"student.output": OutputDistance(distance="l2")}},
        {"augment": Flip(0.25)},
        {"ema": 0.8},
    )
    for number, changed in enumerate(changes, start=2):
        assert len(arms(**changed)) == number, changed


def test_ours_are_taken_as_they_are_and_theirs_can_be_wrapped_each_in_its_own_way(tmp_path: Path) -> None:
    image, label = torch.rand(60, 3, 32, 32) * 2 - 1, torch.arange(60) % 4
    given = {"task": Classification(), "steps": 1, "batch": 8, "accelerator": "cpu", "control": False}
    ours = SmallCnn(width=4, channels=3, classes=4)
    wrapped = Wrapped(sorter(8), "classifier", mean=(0.5,) * 3, std=(0.2,) * 3)
    small = limbeck.distill(wrapped, ours, (image, label), out=tmp_path / "a", **given)
    assert isinstance(small, SmallCnn)
    feature = Hint({"0": "blocks.0"})
    plain = limbeck.distill(
        ours, sorter(4), ((image + 1) * 127.5, label), out=tmp_path / "b", image_range=(0, 255),
        terms={"student.hint": feature}, **given,
    )  # fmt: skip
    assert isinstance(plain, nn.Sequential)
    with pytest.raises(RecipeError, match="image_range: expected none, as SmallCnn say themselves"):
        limbeck.distill(
            ours, SmallCnn(2, channels=3, classes=4), (image, label), out=tmp_path / "c", image_range=(0, 1), **given
        )


IMAGE = torch.rand(30, 3, 16, 16)
LABEL = torch.arange(30) % 4
CLASSIFIERS = {"teacher": sorter(4), "student": sorter(2), "data": (IMAGE, LABEL), "task": Classification()}
RESTORERS = {"teacher": filters(4, scale=2), "student": filters(2, scale=2), "data": IMAGE} | {
    "task": Restoration(Downscale(2))
}
MASK = IMAGE[:, 0].gt(0.3).long() + IMAGE[:, 0].gt(0.6)
SEGMENTERS = {"teacher": filters(4), "student": filters(2), "data": (IMAGE, MASK)} | {"task": Segmentation()}


class Unmoved(nn.Module):
    """A network without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = sorter(2)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image)


class Nothing(Task):
    """A task that says nothing of how it is taught."""

    example = evaluate = preview = directions = main_metric = None  # type: ignore[assignment]


WRONG = {
    "no range": (CLASSIFIERS, {"image_range": None}, "image_range: expected the range .* the teacher and the student"),
    "too many classes": (
        CLASSIFIERS, {"teacher": nn.Sequential(nn.Flatten(), nn.Linear(768, 9))},
        r"teacher: expected logits \(2, 4\) of tensors for an input \(2, 3, 16, 16\), found \(2, 9\); name the classes",
    ),
    "another student": (CLASSIFIERS, {"student": filters(2)}, r"student: expected logits \(2, 4\) .* \(2, 3, 16, 16\)"),
    "no labels": (CLASSIFIERS, {"data": IMAGE}, "Supervised: expected data with labels, found images in tensors"),
    "labels of others": (CLASSIFIERS, {"data": (IMAGE, LABEL[:5])}, r"expected \(30,\) whole-number labels, found"),
    "two things unknown": (CLASSIFIERS, {"data": (IMAGE, torch.zeros(30, 2))}, r"labels \(N,\), masks \(N, H, W\) or"),
    "an array": (CLASSIFIERS, {"data": np.zeros((9, 4, 4, 4))}, r"images \(N, H, W, C\) .* found \(9, 4, 4, 4\)"),
    "a folder of no size": (CLASSIFIERS, {"data": Path(__file__).parent}, "image_shape: expected .* that the images o"),
    "a shape of two": (CLASSIFIERS, {"image_shape": (3, 16)}, r"image_shape: expected \(C, H, W\), .* \(3, 16\)"),
    "another shape": (CLASSIFIERS, {"image_shape": (3, 8, 8)}, r"image_shape: expected \(3, 16, 16\), as tensors has"),
    "a task by name": (CLASSIFIERS, {"task": "Classification"}, "task: expected a Task, such as Classification"),
    "a task of nobody": (CLASSIFIERS, {"task": Nothing}, "found <class"),
    "no network": (CLASSIFIERS, {"student": "resnet"}, "student: expected a torch.nn.Module, found 'resnet'"),
    "a class as a term": (CLASSIFIERS, {"terms": {"student.logits": Kd}}, "terms: student.logits: expected a term, or"),
    "a term of nobody": (CLASSIFIERS, {"terms": {"peer.logits": Kd()}}, r"terms\.peer\.logits: expected player.NAME"),
    "a path of nobody": (
        CLASSIFIERS, {"terms": {"student.hint": Hint({"9": "0"})}}, r"terms\.student\.hint: .*'9'",
    ),
    "moved": (
        CLASSIFIERS, {"label_smoothing": 0.1},
        r'terms=\{"student.cross_entropy": CrossEntropy\(label_smoothing=...\)\}',
    ),
    "of the task": (CLASSIFIERS, {"robustness": 1}, r"argument of the task, task=Classification\(robustness=...\)"),
    "misspelt": (CLASSIFIERS, {"precison": "bf16"}, r"no such argument 'precison' .*did you mean 'precision'"),
    "of another role": (CLASSIFIERS, {"latent_shape": (3,)}, "latent_shape: expected an argument of a classifier"),
    "of another method": (CLASSIFIERS, {"critic_steps": 2}, "no such argument 'critic_steps' of Supervised"),
    "no teacher": (CLASSIFIERS, {"method": "AdversarialTraining"}, "method: expected one with a teacher"),
    "no player": (CLASSIFIERS, {"optimizers": {"critic": torch.optim.SGD}}, "players student, found 'critic'"),
    "no gradient": (CLASSIFIERS, {"student": Unmoved()}, "the first step fails: .* torch.no_grad"),
    "wrong batch": (CLASSIFIERS, {"batch": 0}, "distill: batch: expected a whole number of at least 1"),
    "another scale": (
        RESTORERS, {"teacher": filters(4, scale=1)}, r"teacher: expected images \(2, 3, 16, 16\) .* \(2, 3, 8, 8\)$",
    ),
    "holes unseen": (RESTORERS, {"task": Restoration(Holes())}, r"cannot be called with an input \(2, 4, 16, 16\)"),
    "no masks": (SEGMENTERS, {"data": IMAGE}, "Segment: expected data with masks, found images"),
    "classes of masks": (SEGMENTERS, {"teacher": filters(4, 2)}, r"teacher: .* logits of pixels \(N, 3, h, w\), found"),
    "no targets": (SEGMENTERS, {"task": ImageTranslation(), "data": IMAGE}, "expected data with targets, found none"),
    "no autoencoder": (
        RESTORERS, {"task": Reconstruction()}, "Sequential: expected an autoencoder with encode and decode, found no",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "change", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said_in_one_line_before_anything_is_trained(
    given: dict[str, Any], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    called = {"image_range": (0, 1), "out": tmp_path / "mine", "batch": 8, "accelerator": "cpu"} | given | change
    with pytest.raises(LimbeckError, match=message) as caught:
        limbeck.distill(**{name: value for name, value in called.items() if value is not None})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mine").exists()


def test_the_classes_of_a_few_images_can_be_named(tmp_path: Path) -> None:
    few = TensorImages(IMAGE, LABEL.clamp(max=2), classes="abcd", image_range=(0, 1))
    given = CLASSIFIERS | {"data": few, "image_range": (0, 1), "steps": 1, "batch": 8, "control": False}
    limbeck.distill(**given, out=tmp_path / "mine", accelerator="cpu")  # type: ignore[arg-type]
    assert (tmp_path / "mine/result.json").exists()


@pytest.mark.parametrize(
    ("cls", "name"), [(cls, name) for cls in catalogue(Method) for name in cls.moved_arguments], ids=str
)
def test_what_has_moved_is_spelt_in_python(cls: type[Method], name: str) -> None:
    text = in_python(cls.moved_arguments[name])
    assert "class_path" not in text and "init_args" not in text
    call = ast.parse(f"f({text})", mode="eval").body
    assert isinstance(call, ast.Call) and [keyword.arg for keyword in call.keywords] == ["terms"]
    terms = call.keywords[0].value
    assert isinstance(terms, ast.Dict)
    assert [ast.literal_eval(key) for key in terms.keys if key] == re.findall(r"\w+\.\w+(?=:)", text.replace('"', ""))


def test_a_folder_may_be_of_classes(tmp_path: Path) -> None:
    for number in range(24):
        folder = tmp_path / "pictures" / "abcd"[number % 4]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (10 * number, 0, 0)).save(folder / f"{number}.png")
    given = CLASSIFIERS | {"image_range": (0, 1), "steps": 1, "batch": 4, "control": False, "accelerator": "cpu"}
    folder = tmp_path / "pictures"
    limbeck.distill(**given | {"data": str(folder), "image_shape": (3, 16, 16)}, out=tmp_path / "a")  # type: ignore[arg-type]
    limbeck.distill(**given | {"data": ImageFolder(str(folder), 16)}, out=tmp_path / "b")  # type: ignore[arg-type]
    names = [{arm.name for arm in (tmp_path / run / "arms").iterdir()} for run in "ab"]
    assert all(any(name.startswith("student-") for name in found) for found in names)


def test_an_arm_can_be_sent_to_another_process() -> None:
    told = Options(method={}, networks={}, training={"processes": 2}, view={"image_range": (0, 1)})
    plan = Plan(
        Classification(), TensorImages(IMAGE, LABEL, image_range=(0, 1)), Supervised, told, {"student.logits": Kd(2.0)}
    )
    arm = plan.student(sorter(2), steps=1, batch=8, weights={})
    sent: ArmRecipe = pickle.loads(pickle.dumps(arm))
    network, again = arm.network.build(), sent.network.build()
    assert torch.equal(network(IMAGE), again(IMAGE)) and sent.description() == arm.description()
    assert set(sent.assemble({"student": again}, {"student": network}).terms) == {
        "student.cross_entropy", "student.logits",
    }  # fmt: skip


@pytest.mark.parametrize("cls", catalogue(Task), ids=lambda cls: cls.__name__)
def test_every_task_says_how_it_is_taught(cls: type[Task]) -> None:
    """Its method is there and learns from a teacher, and it says what is called how, and what has to be answered."""
    known = {method.__name__: method for method in catalogue(Method)}
    assert cls.method in known and "teacher" in arguments(known[cls.method])
    assert cls.called is not Task.called and cls.answers in ("images", known[cls.method].answers)

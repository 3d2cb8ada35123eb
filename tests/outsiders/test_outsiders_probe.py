"""What outsiders bring as networks: each answers as it is said to, or one line says what it does instead.

Every row is a small recipe. `prepare` builds and probes it, and nothing is trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from limbeck.attacks.base import Attack
from limbeck.attacks.fgsm import Fgsm
from limbeck.attacks.mixture import AttackMixture
from limbeck.attacks.noise import GaussianNoise, UniformNoise
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import FixedStrength, ScheduledStrength, SteeredStrength, Strength
from limbeck.cli import main
from limbeck.errors import LimbeckError, RecipeError
from limbeck.ground.progress import say_once
from limbeck.methods.adversarial import AdversarialTraining
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.networks.given.external import Import, Wrapped
from limbeck.networks.segmenters.unet import UNet
from limbeck.recipe.reader import read_recipe
from limbeck.run.applying import apply_to
from limbeck.run.preparing import prepare
from limbeck.tasks.disagreement import Disagreement
from limbeck.tasks.reconstruction import Reconstruction
from limbeck.tasks.robustness import Robustness

NETS = '''
import torch
from torch import nn

ENDS = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "clamp": lambda x: x.clamp(0, 1),
    "moved": lambda x: (x.tanh() + 1) / 2,
    "bytes": lambda x: 127.5 * (x.tanh() + 1),
    "nearly": lambda x: 1.04 * x.sigmoid() - 0.02,
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(1),
    "half_softmax": lambda x: x.half().softmax(1),
    "nan": lambda x: x / 0 * 0,
}

def kind(name):
    return getattr(torch, name)

class Generator(nn.Module):
    """Latents (N, 8) to images (N, 3, 16, 16)."""
    def __init__(self, end="linear", gain=3.0, dtype="float32"):
        super().__init__()
        self.up, self.end, self.gain = nn.Linear(8, 768), end, gain
        self.to(kind(dtype))
    def forward(self, z):
        return ENDS[self.end](self.gain * self.up(z)).view(-1, 3, 16, 16)

class Filter(nn.Module):
    """Images (N, inputs, H, W) to others, resized by `scale`."""
    def __init__(self, end="linear", inputs=3, outputs=3, scale=1.0, dtype="float32"):
        super().__init__()
        self.net, self.end, self.scale = nn.Conv2d(inputs, outputs, 3, padding=1), end, scale
        self.to(kind(dtype))
    def forward(self, x):
        if self.scale != 1:
            x = nn.functional.interpolate(x, scale_factor=self.scale)
        return ENDS[self.end](3 * self.net(x))

class Sorter(nn.Module):
    """Images (N, channels, H, W) to numbers of classes."""
    def __init__(self, end="linear", classes=3, channels=3, dtype="float32", frozen=False):
        super().__init__()
        self.a, self.norm, self.head = nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, classes)
        self.end = end
        self.to(kind(dtype)).requires_grad_(not frozen)
    def forward(self, x):
        return ENDS[self.end](self.head(self.norm(self.a(x)).relu().mean((2, 3))))

class Squeezed(Sorter):
    """Loses the batch where it is of one image."""
    def forward(self, x):
        return super().forward(x).squeeze()

class Unmoved(Sorter):
    """Runs without gradients."""
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)

class Pooled(nn.Module):
    """Batch norm of one value an image."""
    def __init__(self, classes=3):
        super().__init__()
        self.a, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, classes)
    def forward(self, x):
        return self.head(self.norm(self.a(x).mean((2, 3))))

class Coder(nn.Module):
    """Images (N, 3, 16, 16) to mean and log variance, and latents to images."""
    def __init__(self, end="sigmoid", dtype="float32"):
        super().__init__()
        self.down, self.up, self.end = nn.Linear(768, 8), nn.Linear(4, 768), end
        self.to(kind(dtype))
    def encode(self, x):
        return self.down(x.flatten(1))
    def decode(self, z):
        return ENDS[self.end](3 * self.up(z)).view(-1, 3, 16, 16)
'''
DATA = {"class_path": "Glyphs", "init_args": {"channels": 3, "classes": "ABC", "train": 32, "validation": 8, "test": 8}}
SIZE = {"size": 16}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    say_once.cache_clear()


def imported(name: str, role: str | None, called: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """A network of `nets.py` in a role (None for an autoencoder), called in some way."""
    told = {"target": f"nets.py:{name}", "arguments": arguments, **called}
    if role is None:
        return {"class_path": "ImportAutoencoder", "init_args": {**told, "image_shape": [3, 16, 16]}}
    return {"class_path": "Import", "init_args": {**told, "role": role}}


def with_weights(network: dict[str, Any]) -> dict[str, Any]:
    """The network with a file of weights: for Limbeck it is trained."""
    given = network["init_args"]
    classes: dict[str, Any] = {}
    exec(NETS, classes)
    torch.manual_seed(0)
    torch.save(classes[given["target"].partition(":")[2]](**given["arguments"]).state_dict(), "given.pth")
    return {**network, "init_args": {**given, "weights": "given.pth"}}


def part(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


# The task, the method and a network of ours, by role.
ARMS: dict[str, tuple[Any, Any, Any]] = {
    "generator": (
        part("Generation", latent=[8], samples=8),
        "Gan",
        part("DcganGenerator", width=2, latent=8, channels=3, **SIZE),
    ),
    "restorer": (
        part("Restoration", degradation=part("Downscale", scale=4)),
        "Restore",
        part("Imdn", width=4, blocks=1, scale=4),
    ),
    "inpainter": (
        part("Restoration", degradation=part("Holes")),
        "Restore",
        part("InpaintingUnet", width=4, halvings=1),
    ),
    "classifier": ("Classification", "Supervised", part("SmallCnn", width=2, channels=3, classes=3, **SIZE)),
    "segmenter": ("Segmentation", "Segment", part("UNet", width=2, depth=1, channels=3, classes=4)),
    "autoencoder": (
        part("Reconstruction", samples=8),
        part("Vae", terms={"student.reconstruction": part("ReconstructionLoss", likelihood="l1")}),
        part("ConvVae", width=2, channels=3, latent=4, **SIZE),
    ),
}
CRITIC = part("DcganDiscriminator", width=2, channels=3, **SIZE)


def recipe(kind: str, *, teacher: Any = None, student: Any = None, batch: int = 8, **training: Any) -> dict[str, Any]:
    """A recipe of a task with a given teacher, or of a student alone."""
    task, method, ours = ARMS[kind]
    arm = {"network": student or ours, "training": {"steps": 1, "batch": batch, **training}}
    data = {**DATA, "init_args": {**DATA["init_args"], **SIZE}}
    tree = {"name": "tiny", "data": data, "task": task, "method": method, "student": arm, "control": False}
    if kind == "generator":
        tree["networks"] = {"discriminator": CRITIC}
    return tree if teacher is None else tree | {"teacher": {"network": teacher}}


def written(tree: dict[str, Any]) -> str:
    Path("recipe.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return "recipe.yaml"


def probed(tree: dict[str, Any]) -> None:
    prepare(read_recipe(written(tree)), Path("out"), accelerator="cpu")


def refused_or_not(tree: dict[str, Any], says: str) -> None:
    """Probe a recipe; it works where there is nothing to say, and else is refused with these words."""
    if not says:
        probed(tree)
        return
    with pytest.raises(LimbeckError) as caught:
        probed(tree)
    assert says in str(caught.value) and "\n" not in str(caught.value)


# How the network answers, in which role and range, with weights or not; what is said, nothing where all is well.
TO_UNIT, TO_OURS = "say image_range: [0, 1]", "say image_range: [-1, 1]"
RANGES = [
    ("sigmoid", "generator", (-1, 1), False, TO_UNIT),
    ("sigmoid", "generator", (0, 1), False, ""),
    ("sigmoid", "generator", (0, 255), True, TO_UNIT),
    ("sigmoid", "restorer", (-1, 1), False, TO_UNIT),
    ("sigmoid", "autoencoder", (-1, 1), False, TO_UNIT),
    ("sigmoid", "autoencoder", (0, 1), True, ""),
    ("tanh", "generator", (0, 1), False, TO_OURS),
    ("tanh", "generator", (-1, 1), True, ""),
    ("tanh", "restorer", (0, 1), True, TO_OURS),
    ("tanh", "autoencoder", (0, 1), False, TO_OURS),
    ("relu", "generator", (-1, 1), False, "a relu at its end, which gives nothing below 0"),
    ("clamp", "generator", (-1, 1), True, TO_UNIT),
    ("moved", "generator", (-1, 1), True, "to 1 in 16 images; say image_range: [0, 1]"),
    ("moved", "autoencoder", (-1, 1), True, TO_UNIT),
    ("moved", "generator", (0, 255), True, TO_UNIT),
    ("moved", "generator", (0, 1), True, ""),
    ("nearly", "generator", (0, 1), True, ""),
    ("nearly", "restorer", (-1, 1), True, TO_UNIT),
    ("bytes", "generator", (0, 1), True, "say image_range: [0, 255]"),
    ("bytes", "generator", (0, 255), True, ""),
    ("linear", "generator", (0, 1), True, ""),
    ("linear", "generator", (0, 1), False, ""),
    ("linear", "generator", (0, 255), False, ""),
    ("nan", "generator", (0, 1), True, "teacher.network: expected numbers, found NaN or infinity"),
]


@pytest.mark.parametrize(("end", "kind", "image_range", "trained", "says"), RANGES)
def test_images_are_in_the_range_that_is_said(
    end: str, kind: str, image_range: tuple[float, float], trained: bool, says: str
) -> None:
    name, role = {"generator": ("Generator", kind), "restorer": ("Filter", kind), "autoencoder": ("Coder", None)}[kind]
    called: dict[str, Any] = {"image_range": list(image_range)}
    if kind == "restorer":
        called["scale"] = 4
    network = imported(name, role, called, end=end, **({"scale": 4} if kind == "restorer" else {}))
    if trained:
        refused_or_not(recipe(kind, teacher=with_weights(network)), says)
    else:
        refused_or_not(recipe(kind, student=network), says)


def test_what_is_only_likely_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    probed(recipe("restorer", student=imported("Filter", "restorer", {"scale": 4}, end="moved", scale=4)))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Filter: its image_range is [-1, 1], but it made values from 0.") == 1
    assert "is its range another?" in said
    wild = with_weights(imported("Generator", "generator", {"image_range": [0, 1]}))
    probed(recipe("generator", teacher=wild))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Generator: its image_range is [0, 1], but it made values from -") == 1


# How the network answers, in which role, called in which way; what is said.
PROBABILITIES = "expected logits, found probabilities"
OUTPUTS = [
    ("softmax", "classifier", {}, PROBABILITIES),
    ("softmax", "classifier", {"outputs": "probabilities"}, ""),
    ("half_softmax", "classifier", {}, PROBABILITIES),
    ("softmax", "segmenter", {}, PROBABILITIES),
    ("softmax", "segmenter", {"outputs": "probabilities"}, ""),
    ("log_softmax", "classifier", {}, ""),
    ("linear", "classifier", {}, ""),
    ("linear", "segmenter", {}, ""),
    ("linear", "classifier", {"outputs": "probabilities"}, "expected probabilities, as `outputs` says, found a small"),
    ("sigmoid", "classifier", {"outputs": "probabilities"}, "sums over the classes that are off 1 by"),
    ("linear", "classifier", {"outputs": "odds"}, "expected 'logits' or 'probabilities', found 'odds'"),
]


def sorter(end: str, kind: str, called: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "segmenter":
        return imported("Filter", kind, {"image_shape": [3, 16, 16], "classes": 4, **called}, end=end, outputs=4)
    return imported("Sorter", kind, {"image_shape": [3, 16, 16], **called}, end=end)


@pytest.mark.parametrize(("end", "kind", "called", "says"), OUTPUTS)
@pytest.mark.parametrize("trained", [False, True])
def test_classes_are_told_by_logits(end: str, kind: str, called: dict[str, Any], trained: bool, says: str) -> None:
    network = sorter(end, kind, called)
    tree = recipe(kind, teacher=with_weights(network)) if trained else recipe(kind, student=network)
    refused_or_not(tree, says)


def test_a_mistake_of_a_student_is_told_under_its_name() -> None:
    """Its control has the same network, which the recipe does not name."""
    teacher = imported("Sorter", "classifier", {"image_shape": [3, 16, 16]})
    student = sorter("softmax", "classifier", {})
    tree = recipe("classifier", teacher=with_weights(teacher), student=student) | {"control": True}
    with pytest.raises(LimbeckError, match=r"^student\.network: "):
        probed(tree)


def test_a_baseline_and_a_member_of_an_ensemble_are_looked_at_too() -> None:
    given = with_weights(sorter("softmax", "classifier", {"classes": 3}))
    refused_or_not(
        recipe("classifier") | {"baselines": {"theirs": given}}, f"baselines.theirs: Sorter: {PROBABILITIES}"
    )
    ensemble = {"class_path": "Ensemble", "init_args": {"members": [given, given]}}
    refused_or_not(recipe("classifier", teacher=ensemble), f"teacher.network: Sorter: {PROBABILITIES}")


@pytest.mark.parametrize("trained", [False, True])
def test_a_sigmoid_of_each_class_is_said(trained: bool, capsys: pytest.CaptureFixture[str]) -> None:
    network = sorter("sigmoid", "classifier", {})
    probed(recipe("classifier", teacher=with_weights(network)) if trained else recipe("classifier", student=network))
    said = " ".join(capsys.readouterr().err.split())
    assert "Sorter: expected logits, found numbers in [0, 1]; if it ends in a sigmoid, take that away" in said


@pytest.mark.parametrize(("role", "layers"), [
    ("classifier", [nn.Flatten(), nn.Linear(12, 5)]),
    ("segmenter", [nn.Conv2d(3, 5, 1)]),
])  # fmt: skip
def test_logits_of_probabilities_have_them_as_their_softmax(role: str, layers: list[nn.Module]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*layers, nn.Softmax(1))
    image = 30 * torch.randn(6, 3, 2, 2)  # so sure that some are 0
    logits = Wrapped(net, role, outputs="probabilities")(image)
    torch.testing.assert_close(logits.softmax(1), net(image))
    assert logits.isfinite().all() and logits.max() <= 0


# What the network really makes, and what is said of it. The degradation is a scale of 4.
SIZES = [
    ("restorer", {"scale": 4}, {}, "says scale"),
    ("restorer", {"scale": 4}, {"scale": 2}, "as it has channels: 3 and scale: 2, found (3, 16, 16); say scale: 4"),
    ("restorer", {"scale": 4}, {"scale": 4}, ""),
    (
        "restorer",
        {"scale": 2},
        {"scale": 2},
        "expected images (3, 16, 16) of glyphs for an input (3, 4, 4), found (3, 8",
    ),
    ("restorer", {"scale": 2.5}, {"scale": 2}, "a restorer's images are a whole number of times as large"),
    ("restorer", {"scale": 4, "outputs": 1}, {"scale": 4}, "found (1, 16, 16); say channels: 1"),
    ("restorer", {"scale": 4, "outputs": 1}, {}, "say channels: 1 and scale: 4"),
    ("restorer", {"scale": 4, "inputs": 4}, {"scale": 4}, "teacher.network: cannot be run: RuntimeError"),
    ("inpainter", {"inputs": 4}, {"inputs": 4}, ""),
    ("inpainter", {"inputs": 4, "scale": 2}, {"inputs": 4}, "say scale: 2"),
    ("inpainter", {"inputs": 3}, {"inputs": 3}, "teacher.network: cannot be run: RuntimeError"),
]


@pytest.mark.parametrize(("kind", "net", "called", "says"), SIZES)
def test_images_are_as_large_as_is_said(kind: str, net: dict[str, Any], called: dict[str, Any], says: str) -> None:
    says = "found (3, 16, 16); say scale: 4" if says == "says scale" else says
    network = imported("Filter", "restorer", called, end="tanh", **net)
    refused_or_not(recipe(kind, teacher=with_weights(network)), says)


def stylized(called: dict[str, Any], **net: Any) -> dict[str, Any]:
    """A recipe of a stylizer to train."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save("style.png")
    features = {"class_path": "Vgg16", "init_args": {"width": 2}}
    painted = {"styles": ["style.png"], "style_size": 32}
    task = {"class_path": "Stylization", "init_args": {**painted, "feature_network": features, "samples": 4}}
    method = {"class_path": "Stylize", "init_args": painted}
    tree = recipe("classifier", student=imported("Filter", "stylizer", called, **net))
    data = {**DATA, "init_args": {**DATA["init_args"], "size": 32}}
    return tree | {"task": task, "method": method, "networks": {"feature_network": features}, "data": data}


PAINTED = [
    (
        {"scale": 0.5},
        {},
        "student.network: Filter: expected paintings (3, 32, 32) (C, H, W) as the images, found (3, 16",
    ),
    ({"outputs": 1}, {}, "expected paintings (3, 32, 32) (C, H, W) as the images, found (1, 32, 32)"),
    ({"end": "sigmoid"}, {}, TO_UNIT),
    ({"end": "tanh"}, {"image_range": [0, 1]}, TO_OURS),
    ({"end": "sigmoid"}, {"image_range": [0, 1]}, ""),
]


@pytest.mark.parametrize(("net", "called", "says"), PAINTED)
def test_paintings_are_of_the_size_and_range_of_the_images(
    net: dict[str, Any], called: dict[str, Any], says: str
) -> None:
    refused_or_not(stylized(called, **net), says)


DTYPES = ["float16", "bfloat16", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "name", "role"),
    [("classifier", "Sorter", "classifier"), ("generator", "Generator", "generator"), ("autoencoder", "Coder", None)],
)
def test_networks_in_another_precision_are_brought_to_float32(
    kind: str, name: str, role: str | None, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    end = "linear" if kind == "classifier" else "sigmoid"
    called = {} if kind == "classifier" else {"image_range": [0, 1]}
    network = with_weights(imported(name, role, called, dtype=dtype, end=end))
    probed(recipe(kind, teacher=network))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count(f"{name}: its weights are in {dtype}, and are brought to float32") == 1


def test_a_network_in_half_precision_answers_as_its_weights_say() -> None:
    path = with_weights(imported("Sorter", "classifier", {}, dtype="float16"))["init_args"]
    network = Import(**path).eval()
    state = torch.load("given.pth", weights_only=True)
    assert all(torch.equal(value.float(), network.module.state_dict()[name].float()) for name, value in state.items())
    assert network(torch.rand(2, 3, 16, 16)).dtype == torch.float32


# The network, how it is called and trained, and what is said.
TAUGHT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "as many classes": ({"classes": 3}, {}, ""),
    "more classes": ({"classes": 5}, {}, "student: Kd: expected logits of the same classes, found 3"),
    "fewer classes": ({"classes": 2}, {}, "expected logits (3,) of glyphs for an input (3, 16, 16), found (2,)"),
    "others than said": ({"classes": 5}, {"classes": 3}, "found an output of (16, 5); say classes: 5"),
    "a batch of one": ({"name": "Squeezed"}, {}, "expected (1, 3) for a batch of one, found (3,); does it squeeze()"),
    "grey": ({"channels": 1}, {}, "Sorter cannot be called with images of shape (2, 3, 16, 16)"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAUGHT)
def test_a_teacher_knows_the_classes_and_the_images_of_the_data(name: str) -> None:
    net, called, says = TAUGHT[name]
    terms = {"class_path": "Supervised", "init_args": {"terms": {"student.logits": "Kd"}}}
    teacher = with_weights(imported(**{"name": "Sorter", "role": "classifier", "called": called, **net}))
    refused_or_not(recipe("classifier", teacher=teacher) | {"method": terms}, says)


# The network, its training, and what is said.
TRAINED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one value per batch norm": (imported("Pooled", "classifier", {}), {"batch": 1}, "make training.batch larger"),
    "one in each micro-batch": (imported("Pooled", "classifier", {}), {"batch": 4, "micro_batches": 4}, "batch norm"),
    "one in each process": (imported("Pooled", "classifier", {}), {"batch": 2, "processes": 2}, "batch norm"),
    "two values": (imported("Pooled", "classifier", {}), {"batch": 2}, ""),
    "many values of one image": (imported("Sorter", "classifier", {}), {"batch": 1}, ""),
    "frozen": (imported("Sorter", "classifier", {}, frozen=True), {}, "expected parameters to train, found none"),
    "without gradients": (imported("Unmoved", "classifier", {}), {}, "does a forward pass run under torch.no_grad?"),
    "without parameters": (
        {"class_path": "Import", "init_args": {"target": "torch.nn.Flatten", "role": "classifier"}},
        {},
        "Import has no parameters to train; leave out `training`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_the_first_step_can_be_taken(name: str) -> None:
    network, training, says = TRAINED[name]
    refused_or_not(recipe("classifier", student=network, **training), says)


def test_a_probe_moves_nothing() -> None:
    tree = recipe("classifier", student=imported("Sorter", "classifier", {}))
    read = read_recipe(written(tree))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    prepare(read, Path("out"), accelerator="cpu")
    assert torch.equal(torch.get_rng_state(), before) and not list(Path("out").rglob("*.safetensors"))


# Where each verb meets a teacher that cannot be called, a step that cannot be taken, and an answer that cannot be.
VERBS: dict[str, list[str]] = {
    "run": [],
    "check": [],
    "train": ["--arm", "teacher"],
    "evaluate": ["--arm", "teacher"],
    "sample": ["--arm", "teacher"],
}
BROKEN: dict[str, Callable[[], dict[str, Any]]] = {
    "cannot be called with images": lambda: recipe(
        "classifier", teacher=with_weights(imported("Sorter", "classifier", {}, channels=1))
    ),
    "make training.batch larger": lambda: recipe(
        "classifier", teacher=with_weights(imported("Sorter", "classifier", {})),
        student=imported("Pooled", "classifier", {}), batch=1,
    ),
    PROBABILITIES: lambda: recipe("classifier", teacher=with_weights(sorter("softmax", "classifier", {}))),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("says", BROKEN)
def test_every_verb_has_the_same_clear_line(says: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [verb, written(BROKEN[says]()), *VERBS[verb], "--accelerator", "cpu"]
    if verb != "check":
        words += ["--out", "out"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert says in " ".join(said.split()) and "Traceback" not in said


# An attack or what uses one, and what is said; nothing where all is well.
GUARD = "0.0627 here"


def trained_at(strength: Strength, attack: Attack | None = None) -> object:
    return AdversarialTraining(SmallCnn(width=2, classes=3, size=16), attack=attack, strength=strength)


ATTACKS: dict[str, tuple[Callable[[], object], str]] = {
    "pgd": (lambda: Pgd(8, 2), GUARD),
    "fgsm": (lambda: Fgsm(8), GUARD),
    "uniform": (lambda: UniformNoise(8), GUARD),
    "gaussian of 25 of 255": (lambda: GaussianNoise(25), "what a paper calls 25/255 is 0.1961 here"),
    "images in [0, 1]": (lambda: Fgsm(8, low=0, high=1), "in [0, 1], found 8; what a paper calls 8/255 is 0.0314"),
    "more than grey": (lambda: Pgd(1.01, 0.1), "expected at most 1"),
    "to grey": (lambda: Pgd(1.0, 0.1), ""),
    "a length": (lambda: Pgd(8, 1, norm="l2"), ""),
    "latents": (lambda: Pgd(8, 1, low=None, high=None), ""),
    "a task": (lambda: Robustness(8), "Robustness.radius: expected at most 1"),
    "a task of lengths": (lambda: Robustness(8, "l2"), ""),
    "a disagreement of images": (lambda: Reconstruction(disagreement=Disagreement(8, "linf")), GUARD),
    "a disagreement of latents": (lambda: Reconstruction(latent_disagreement=Disagreement(8, "linf")), ""),
    "a strength": (lambda: trained_at(FixedStrength(8)), "Pgd.strength: expected at most 1"),
    "a strength that rises": (lambda: trained_at(ScheduledStrength(0, 8, 10)), GUARD),
    "a strength that is steered": (lambda: trained_at(SteeredStrength(2, 1, 8)), GUARD),
    "a strength of a mixture": (lambda: trained_at(FixedStrength(8), AttackMixture([Fgsm(), UniformNoise()])), GUARD),
    "a strength that is right": (lambda: trained_at(FixedStrength(0.06)), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_strengths_are_in_units_of_the_input(name: str) -> None:
    make, says = ATTACKS[name]
    if not says:
        make()
        return
    with pytest.raises(RecipeError, match=re.escape(says)):
        make()


def test_a_length_longer_than_the_way_to_grey_is_refused() -> None:
    def loss(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1)

    image = torch.zeros(2, 3, 8, 8)  # √192 = 13.86
    for radius, says in ((13, ""), (128, "Pgd.radius: expected at most 13.86")):
        attack = partial(Pgd(radius, 1, 1, "l2", random_start=False), loss, image, {})
        if not says:
            attack()
            continue
        with pytest.raises(RecipeError, match=says):
            attack()


def student_of(kind: str) -> Path:
    """Train a student, and return its file."""
    assert main(["run", written(recipe(kind)), "--out", "out", "--accelerator", "cpu"]) == 0
    return Path("out/student.safetensors")


def test_apply_says_which_verb_a_classifier_has(capsys: pytest.CaptureFixture[str]) -> None:
    model = student_of("classifier")
    Image.new("RGB", (16, 16)).save("a.png")
    assert main(["apply", str(model), "a.png", "--out", "made"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "found SmallCnn, a classifier; `limbeck evaluate RECIPE` measures it" in said and not Path("made").exists()


# A network, and what `apply` says of it; nothing where it makes an image.
APPLIED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a generator": (lambda: DcganGenerator(2, 8, size=16), "a generator; `limbeck sample RECIPE` writes what it makes"),
    "a discriminator": (lambda: DcganDiscriminator(2, size=16), "found DcganDiscriminator, a discriminator; it only"),
    "theirs": (lambda: Wrapped(nn.Flatten(), "classifier"), "found Flatten, a classifier; `limbeck evaluate"),
    "their generator": (lambda: Wrapped(nn.Flatten(), "generator"), "found Flatten, a generator; `limbeck sample"),
    "no image": (nn.Flatten, "Flatten: expected one image of an image, found (1, 1200)"),
    "another size": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 9)), "a.png: Sequential cannot be run on it"),
    "their restorer": (lambda: Wrapped(nn.Identity(), "restorer"), ""),
    "a segmenter": (lambda: UNet(2, depth=1, channels=3, classes=3), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", APPLIED)
def test_apply_is_for_what_makes_images_of_images(name: str) -> None:
    make, says = APPLIED[name]
    Image.new("RGB", (20, 20)).save("a.png")
    torch.manual_seed(0)
    made = apply_to(make(), Path("a.png"), Path("made"), torch.device("cpu"))
    if not says:
        assert list(made) == [Path("made/a.png")]
        return
    with pytest.raises(LimbeckError, match=re.escape(says)):
        list(made)


# Bad files among good ones, and how each is told.
@pytest.mark.parametrize("cut", [b"", b"\x89PNG\r\n\x1a\n", b"text"])
def test_apply_does_the_good_images_and_names_the_bad(cut: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    model = student_of("restorer")
    capsys.readouterr()
    Path("in/deep").mkdir(parents=True)
    for name in ("a.png", "deep/c.png"):
        Image.new("RGB", (16, 16)).save(Path("in") / name)
    Path("in/b.png").write_bytes(cut)
    assert main(["apply", str(model), "in", "--out", "made"]) == 2
    done, said = capsys.readouterr()
    assert done.splitlines() == ["made/a.png", "made/deep/c.png"]
    assert {str(file) for file in Path("made").rglob("*.png")} == set(done.splitlines())
    assert "1 of 3 images are left out, the others are done: in/b.png: cannot be decoded" in " ".join(said.split())
    assert main(["apply", str(model), "in/b.png", "--out", "alone"]) == 2
    assert "limbeck: in/b.png: cannot be decoded" in " ".join(capsys.readouterr().err.split())

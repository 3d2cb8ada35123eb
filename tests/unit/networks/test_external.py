"""Somebody else's networks, called as their role, from objects, import paths, files and real weight files."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, WeightsError
from limbeck.networks.gan.dcgan import DcganGenerator
from limbeck.networks.given.external import External, Import, Wrapped, unwrap
from limbeck.networks.given.weights import load_weights, save_weights
from limbeck.networks.handling.tap import Tap
from limbeck.networks.roles import stated

SCRIPT = '''
"""Somebody's own script, which knows nothing of Limbeck."""
import torch
from torch import nn
from neighbour import GAIN

class TheirGenerator(nn.Module):
    def __init__(self, depth, width=8):
        super().__init__()
        self.depth = depth
        self.net = nn.Sequential(nn.ConvTranspose2d(depth, width, 4), nn.ReLU(), nn.ConvTranspose2d(width, 3, 4, 4))

    def forward(self, z):
        assert z.shape[1:] == (self.depth, 1, 1)
        return GAIN * self.net(z).sigmoid()

def make(depth):
    return TheirGenerator(depth)

def broken():
    raise ValueError("no such\\nluck")

def __getattr__(name):
    if name == "Lazy":
        return nn.Identity
    raise AttributeError(name)

def nothing():
    return 3
'''


DEPTH = '''
from limbeck.networks.given.called_as.base import CalledAs

class AsDepth(CalledAs):
    """Images in, how far away every pixel is out, at most `far`."""

    role = "depth"

    def __init__(self, image_range: tuple[float, float] = (-1.0, 1.0), *, far: float = 1.0) -> None:
        super().__init__(image_range)
        self.far = far

    def states(self):
        return {**super().states(), "far": self.far}

    def __call__(self, module, value, label):
        return self.far * self.tensor(module, module(self.to_theirs(value)))
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("GAIN = 255.0\n")
    path = tmp_path / "theirs.py"
    path.write_text(SCRIPT)
    return path


class Conditional(nn.Module):
    """Score of an image in [0, 1] for a label: (label + 1) * mean, as (N, 1)."""

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return (label + 1).view(-1, 1) * image.mean((1, 2, 3)).view(-1, 1)


def test_a_generator_is_converted_from_its_range() -> None:
    flat = Wrapped(nn.Hardtanh(0, 255), image_range=(0, 255), latent_shape=(3, 1, 1))
    image = flat(torch.tensor([[0.0, 127.5, 255.0], [300.0, 51.0, -9.0]]))
    assert image.shape == (2, 3, 1, 1)
    torch.testing.assert_close(image.flatten(1), torch.tensor([[-1.0, 0.0, 1.0], [1.0, -0.6, -1.0]]))


def test_a_network_in_our_range_is_called_unchanged() -> None:
    net = DcganGenerator(width=4, latent=8)
    latent = torch.randn(3, 8)
    assert torch.equal(Wrapped(net)(latent), net(latent))


def test_a_classifier_sees_its_range_and_gives_its_features() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Identity()
            self.head = nn.Linear(2, 5)

        def forward(self, image: Tensor) -> Tensor:
            assert image.min() >= 0 and image.max() <= 1
            return self.head(self.maps(image).mean((2, 3)))

    net = Wrapped(Net(), role="classifier", image_range=(0.0, 1.0), features="maps", classes=5)
    image = torch.rand(3, 2, 4, 4) * 2 - 1
    assert net(image).shape == (3, 5)
    torch.testing.assert_close(net.features(image), (image.mean((2, 3)) + 1) / 2)
    with pytest.raises(RecipeError, match="say by `features`"):
        Wrapped(Net(), role="classifier").features(image)
    with pytest.raises(RecipeError, match=r"feature path 'mapz'.*did you mean 'maps'"):
        Wrapped(Net(), role="classifier", features="mapz")


def test_a_discriminator_gives_one_score_and_gets_the_label() -> None:
    net = Wrapped(Conditional(), role="discriminator", image_range=(0, 1), classes=10)
    score = net(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 9]))
    torch.testing.assert_close(score, torch.tensor([0.5, 1.0, 5.0]))
    patches = Wrapped(nn.Conv2d(1, 1, 3), role="discriminator")
    with pytest.raises(RecipeError, match=r"one score an image, found an output of \(2, 1, 6, 6\)"):
        patches(torch.zeros(2, 1, 8, 8))


def test_a_restorer_sees_and_makes_its_range() -> None:
    class Twice(nn.Module):
        """Fills holes white and enlarges, in [0, 1]."""

        def forward(self, image: Tensor) -> Tensor:
            assert image.min() == 0 and image.max() == 1
            filled = torch.where(image[:, 1:] == 1, 1.0, image[:, :1])
            return filled.repeat_interleave(2, 2).repeat_interleave(2, 3)

    net = Wrapped(Twice(), role="restorer", image_range=(0, 1), channels=1, inputs=2, scale=2)
    image = torch.tensor([[[[-1.0, 0.5], [1.0, 0.0]], [[-1.0, -1.0], [-1.0, 1.0]]]])
    expected = torch.tensor([[-1.0, 0.5], [1.0, 1.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    torch.testing.assert_close(net(image), expected[None, None])
    assert (net.channels, net.inputs, net.scale) == (1, 2, 2)
    assert [stated(net, name) for name in ("channels", "inputs", "scale")] == [1, 2, 2]
    plain = Wrapped(nn.Identity(), role="restorer")
    assert (plain.channels, plain.inputs, plain.scale) == (3, 3, 1)
    assert stated(Wrapped(nn.Identity()), "scale", 7) == 7
    with pytest.raises(
        RecipeError,
        match="mean: expected an argument of a restorer, found one of classifier, discrimin",
    ):
        Wrapped(nn.Identity(), role="restorer", mean=[0.5])
    with pytest.raises(RecipeError, match=r"AsRestorer\.scale: expected a whole number of at least 1, found 0"):
        Wrapped(nn.Identity(), role="restorer", scale=0)


def test_without_classes_no_label_is_passed() -> None:
    net = DcganGenerator(width=4, latent=8)
    assert Wrapped(nn.Sequential(net))(torch.zeros(2, 8), torch.zeros(2).long()).shape == (2, 1, 32, 32)


def test_gradients_reach_the_latent_and_the_owners_parameters() -> None:
    net = Wrapped(DcganGenerator(width=4, latent=8), image_range=(0, 1))
    latent = torch.randn(3, 8, requires_grad=True)
    net(latent).square().sum().backward()
    assert latent.grad is not None and latent.grad.abs().sum() > 0
    assert all(p.grad is not None for p in unwrap(net).parameters())


def test_the_owners_names_count(tmp_path: Path) -> None:
    """Taps and weight files of a wrapped network are those of the network in it."""
    net = DcganGenerator(width=4, latent=8)
    wrapped = Wrapped(net, image_range=(0, 1))
    assert unwrap(wrapped) is net and unwrap(net) is net
    with Tap(wrapped, ["blocks.1"]) as tap:
        wrapped(torch.zeros(2, 8))
    assert tap["blocks.1"].shape == (2, 8, 8, 8)
    save_weights(wrapped, tmp_path / "w.safetensors")
    twin = DcganGenerator(width=4, latent=8)
    load_weights(twin, tmp_path / "w.safetensors")
    load_weights(Wrapped(twin), tmp_path / "w.safetensors")
    assert torch.equal(twin(torch.ones(2, 8)), net(torch.ones(2, 8)))
    assert torch.equal(copy.deepcopy(wrapped).eval()(torch.ones(2, 8)), wrapped.eval()(torch.ones(2, 8)))


def test_import_from_a_package() -> None:
    net = Import("torch.nn.Linear", {"in_features": 2, "out_features": 4}, image_shape=(1, 2, 2), image_range=(0, 1))
    with torch.no_grad():
        unwrap(net).weight.zero_()
        unwrap(net).bias.copy_(torch.tensor([0.0, 0.5, 1.0, 0.25]))
    assert net(torch.zeros(1, 2)).tolist() == [[[[-1.0, 0.0], [1.0, -0.5]]]]


@pytest.mark.parametrize("name", ["TheirGenerator", "make"])
def test_import_from_a_script(script: Path, name: str) -> None:
    options: dict[str, Any] = {"image_range": (0, 255), "latent_shape": (6, 1, 1)}
    net = Import(f"{script}:{name}", {"depth": 6}, **options)
    image = net(torch.randn(5, 6))
    assert image.shape == (5, 3, 16, 16) and image.abs().max() <= 1 and image.std() > 0
    torch.save({"g_ema": unwrap(net).state_dict()}, script.with_name("theirs.pth"))
    twin = Import(f"{script}:{name}", {"depth": 6}, str(script.with_name("theirs.pth")), **options)
    assert torch.equal(twin(torch.ones(1, 6)), net(torch.ones(1, 6)))
    assert type(unwrap(twin)) is type(unwrap(net))  # the script ran once


def test_a_script_is_found_beside_the_caller(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.parent)
    assert isinstance(Import("theirs.py:make", {"depth": 2}), External)


def test_a_class_that_is_made_when_asked_for(script: Path) -> None:
    assert type(unwrap(Import(f"{script}:Lazy"))) is nn.Identity


def test_a_script_that_changed_is_read_again(script: Path) -> None:
    assert unwrap(Import(f"{script}:make", {"depth": 2})).net[0].out_channels == 8
    script.write_text(SCRIPT.replace("width=8", "width=9"))
    assert unwrap(Import(f"{script}:make", {"depth": 2})).net[0].out_channels == 9


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("torch.nn.Sequentail", {}, "no class 'Sequentail' in torch.nn (did you mean 'Sequential'?)"),
        ("torch.nnn.Linear", {}, "no module 'torch.nnn' (did you mean 'nn'?)"),
        ("torhc.nn.Linear", {}, "no module 'torhc' (did you mean 'torch'?)"),
        ("Linear", {}, "expected 'package.module.Class' or 'path/to/file.py:Class', found 'Linear'"),
        ("", {}, "expected 'package.module.Class'"),
        ("torch.nn.", {}, "expected 'package.module.Class'"),
        ("{}:", {}, "expected 'package.module.Class'"),
        ("{}:TheirGenerater", {}, "(did you mean 'TheirGenerator'?)"),
        ("{}x:TheirGenerator", {}, "(did you mean 'theirs.py'?)"),
        ("{}:TheirGenerator", {}, "also needs depth"),
        ("{}:TheirGenerator", {"depth": 2, "widht": 4}, "arguments.widht: "),
        ("{}:TheirGenerator", {"depth": 2, "widht": 4}, "(did you mean 'width'?); it has depth, width"),
        ("{}:TheirGenerator", {"depth": "many"}, "cannot be built: TypeError: "),
        ("{}:broken", {}, "cannot be built: ValueError: no such luck"),
        ("{}:nothing", {}, "expected a torch.nn.Module, found int"),
        ("torch.nn.functional.os", {}, "no class 'os'"),
        ("torch.nn.functional.relu.Net", {}, "no module 'torch.nn.functional.relu'"),
    ],
)
def test_targets_that_cannot_be_used(script: Path, target: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Import(target.format(script), arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import torhc", "importing it failed: ModuleNotFoundError: No module named 'torhc'"),
        ("def (", "importing it failed: SyntaxError: "),
        ("1 / 0", "importing it failed: ZeroDivisionError: division by zero"),
    ],
)
def test_scripts_that_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str) -> None:
    (tmp_path / "bad_theirs.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    for target in (f"{tmp_path / 'bad_theirs.py'}:Net", "bad_theirs.Net"):
        with pytest.raises(RecipeError) as caught:
            Import(target)
        assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role": "painter"}, "role: expected one of classifier, .*, restorer, segmenter, stylizer, found"),
        ({"image_range": (1.0, -1.0)}, r"image_range: expected \[low, high\] with low < high, found \[1.0, -1.0\]"),
        ({"classes": -1}, "AsGenerator.classes: expected a whole number of at least 0, found -1"),
        ({"image_range": (0.0,)}, r"image_range: expected \[low, high\]"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Wrapped(nn.Identity(), **options)


def test_arguments_that_the_role_does_not_have() -> None:
    with pytest.raises(RecipeError) as caught:  # before the target is looked for
        Import("no.Such", role="restorer", chanels=1)
    has = "it has image_range, image_shape, channels, inputs, scale"
    assert str(caught.value) == (
        f"chanels: expected an argument of a restorer, found none (did you mean 'channels'?); {has}"
    )
    with pytest.raises(RecipeError, match="latent_shape: expected an argument of a segmenter, found one of generator;"):
        Wrapped(nn.Identity(), role="segmenter", latent_shape=(3,))


def test_a_new_role_is_one_new_file(tmp_path: Path) -> None:
    """In a process of its own: a role that has been imported stays."""
    (tmp_path / "depth.py").write_text(DEPTH)
    script = f"""
import torch
from limbeck.networks.given import called_as
called_as.__path__.append({str(tmp_path)!r})
from limbeck.networks.given.external import Import
from limbeck.recipe.catalogue import arguments
net = Import("torch.nn.Identity", role="depth", image_range=(0, 1), far=10.0)
print(net(torch.zeros(1, 1, 1, 1)).item(), net.role, net.far, net.classes, arguments(Import)["far"].type)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert ended.stdout.split() == ["5.0", "depth", "10.0", "0", "number"]


def test_outputs_that_the_role_does_not_promise() -> None:
    class Pair(nn.Module):
        def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
            return latent, latent

    with pytest.raises(RecipeError, match="Pair: expected a generator that returns one tensor, found tuple"):
        Wrapped(Pair())(torch.zeros(2, 4))
    with pytest.raises(RecipeError, match=r"expected images \(N, C, H, W\), found \(2, 4\); say by `image_shape`"):
        Wrapped(nn.Identity())(torch.zeros(2, 4))
    with pytest.raises(RecipeError, match=r"image_shape \[1, 3, 3\] does not fit samples of shape \[4\]"):
        Wrapped(nn.Identity(), image_shape=(1, 3, 3))(torch.zeros(2, 4))
    with pytest.raises(RecipeError, match=r"latent_shape \[5, 1, 1\] does not fit samples of shape \[4\]"):
        Wrapped(nn.Identity(), latent_shape=(5, 1, 1))(torch.zeros(2, 4))


# Real weight files, made by others.

ROOT = Path(os.environ.get("LIMBECK_DATA", "none")) / "weights"


def _real(name: str) -> str:
    if not (ROOT / name).is_file():
        pytest.skip(f"LIMBECK_DATA holds no weights/{name}")
    return str(ROOT / name)


class Mlp(nn.Sequential):
    """The owner's generator of 28x28 digits, flat."""

    def __init__(self, hidden: int = 256) -> None:
        super().__init__(
            nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 784), nn.Tanh()
        )


class LeNet5(nn.Module):
    """LeNet-5 with the names of the file; images in [0, 1], 32x32."""

    def __init__(self) -> None:
        super().__init__()
        c1, c3, c5 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)
        self.convnet = nn.ModuleDict({"c1": c1, "c3": c3, "c5": c5})
        self.fc = nn.ModuleDict({"f6": nn.Linear(120, 84), "f7": nn.Linear(84, 10)})

    def forward(self, image: Tensor) -> Tensor:
        hidden = nn.functional.max_pool2d(self.convnet["c1"](image).relu(), 2)
        hidden = nn.functional.max_pool2d(self.convnet["c3"](hidden).relu(), 2)
        hidden = self.convnet["c5"](hidden).relu().flatten(1)
        return self.fc["f7"](self.fc["f6"](hidden).relu())


def test_real_generator_and_classifier_agree() -> None:
    """A GAN's digits, imported, are recognised with confidence by a LeNet, imported; noise is not."""
    generator = Import(f"{__name__}.Mlp", {}, _real("mnist/gan_mlp_generator.pth"), image_shape=(1, 28, 28))
    classifier = Import(
        f"{__name__}.LeNet5", {}, _real("mnist/lenet5.pth"), (0, 1), role="classifier", features="fc.f6", classes=10
    )
    torch.manual_seed(0)
    with torch.no_grad():
        digits = generator(torch.randn(200, 64))
        assert digits.shape == (200, 1, 28, 28) and digits.min() < -0.99 and digits.max() > 0.9
        larger = nn.functional.interpolate(digits, size=32, mode="bilinear", antialias=True)
        sure = classifier(larger).softmax(1)
        assert classifier.features(larger).shape == (200, 84)
        shuffled = larger.flatten(1)[:, torch.randperm(1024)].view_as(larger)
        unsure = classifier(shuffled).softmax(1)
    assert sure.amax(1).mean() > 0.85
    assert unsure.amax(1).mean() < sure.amax(1).mean() - 0.1
    assert len(sure.argmax(1).unique()) == 10


def test_real_weights_of_another_network() -> None:
    with pytest.raises(WeightsError, match=r"0.weight expected \(99, 64\), found \(256, 64\)"):
        Import(f"{__name__}.Mlp", {"hidden": 99}, _real("mnist/gan_mlp_generator.pth"))
    with pytest.raises(WeightsError, match=r"10 tensors missing: convnet.c1.weight"):
        Import(f"{__name__}.LeNet5", {}, _real("mnist/gan_mlp_generator.pth"), role="classifier")


class ResNet20(nn.Module):
    """The CIFAR ResNet-20 of He et al. 2016 with parameter-free shortcuts: names as in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        inputs = 16
        for i, width in enumerate((16, 32, 64)):
            blocks = []
            for _ in range(3):
                conv1 = nn.Conv2d(inputs, width, 3, stride=width // inputs, padding=1, bias=False)
                conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
                bns = {"bn1": nn.BatchNorm2d(width), "bn2": nn.BatchNorm2d(width)}
                blocks.append(nn.ModuleDict({"conv1": conv1, "conv2": conv2, **bns}))
                inputs = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)


def test_real_nested_and_prefixed_file_without_counters() -> None:
    path = _real("cifar10/resnet20-12fca82f.th")
    net = ResNet20()
    load_weights(net, path)
    found = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    assert len(found) == 19 * 5 + 2
    for name, value in found.items():
        assert torch.equal(net.state_dict()[name.removeprefix("module.")], value)


class Painter(nn.Module):
    """Adds to an image in [0, 1] the number of a style, over 10."""

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        assert image.min() >= 0 and image.max() <= 1
        return image if style is None else image + style[:, None, None, None] / 10


def test_a_stylizer_is_told_which_of_several_styles() -> None:
    image, style = torch.rand(2, 3, 8, 8) * 2 - 1, torch.tensor([0, 3])
    several = Wrapped(Painter(), "stylizer", image_range=(0, 1), styles=4)
    torch.testing.assert_close(several(image, style), image + torch.tensor([0.0, 0.6])[:, None, None, None])
    assert stated(several, "styles") == 4
    one = Wrapped(Painter(), "stylizer", image_range=(0, 1))
    torch.testing.assert_close(one(image, style), image)
    with pytest.raises(RecipeError, match=r"AsStylizer.styles: expected a whole number of at least 1, found 0"):
        Wrapped(Painter(), "stylizer", styles=0)

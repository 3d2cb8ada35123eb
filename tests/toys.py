"""Small things to train on, shared by the tests of the spine."""

from __future__ import annotations

import io
import os
import pkgutil
import signal
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.data.base import Data, InMemory, Split
from limbeck.data.side_by_side import COLOURS
from limbeck.methods.base import Default, Method
from limbeck.networks.roles import ProbabilisticRestorer, Segmenter
from limbeck.tasks.base import Picture, Task
from limbeck.terms.base import Term
from limbeck.training.checkpoint import load
from limbeck.training.feed import Material
from limbeck.training.job import Job, Observation, Place
from limbeck.training.launch import fit
from limbeck.training.options import Training
from limbeck.types import VOID, Batch, Draw, Update
from limbeck.weighting.scheduled import Scheduled


def every_module(*packages: str) -> list[str]:
    """Return the names of all modules of packages of limbeck, their corners included."""
    found = [
        info.name
        for package in packages
        for info in pkgutil.walk_packages(import_module(f"limbeck.{package}").__path__, f"limbeck.{package}.")
    ]
    assert found
    return found


class Bare(Method):
    """A method without terms, for tests of the engine: its losses stand in `updates`."""

    defaults: ClassVar[Mapping[str, Default]] = {}
    terms: Mapping[str, Term] = {}
    differentiates: Literal["once", "twice", "forward"] = "once"


class ToyGan(Bare):
    """A two-player game with everything that is hard for a loop: noise, dropout, R1, a graph kept over a yield."""

    def __init__(self, width: int = 8, penalty: bool = True, batch_norm: bool = True, dropout: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.student = nn.Sequential(
            nn.Linear(4, width), norm, nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 16), nn.Unflatten(1, (1, 4, 4))
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(16 * width, 1)
        )
        self.differentiates = "twice" if penalty else "once"

    def draws(self) -> Mapping[str, Draw]:
        return {"noise": Draw((1, 4, 4))}

    def players(self) -> Mapping[str, nn.Module]:
        return {"discriminator": self.discriminator, "student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        assert batch.image is not None
        fake = self.student(batch.latent)
        real = batch.image + 0.1 * batch.drawn["noise"]
        softplus = nn.functional.softplus
        yield Update(
            "discriminator",
            {
                "real_fake": softplus(-self.discriminator(real)).mean()
                + softplus(self.discriminator(fake.detach())).mean(),
                "r1": lambda: self._r1(real),
            },
        )
        yield Update("student", {"adversarial": softplus(-self.discriminator(fake)).mean()})

    def _r1(self, real: Tensor) -> Tensor:
        if self.differentiates == "once":
            return torch.zeros(())
        real = real.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean()


class ToyPairs(Data):
    """The images of a data set, whose targets are their negatives and whose masks say how bright a pixel is."""

    mask_classes = ("dark", "grey", "bright")

    def __init__(self, images: Data) -> None:
        self.images, self.name, self.image_shape = images, f"{images.name}-negatives", images.image_shape

    def gives(self) -> tuple[str, ...]:
        return (*super().gives(), *(["label"] if self.images.classes else []), "target")

    def split(self, name: Split) -> InMemory:
        found = self.images.split(name)
        assert isinstance(found, InMemory)
        mask = found.image[:, 0] // 86
        mask[:, :1] = VOID
        return InMemory(found.image, found.label, mask, target=255 - found.image)


class ToyRestorer(ProbabilisticRestorer):
    """Two convolutions and a scale for every value: takes `inputs` channels, gives one, `scale` times as large."""

    def __init__(self, width: int = 4, scale: int = 1, inputs: int = 1) -> None:
        super().__init__()
        self.channels, self.inputs, self.scale = 1, inputs, scale
        self.body = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.Tanh())
        self.tail = nn.Sequential(nn.Conv2d(width, 2 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        return self.distribution(image)[0]

    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.tail(self.body(image))
        return found[:, :1], found[:, 1:] - 1


class ToySegmenter(Segmenter):
    """Two convolutions: takes one channel, tells three classes."""

    def __init__(self, width: int = 4, channels: int = 1, classes: int = 3) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        self.body = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.Tanh())
        self.head = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(image))
        return found


class ToyTask(Task):
    """Latents of four numbers."""

    def draws(self) -> Mapping[str, Draw]:
        return {"latent": Draw((4,))}

    def prepare(self, batch: Batch) -> Batch:
        return Batch(image=batch.image, latent=batch.drawn["latent"], drawn=batch.drawn)

    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        return (torch.zeros(count, 4),)

    def evaluate(self, network: nn.Module, data: Data, *, split: Split, seed: int, **_: Any) -> dict[str, float]:
        with torch.no_grad():
            return {"mean": float(network(torch.ones(8, 4)).mean())}

    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        return []

    directions = {"mean": "none"}  # type: ignore[assignment]  # noqa: RUF012
    main_metric = "mean"  # type: ignore[assignment]


class Plain(Scheduled):
    """Every loss with weight one."""

    def __init__(self) -> None:
        super().__init__({}, {})

    def weight(self, loss: str, progress: float) -> float:
        return 1.0


def toy_images(count: int = 64) -> InMemory:
    """Return images 4x4 of noise with a bright middle."""
    draw = torch.Generator().manual_seed(1)
    image = torch.randint(0, 100, (count, 1, 4, 4), generator=draw, dtype=torch.uint8)
    image[:, :, 1:3, 1:3] += 120
    return InMemory(image)


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the package catches it."""


class Dying(InMemory):
    """Images whose reading ends the process's life at the given step."""

    def __init__(self, images: InMemory, step: int) -> None:
        super().__init__(images.image, images.label, images.mask, images.target)
        self.left = step

    def read(self, indices: Tensor) -> Batch:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().read(indices)


class Streamed(InMemory):
    """Images in memory that claim to be slow to read."""

    streaming = True


def toy_job(folder: Path, method: Method | None = None, **options: Any) -> Job:
    """Return a small training; options of `Job` and its parts are told apart by their names."""
    defaults: dict[str, Any] = {
        "task": ToyTask(), "images": toy_images(), "weighting": Plain(), "seed": 3, "log_every": 1,
        "accelerator": "cpu", "steps": 8, "batch": 16,
    }  # fmt: skip
    rest = defaults | options

    def part(cls: type) -> dict[str, Any]:
        return {f.name: rest.pop(f.name) for f in fields(cls) if f.name in rest}

    return Job(
        method=ToyGan() if method is None else method,
        material=Material(**part(Material)),
        training=Training(**part(Training)),
        place=Place(folder, **part(Place)),
        observation=Observation(**part(Observation)),
        **rest,
    )


def trained(job: Job) -> dict[str, Any]:
    """Train to the end and return the final state, without the time that it took."""
    fit(job)
    return {key: value for key, value in load(job.place.final).items() if key != "seconds"}


def resumed(make: Callable[..., Job], step: int) -> dict[str, Any]:
    """Return the final state of a training that was killed at `step` and started again.

    `make` builds the job anew for each life, from keywords that override its own.
    """
    job = make()
    assert isinstance(job.material.images, InMemory)
    try:
        fit(make(images=Dying(job.material.images, step)))
    except Killed:
        return trained(job)
    raise AssertionError("the training was not killed")


def killed(job: Job, step: int) -> None:
    """Train until SIGKILL, so to speak, comes within that step (from 0): its first player has moved, nobody else."""
    assert isinstance(job.method, Method)
    updates = job.method.updates

    def until(batch: Batch, at: int) -> Iterator[Update]:
        for number, update in enumerate(updates(batch, at)):
            if at == step and number > 0:
                raise Killed
            yield update
        if at == step:
            raise Killed

    job.method.updates = until  # type: ignore[method-assign]
    try:
        fit(job)
    except Killed:
        return
    raise AssertionError("the training was not killed")


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Return where two states are not bit-identical."""
    if isinstance(one, Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: {set(one) ^ set(other)}"]
        return [d for key in one for d in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)} entries"]
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{where}/{i}")]
    return [] if one == other else [f"{where}: {one} and {other}"]


class Stopped(ToyGan):
    """Sends SIGTERM to the given process in the middle of the given step."""

    def __init__(self, step: int, process: int, **options: Any) -> None:
        super().__init__(**options)
        self.stop = (step, process)

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        if step == self.stop[0]:
            os.kill(self.stop[1], signal.SIGTERM)
            time.sleep(0.5)  # the process may be another one, and hand the signal on
        yield from super().updates(batch, step)


def toy_scene(seed: int, width: int = 48, height: int = 36, classes: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy picture (H, W, 3) of upright stripes of random widths, and their classes (H, W), uint8."""
    random = np.random.default_rng(seed)
    stripes = np.sort(random.integers(0, classes, width))
    mask = np.broadcast_to((stripes + seed) % classes, (height, width)).astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 200, (classes, 3))
    return (colours[mask] + random.integers(0, 50, (height, width, 3))).astype(np.uint8), mask


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """Return an image file of this kind, "PNG" or "JPEG"."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_camvid(root: Path, seed: int = 0, train: int = 44, test: int = 3) -> Path:
    """Write the archive of street scenes that `CamVid` reads into a data root, in tiny; classes 0..10, 11 is void."""
    file = root / "camvid" / "camvid_240x180.zip"
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for part, count in (("train", train), ("test", test)):
            for number in range(count):
                image, mask = toy_scene(1000 * seed + number + (500 if part == "test" else 0))
                archive.writestr(f"{part}/images/scene_{number:03}.jpg", encoded(image, "JPEG"))
                archive.writestr(f"{part}/masks/scene_{number:03}.png", encoded(mask, "PNG"))
    return file


def write_facades(root: Path, seed: int = 0, train: int = 6, val: int = 2, test: int = 3) -> Path:
    """Write the archive of houses that `Facades` reads into a data root, in tiny: photographs left, labels right."""
    file = root / "facades" / "facades_110.zip"
    file.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    with zipfile.ZipFile(file, "w") as archive:
        for part, count in (("train", train), ("val", val), ("test", test)):
            for _ in range(count):
                number += 1
                photograph, mask = toy_scene(1000 * seed + number, 32, 32, classes=3)
                labels = np.array(list(COLOURS.values()), np.uint8)[4 * mask]  # background, cornice and deco
                archive.writestr(f"{part}/{number}.jpg", encoded(np.hstack([photograph, labels]), "JPEG"))
    return file

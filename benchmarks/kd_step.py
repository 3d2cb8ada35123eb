"""What distilling a classifier costs, against a bare loop of PyTorch: ResNet-56 to ResNet-20 on CIFAR-10.

The bare loop computes in float32 and asks the teacher about every augmented batch. Limbeck trains with
`precision: auto` and stores what the teacher says to a few augmented views of every image, which seeds and students
share. Steps of both are timed in turns; storing is timed apart and counted in: once for one student, once for three.

    python benchmarks/kd_step.py --peers        last line: ratio R, of one student
    python benchmarks/kd_step.py --quality      trains both ways with three seeds: what the views cost in accuracy

Peers that would install are none: torchdistill needs torchvision, and mdistiller is no package. The data sets lie in
LIMBECK_DATA, the published weights in weights/cifar10 beside them or where `--weights` says.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev

import torch
import torch.nn.functional as F
from record import FOLDER, record
from torch import Tensor, nn

from limbeck.data.augmentations.augmentation import AugmentationSequence, Flip
from limbeck.data.augmentations.warp import Crop
from limbeck.data.base import data_root
from limbeck.data.cifar import CIFAR10
from limbeck.losses.kd import Kd
from limbeck.methods.supervised import Supervised
from limbeck.networks.classifiers.cifar_resnet import CifarResNet
from limbeck.networks.given.weights import load_weights
from limbeck.tasks.classification import Classification
from limbeck.training.engine import Engine
from limbeck.training.feed import Material
from limbeck.training.job import Job, Observation, Place
from limbeck.training.options import Training
from limbeck.training.replicas import One
from limbeck.training.teacher_cache import TeacherCache, fill, kept
from limbeck.weighting.scheduled import Scheduled

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4)
ALPHA, TEMPERATURE = 0.1, 4.0


@dataclass(frozen=True)
class Work:
    """One distillation: `views` is None where every step augments anew and asks the teacher."""

    teacher: nn.Module
    data: CIFAR10
    batch: int
    epochs: int

    @property
    def steps(self) -> int:
        """The steps of one student."""
        return self.epochs * len(self.data.split("train")) // self.batch

    def material(self, views: int | None, cache: TeacherCache | None = None) -> Material:
        """Return what the batches are made of."""
        augmentation = AugmentationSequence([Flip(), Crop()])
        return Material(self.data.split("train"), Classification(), augmentation, cache, views=views)

    def engine(self, material: Material, seed: int = 0) -> Engine:
        """Return the engine of a student."""
        torch.manual_seed(seed)
        student = CifarResNet(depth=20)
        terms = {"student.logits": Kd(TEMPERATURE)}
        method = Supervised(student, deepcopy(self.teacher), terms=terms)
        weighting = Scheduled({"student.cross_entropy": ALPHA, "student.logits": 1 - ALPHA}, method.weights)
        training = Training(
            self.steps, self.batch, {"student": SGD}, schedule="cosine", precision="auto", views=material.views
        )
        return Engine(
            One("cpu"), Job(method, material, training, weighting, seed, Place(Path("nowhere")), Observation())
        )

    def stored(self, folder: Path, views: int) -> tuple[TeacherCache, float]:
        """Return what the teacher says to the views of all images, and the seconds it took."""
        material = self.material(views)
        engine, teacher = self.engine(material), deepcopy(self.teacher)
        started = time.perf_counter()
        cache = kept(
            folder / "cache.safetensors",
            len(material.images),
            lambda path: fill(path, material, teacher, [""], engine.arithmetic),
        )
        return cache, time.perf_counter() - started

    def limbeck(self, material: Material) -> Iterator[Engine]:
        """Take a step at every `next`."""
        engine = self.engine(material)
        for batch in engine.feed.steps(0, self.steps):
            engine.advance(batch)
            yield engine

    def bare(self) -> Iterator[nn.Module]:
        """Take a step of the bare loop at every `next`: float32, as one writes it."""
        student, teacher = CifarResNet(depth=20).train(), deepcopy(self.teacher).eval()
        optimizer, images = SGD(student.parameters()), self.data.split("train")
        change = AugmentationSequence([Flip(), Crop()])
        while True:
            for indices in torch.randperm(len(images)).split(self.batch)[: len(images) // self.batch]:
                batch = images.read(indices)
                assert batch.image is not None and batch.label is not None
                image = change(
                    batch.image,
                    {name: draw.sample(len(indices), torch.default_generator) for name, draw in change.draws().items()},
                )
                with torch.no_grad():
                    theirs = teacher(image)
                loss = _kd(student(image), theirs, batch.label)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                yield student


def _kd(ours: Tensor, theirs: Tensor, label: Tensor) -> Tensor:
    """Return alpha CE + (1 - alpha) T² KL, the survey's loss of distillation."""
    soft = F.kl_div(
        (ours / TEMPERATURE).log_softmax(1),
        (theirs / TEMPERATURE).log_softmax(1),
        log_target=True,
        reduction="batchmean",
    )
    return ALPHA * F.cross_entropy(ours, label) + (1 - ALPHA) * TEMPERATURE**2 * soft


def speed(work: Work, views: int, rounds: int) -> dict[str, float]:
    """Return what a step takes each way, and what storing takes."""
    with tempfile.TemporaryDirectory() as folder:
        cache, seconds = work.stored(Path(folder), 1)
        ways = {
            "bare": work.bare(),
            "limbeck": work.limbeck(work.material(1, cache)),
            "limbeck_without_storing": work.limbeck(work.material(None)),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 2):
            for name, way in ways.items():
                started = time.perf_counter()
                next(way)
                if number >= 2:  # the first ones warm up
                    times[name].append(time.perf_counter() - started)
    step = {name: median(some) for name, some in times.items()}
    bare, filling = step["bare"] * work.steps, seconds * views
    return {
        "ratio": (filling + step["limbeck"] * work.steps) / bare,
        "ratio_of_three_students": (filling / 3 + step["limbeck"] * work.steps) / bare,
        "ratio_without_storing": step["limbeck_without_storing"] / step["bare"],
        "filling_of_a_step": filling / bare,
        **{f"{name}_ms": 1e3 * value for name, value in step.items()},
        "seconds_storing_a_view": seconds,
    }


def quality(work: Work, views: int, seeds: int) -> dict[str, object]:
    """Return the accuracy on the test split of students trained on new augmentations, and on the stored views."""
    found: dict[str, list[float]] = {"anew": [], "views": []}
    with tempfile.TemporaryDirectory() as folder:
        cache, _ = work.stored(Path(folder), views)
        for seed in range(seeds):
            for name, material in (("views", work.material(views, cache)), ("anew", work.material(None))):
                engine = work.engine(material, seed)
                for batch in engine.feed.steps(0, work.steps):
                    engine.advance(batch)
                task = Classification()
                metrics = task.evaluate(engine.student(), work.data, split="test", seed=0)
                found[name].append(metrics["top1"])
                print(f"seed {seed}, {name}: accuracy {metrics['top1']:.4f}", flush=True)
    differences = [ours - theirs for ours, theirs in zip(found["views"], found["anew"], strict=True)]
    return {
        "accuracy_views": found["views"],
        "accuracy_anew": found["anew"],
        "mean_difference": fmean(differences),
        "standard_deviation_of_differences": stdev(differences),
    }


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description="a distillation against a bare loop")
    published = data_root() / "weights" / "cifar10" / "resnet56-4bfd9763.th"
    parser.add_argument("--weights", type=Path, default=published, help="the published file of the CIFAR-10 ResNet-56")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--peers", action="store_true", help="say which peers are timed, too")
    parser.add_argument("--quality", action="store_true", help="train both ways instead, with three seeds")
    options = parser.parse_args()
    torch.manual_seed(0)
    teacher = CifarResNet(depth=56, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).eval().requires_grad_(False)
    load_weights(teacher, options.weights)
    work = Work(teacher, CIFAR10(part="10k"), options.batch, options.epochs)
    settings = {"data": work.data.name, "batch": work.batch, "epochs": work.epochs, "views": options.views}
    if options.quality:
        record("kd_views", quality(work, options.views, seeds=3), settings | {"steps": work.steps, "seeds": 3})
        print(json.dumps(json.loads((FOLDER / "kd_views.json").read_text())["figures"], indent=2))
        return
    if options.peers:
        print("peers: none can be installed (torchdistill needs torchvision), so the bare loop stands alone")
    figures = speed(work, options.views, options.rounds)
    record("kd_step", figures, settings | {"rounds": options.rounds})
    print(f"three students: {figures['ratio_of_three_students']:.3f} a student")
    print(f"without storing: {figures['ratio_without_storing']:.3f}")
    print(f"ratio {figures['ratio']:.3f}")


if __name__ == "__main__":
    main()

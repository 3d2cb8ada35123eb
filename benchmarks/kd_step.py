"""What storing the teacher's outputs saves: an epoch of ResNet-20 from ResNet-56 on CIFAR-10, with and without it.

Both train the same student on the same batches, and their losses of every step are compared. The steps of the two are
timed in turns; filling the store is timed apart, as it is done once for all students, seeds and losses.

    python benchmarks/kd_step.py        last line: ratio R

The data sets lie in LIMBECK_DATA, the published weights in weights/cifar10 beside them or where `--weights` says.
"""

from __future__ import annotations

import argparse
import time
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from record import record
from torch import nn

from limbeck.data.base import Images, data_root
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
from limbeck.training.teacher_cache import TeacherCache, of_images
from limbeck.weighting.scheduled import Scheduled

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4)


def engine(
    student: nn.Module, teacher: nn.Module, images: Images, training: Training, cache: TeacherCache | None
) -> Engine:
    """Return an engine that logs every step's losses."""
    method = Supervised(deepcopy(student), deepcopy(teacher), terms={"student.logits": Kd(temperature=4.0)})
    weighting = Scheduled({"student.cross_entropy": 0.1, "student.logits": 0.9}, method.weights)
    material = Material(images, Classification(), cache=cache)
    job = Job(method, material, training, weighting, 0, Place(Path("nowhere")), Observation(log_every=1))
    return Engine(One("cpu"), job)


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="an epoch of distillation with and without stored teacher outputs"
    )
    published = data_root() / "weights" / "cifar10" / "resnet56-4bfd9763.th"
    parser.add_argument("--weights", type=Path, default=published, help="the published file of the CIFAR-10 ResNet-56")
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    torch.manual_seed(0)
    teacher = CifarResNet(depth=56, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).eval()
    load_weights(teacher, options.weights)
    data = CIFAR10()
    images = data.split("train")
    training = Training(len(images) // options.batch, options.batch, {"student": SGD})

    started = time.perf_counter()
    cache = of_images(images, teacher, [""])
    filling = time.perf_counter() - started

    student = CifarResNet(depth=20)
    engines = {
        "with": engine(student, teacher, images, training, cache),
        "without": engine(student, teacher, images, training, None),
    }
    feeds = {name: e.feed.steps(0, training.steps) for name, e in engines.items()}
    seconds = dict.fromkeys(engines, 0.0)
    for step in range(training.steps):
        for name, one in engines.items():
            started = time.perf_counter()
            one.advance(next(feeds[name]))
            seconds[name] += time.perf_counter() - started
        if step % 10 == 9:
            print(f"step {step + 1} of {training.steps}", flush=True)
    difference = max(
        abs(a["student.logits"] - b["student.logits"]) / abs(b["student.logits"])
        for a, b in zip(engines["with"].history, engines["without"].history, strict=True)
    )
    ratio = seconds["with"] / seconds["without"]
    figures = {
        "ratio": ratio,
        "seconds_with": seconds["with"],
        "seconds_without": seconds["without"],
        "seconds_filling": filling,
        "largest_relative_difference_of_losses": difference,
    }
    record("kd_step", figures, {"data": data.name, "steps": training.steps, "batch": options.batch})
    print(f"filling the store {filling:.1f} s, largest relative difference of the losses {difference:.1e}")
    print(f"ratio {ratio:.3f}")


if __name__ == "__main__":
    main()

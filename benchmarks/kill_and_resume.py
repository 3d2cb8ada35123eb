"""A training that is killed at any instant ends with the same weights, bit for bit, as one that never was.

Small DCGANs are distilled under several settings, each once in peace. Then processes that train the same are sent
SIGKILL at random instants (seeded), also in the middle of writing a checkpoint, and started again until they are done.
Compared is everything that a training leaves: networks, optimisers, the average, the history.

    python benchmarks/kill_and_resume.py --kills 10        last line: identical K/10
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import signal
import tempfile
import time
from functools import partial
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch
from record import record
from torch import Tensor

from limbeck.data.augmentations.augmentation import Flip
from limbeck.data.augmentations.diffaugment import DiffAugment
from limbeck.data.base import InMemory
from limbeck.losses.feature_matching import FeatureMatching
from limbeck.methods.gan import Gan
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.tasks.generation import Generation
from limbeck.terms.adversarial import RealFake
from limbeck.terms.penalties import R1
from limbeck.terms.perceptual import CriticFeatures
from limbeck.training.checkpoint import Checkpoints, load
from limbeck.training.feed import Material
from limbeck.training.job import Job, Observation, Place
from limbeck.training.launch import fit
from limbeck.training.options import Training
from limbeck.weighting.schedule import Schedule
from limbeck.weighting.scheduled import Scheduled

STEPS = 120
EVERY = 10  # steps between two checkpoints
LAZY_R1 = {"discriminator.penalty": partial(R1, every=4)}
HINGE = {"discriminator.real_fake": partial(RealFake, "hinge")}
SETTINGS: dict[str, dict[str, Any]] = {
    "R1 every fourth step": {"terms": LAZY_R1},
    "bf16, hinge loss": {"terms": HINGE, "training": {"precision": "bf16"}},
    "channels last, classes, DiffAugment": {
        "method": {"augment": DiffAugment()},
        "training": {"channels_last": True},
        "classes": 3,
    },
    "micro-batches, two critic steps": {"method": {"critic_steps": 2}, "training": {"micro_batches": 4}},
    "streamed by two processes": {"terms": LAZY_R1, "training": {"workers": 2}, "streaming": True},
}
forkserver = multiprocessing.get_context("forkserver")


class Streamed(InMemory):
    """Images in memory that the engine is told to stream."""

    streaming = True


def job(name: str, folder: Path) -> Job:
    """Return the training of a setting; networks and data are the same whenever it is built."""
    torch.manual_seed(0)
    setting = SETTINGS[name]
    classes = setting.get("classes", 0)
    generator = partial(DcganGenerator, latent=8, size=16, classes=classes)
    critic = partial(DcganDiscriminator, size=16, classes=classes)
    followed = {
        "student.feature": FeatureMatching({"blocks.0": "blocks.0"}),
        "student.critic_feature": CriticFeatures(["blocks.0"]),
    }
    terms = followed | {term: make() for term, make in setting.get("terms", {}).items()}
    method = Gan(generator(4), critic(6), generator(8), critic(6), terms=terms, **setting.get("method", {}))
    image = torch.randint(0, 256, (160, 1, 16, 16), dtype=torch.uint8)
    images = (Streamed if setting.get("streaming") else InMemory)(image, torch.arange(160) % 3)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.99))
    options = {"ema": 0.99, "schedule": "cosine", "warmup": 10, "clip": 5.0} | setting.get("training", {})
    return Job(
        method=method,
        material=Material(images, Generation((8,), conditional=classes > 0), Flip()),
        training=Training(STEPS, 16, {"student": adam, "discriminator": adam}, checkpoint_every=EVERY, **options),
        weighting=Scheduled({"student.adversarial": Schedule(0.1, start=0.3, ramp=0.2)}, method.weights),
        seed=1,
        place=Place(folder, name, accelerator="cpu"),
        observation=Observation(log_every=1),
    )


def train(name: str, folder: Path, begun: Event) -> None:
    """Train to the end: what the processes do."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # readers of data start as in any process, not as this one did
    training = job(name, folder)
    begun.set()
    fit(training)


def started(name: str, folder: Path) -> ForkServerProcess:
    """Return a process whose training has begun."""
    begun = forkserver.Event()
    process = forkserver.Process(target=train, args=(name, folder, begun))
    process.start()
    begun.wait()
    return process


def unbroken(name: str, folder: Path) -> float:
    """Train to the end in peace and return the seconds that it took."""
    process = started(name, folder)
    start = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - start


def killed(name: str, folder: Path, seconds: float) -> str:
    """Train, kill after some seconds, and return what the process left; sooner, if it was done before."""
    process = started(name, folder)
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        for file in folder.rglob("*.safetensors"):
            file.unlink()
        return killed(name, folder, 0.8 * seconds)
    saved = Checkpoints(folder / "checkpoints", warn=print).paths()
    half = list(folder.rglob("*.part"))
    return f"{saved[-1].stem if saved else 'nothing saved'}{', a half-written file' if half else ''}"


def same(one: Any, other: Any) -> bool:
    """Return whether two states are equal bit for bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def final(folder: Path) -> dict[str, Any]:
    state = load(folder / "final.safetensors")
    return {key: value for key, value in state.items() if key != "seconds"}


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="kill trainings at random instants, resume them, compare the weights"
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    identical, trials = 0, []
    forkserver.set_forkserver_preload(["limbeck.training.launch", "limbeck.methods.gan", "limbeck.tasks.generation"])
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        used = list(SETTINGS)[: options.kills]
        seconds = {name: unbroken(name, root / f"whole-{i}") for i, name in enumerate(used)}
        for trial in range(options.kills):
            name = used[trial % len(used)]
            folder = root / f"killed-{trial}"
            instant = draw.uniform(0, seconds[name])
            left = killed(name, folder, instant)
            unbroken(name, folder)
            equal = same(final(root / f"whole-{trial % len(used)}"), final(folder))
            identical += equal
            trials.append({"setting": name, "killed_after_seconds": instant, "left": left, "identical": equal})
            print(f"{name}: killed after {instant:.1f} s ({left}): {'identical' if equal else 'DIFFERENT'}", flush=True)
    figures = {"identical": identical, "kills": options.kills, "trials": trials}
    record("kill_and_resume", figures, {"steps": STEPS, "checkpoint_every": EVERY, **vars(options)})
    print(f"identical {identical}/{options.kills}")


if __name__ == "__main__":
    main()

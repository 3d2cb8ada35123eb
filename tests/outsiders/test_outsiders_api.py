"""What engineers hand to `limbeck.distill`: taken with its right value, or refused in one line before anything trains.

The run itself is left out: what is looked at is the recipe that it would get.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

import limbeck
from limbeck.api import distillation
from limbeck.data.augmentations.augmentation import Flip
from limbeck.data.base import Data
from limbeck.data.tensors import TensorImages
from limbeck.errors import LimbeckError
from limbeck.methods.supervised import Supervised
from limbeck.metrics.cost import Cost
from limbeck.recipe.plan import ArmRecipe, Recipe
from limbeck.tasks.classification import Classification
from limbeck.tasks.segmentation import Segmentation
from limbeck.tasks.translation import ImageTranslation
from limbeck.training.options import Training

GENERATOR = torch.Generator().manual_seed(0)
LEVELS = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8, generator=GENERATOR)
FLOATS = LEVELS / 255
LABEL = torch.arange(30) % 4
ARRAY = np.ascontiguousarray(LEVELS.permute(0, 2, 3, 1).numpy())
MASK = LEVELS[:, 0].long() % 4


def sorter(width: int = 2) -> nn.Module:
    """Return a classifier of four classes."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)
    )


def filters(outputs: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, outputs, 3, padding=1))


def maker() -> nn.Module:
    """Return a generator of images in [0, 1]."""
    return nn.Sequential(nn.Linear(6, 3 * 64), nn.Sigmoid(), nn.Unflatten(1, (3, 8, 8)))


class Reached(Exception):
    """The run would begin."""


@pytest.fixture
def recipe_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Recipe]:
    """Return a function that returns the recipe of a call of `distill`."""
    seen: list[Recipe] = []

    def run(recipe: Recipe, *args: Any, **options: Any) -> None:
        seen.append(recipe)
        raise Reached

    monkeypatch.setattr(distillation, "run", run)
    monkeypatch.chdir(tmp_path)

    def call(**changed: Any) -> Recipe:
        usual = {"teacher": sorter(3), "student": sorter(), "data": (LEVELS, LABEL), "task": Classification()}
        if "latent" in changed:
            usual = {"teacher": maker(), "student": maker(), "data": LEVELS}
        with pytest.raises(Reached):
            limbeck.distill(
                **{**usual, "batch": 8, "image_range": (0, 1), "accelerator": "cpu", "out": "runs/mine"} | changed
            )
        assert list(tmp_path.iterdir()) == []
        return seen[-1]

    return call


def trains(name: str, value: Any) -> Callable[[ArmRecipe], bool]:
    """Return whether an arm has that value, of that type, in its training."""
    return lambda arm: type(getattr(arm.training, name)) is type(value) and getattr(arm.training, name) == value


def moves(**wanted: Any) -> Callable[[ArmRecipe], bool]:
    """Return whether every optimiser of an arm has these options."""

    def holds(arm: ArmRecipe) -> bool:
        assert arm.training is not None
        made = [make([nn.Parameter(torch.zeros(2, 2))]) for make in arm.training.optimizers.values()]
        groups = [{**each.param_groups[0], "kind": type(each)} for each in made]
        return bool(groups) and all(group[name] == value for group in groups for name, value in wanted.items())

    return holds


def weighs(value: float) -> Callable[[ArmRecipe], bool]:
    return lambda arm: arm.weights == {"student.cross_entropy": value}


ADAM = torch.optim.Adam
TAKEN: dict[str, tuple[dict[str, Any], Callable[[ArmRecipe], bool]]] = {
    "nothing said": ({}, moves(kind=ADAM, lr=1e-3, betas=(0.9, 0.999))),
    "nothing said of the average": ({}, trains("ema", 0.99)),
    "nothing said of the schedule": ({}, trains("schedule", "cosine")),
    "lr": ({"lr": 2e-4}, moves(kind=ADAM, lr=2e-4)),
    "lr of numpy": ({"lr": np.float64(0.5)}, moves(lr=0.5)),
    "lr of both players": ({"latent": (6,), "lr": 2e-4}, moves(kind=ADAM, lr=2e-4, betas=(0.0, 0.99))),
    "an optimiser's name": ({"optimizer": "SGD", "lr": 0.1}, moves(kind=torch.optim.SGD, lr=0.1)),
    "an optimiser's class": ({"optimizer": torch.optim.AdamW}, moves(kind=torch.optim.AdamW)),
    "its further options": ({"optimizer": partial(ADAM, eps=1e-4), "lr": 0.1}, moves(kind=ADAM, eps=1e-4, lr=0.1)),
    "a function of parameters": ({"optimizer": lambda p: ADAM(p, lr=0.3)}, moves(kind=ADAM, lr=0.3)),
    "one by player": ({"optimizers": {"student": torch.optim.SGD}, "lr": 0.2}, moves(kind=torch.optim.SGD, lr=0.2)),
    "ema": ({"ema": 0.999}, trains("ema", 0.999)),
    "no ema": ({"ema": None}, trains("ema", None)),
    "bf16": ({"precision": "bf16"}, trains("precision", "bf16")),
    "32 as a number": ({"precision": 32}, trains("precision", "32")),
    "steps of numpy": ({"steps": np.int64(7)}, trains("steps", 7)),
    "steps of torch": ({"steps": torch.tensor(7)}, trains("steps", 7)),
    "batch of numpy": ({"batch": np.uint8(4)}, trains("batch", 4)),
    "clip": ({"clip": 1}, trains("clip", 1.0)),
    "warm-up": ({"warmup": 5}, trains("warmup", 5)),
    "multistep": ({"schedule": "multistep", "milestones": [0.5, 0.75]}, trains("milestones", (0.5, 0.75))),
    "how often it is watched": ({"evaluate_every": 10}, trains("evaluate_every", 10)),
    "processes": ({"processes": 2}, trains("processes", 2)),
    "micro-batches": ({"micro_batches": 2}, trains("micro_batches", 2)),
    "a weight as text": ({"weights": {"student.cross_entropy": "1.5"}}, weighs(1.5)),
    "a weight of numpy": ({"weights": {"student.cross_entropy": np.float32(0.5)}}, weighs(0.5)),
    "a weight as a whole number": ({"weights": {"student.cross_entropy": 2}}, weighs(2.0)),
    "an augmentation": (
        {"augmentation": Flip(0.25)},
        lambda arm: arm.augmentation is not None and repr(arm.augmentation.build()) == repr(Flip(0.25)),
    ),
    "a method by its class": ({"method": Supervised}, lambda arm: arm.method.cls is Supervised),
    "Gan's critic_steps": (
        {"latent": (6,), "critic_steps": np.int64(2)},
        lambda arm: arm.method.description["init_args"]["critic_steps"] == 2,
    ),
    "a latent of numpy": ({"latent": [np.int64(6)]}, lambda arm: arm.method.cls is not None),
}  # fmt: skip


@pytest.mark.parametrize(("given", "holds"), TAKEN.values(), ids=TAKEN)
def test_outsiders_argument_is_taken(
    given: dict[str, Any], holds: Callable[[ArmRecipe], bool], recipe_of: Callable[..., Recipe]
) -> None:
    recipe = recipe_of(**given)
    assert holds(recipe.students["student"])
    assert "weights" in given or holds(recipe.controls["control"])
    json.dumps(recipe.students["student"].description())


def test_outsiders_seeds_and_folder_are_taken(recipe_of: Callable[..., Recipe]) -> None:
    assert recipe_of(seed=np.int64(7), seeds=3).seeds == (7, 8, 9)
    assert recipe_of().seeds == (0,) and recipe_of().name == "mine"
    assert recipe_of(out="runs/yours/").name == "yours"
    assert recipe_of(control=False).controls == {}


def test_outsiders_arm_is_known_by_its_optimiser_and_augmentation(recipe_of: Callable[..., Recipe]) -> None:
    """Also where it is a function: its address in memory would be another each time."""
    teacher, student = sorter(3), sorter()

    def known(**given: Any) -> str:
        arm = recipe_of(teacher=teacher, student=student, **given).students["student"]
        return json.dumps(arm.description(), sort_keys=True)

    same = [known(optimizer=lambda p, rate=rate: ADAM(p, lr=rate)) for rate in (0.1, 0.1, 0.2)]
    assert same[0] == same[1] == known(lr=0.1) != same[2]
    assert known(augmentation=Flip(0.5)) == known(augmentation=Flip()) != known(augmentation=Flip(0.2))


class Pictures(Dataset[Any]):
    """Samples as a data set of torchvision has them."""

    def __init__(self, sample: Callable[[int], Any], count: int = 30) -> None:
        self.sample, self.count = sample, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        return self.sample(number)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(LEVELS, LABEL, strict=True))


def picture(number: int, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(ARRAY[number]).convert(mode)


PAIRS = Pictures(lambda n: (picture(n), int(LABEL[n])))
DATA: dict[str, Any] = {
    "tensors": (LEVELS, LABEL),
    "a list of tensors": [LEVELS, LABEL],
    "arrays": (ARRAY, LABEL.numpy()),
    "arrays with channels first": (LEVELS.numpy(), LABEL.numpy().astype(np.uint8)),
    "an array and a tensor": (ARRAY, LABEL),
    "floats in the range of the networks": (FLOATS, LABEL),
    "float arrays": (ARRAY / 255, LABEL),
    "arrays by name": {"images": ARRAY, "labels": LABEL.numpy()},
    "pictures": PAIRS,
    "a loader of pictures": DataLoader(PAIRS, batch_size=4, shuffle=True, collate_fn=torch.utils.data.default_collate),
    "a TensorDataset": TensorDataset(FLOATS, LABEL),
    "a loader": DataLoader(TensorDataset(LEVELS, LABEL), batch_size=7, shuffle=True, drop_last=True),
    "a loader without batches": DataLoader(TensorDataset(LEVELS, LABEL), batch_size=None),
    "a list of pairs": [(LEVELS[n], LABEL[n]) for n in range(30)],
    "samples by field": Pictures(lambda n: {"image": picture(n), "label": np.int64(LABEL[n])}),
    "arrays one by one": Pictures(lambda n: (ARRAY[n], LABEL[n])),
    "a data set": TensorImages(LEVELS, LABEL),
}


@pytest.mark.parametrize("given", DATA.values(), ids=DATA)
def test_outsiders_data_are_taken(given: Any, recipe_of: Callable[..., Recipe]) -> None:
    """Whatever holds them: the same images and labels in the same splits, so that arms are known again."""
    found, wanted = recipe_of(data=given).data.build(), TensorImages(LEVELS, LABEL)
    for split in ("train", "validation", "test"):
        ours, theirs = (all_of(data, split) for data in (found, wanted))
        assert torch.equal(ours.label, theirs.label)  # type: ignore[arg-type]
        assert torch.allclose(ours.image, theirs.image, atol=1e-6)


def all_of(data: Data, split: Any) -> Any:
    images = data.split(split)
    return images.read(torch.arange(len(images)))


def test_outsiders_masks_targets_and_images_alone_are_taken(recipe_of: Callable[..., Recipe]) -> None:
    pairs = {"teacher": filters(), "student": filters(), "task": Segmentation()}
    for masks in (
        (ARRAY, MASK.numpy()),
        Pictures(lambda n: (picture(n), Image.fromarray(MASK[n].numpy().astype(np.uint8)))),
    ):
        data = recipe_of(data=masks, **pairs).data.build()
        assert all_of(data, "test").mask.shape == (3, 8, 8) and data.mask_classes == tuple("0123")
    pairs = {"teacher": filters(3), "student": filters(3), "task": ImageTranslation()}
    for targets in ((ARRAY, ARRAY[:, ::-1]), Pictures(lambda n: (picture(n), picture(n).transpose(1)))):
        batch = all_of(recipe_of(data=targets, **pairs).data.build(), "test")
        assert torch.equal(batch.target, batch.image.flip(2))
    for alone in (ARRAY, Pictures(picture), [picture(n) for n in range(30)], DataLoader(LEVELS)):  # type: ignore[arg-type]
        assert recipe_of(data=alone, latent=(6,)).data.build().image_shape == (3, 8, 8)
    grey = {"teacher": sorter_of(1), "student": sorter_of(1)}
    data = recipe_of(data=(ARRAY[..., 0], LABEL), **grey).data.build()
    assert data.image_shape == (1, 8, 8)
    assert torch.equal(all_of(data, "test").image, all_of(TensorImages(LEVELS[:, :1]), "test").image)


def sorter_of(channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 4))


def test_outsiders_floats_are_in_the_range_that_the_networks_see(recipe_of: Callable[..., Recipe]) -> None:
    """[0, 1] beside mean and std, else `image_range`; one that is not theirs is refused, never guessed."""
    wanted = all_of(TensorImages(LEVELS, LABEL), "test").image
    for given in (
        {"data": (FLOATS * 255, LABEL), "image_range": (0, 255)},
        {"data": (FLOATS * 2 - 1, LABEL), "image_range": (-1, 1)},
        {"data": (FLOATS, LABEL), "image_range": None, "mean": [0.5] * 3, "std": [0.2] * 3},
        {"data": TensorImages(FLOATS, LABEL, image_range=(0, 1)), "image_range": (-1, 1)},
    ):
        assert torch.allclose(all_of(recipe_of(**given).data.build(), "test").image, wanted, atol=1e-5)


def test_outsiders_splits_of_their_own_are_taken(recipe_of: Callable[..., Recipe]) -> None:
    valid, test = TensorDataset(LEVELS[:5], LABEL[:5]), (ARRAY[5:9], LABEL[5:9].numpy())
    data = recipe_of(data=(LEVELS[9:], LABEL[9:]), validation=valid, test=test).data.build()
    labels = {split: all_of(data, split).label.tolist() for split in ("train", "validation", "test")}
    assert labels == {"train": LABEL[9:].tolist(), "validation": LABEL[:5].tolist(), "test": LABEL[5:9].tolist()}
    data = recipe_of(test=test).data.build()  # the validation is held out, and the test's part trains
    assert [len(data.split(split)) for split in ("train", "validation", "test")] == [27, 3, 4]
    assert all_of(data, "test").label.tolist() == LABEL[5:9].tolist()
    everything = [*all_of(data, "train").image, *all_of(data, "validation").image]
    assert len({image.sum().item() for image in everything}) == 30
    data = recipe_of(validation=0.2, test=np.float64(0.4)).data.build()
    assert [len(data.split(split)) for split in ("train", "validation", "test")] == [12, 6, 12]


class Keeps(nn.Module):
    """A network that is no Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = sorter()

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image)


def scripted() -> nn.Module:
    return torch.jit.script(sorter(3))  # type: ignore[no-any-return]


def traced() -> nn.Module:
    return torch.jit.trace(sorter(3).eval(), torch.rand(2, 3, 8, 8))  # type: ignore[no-any-return]


def sharing() -> dict[str, Any]:
    teacher = sorter()
    return {"teacher": teacher, "student": nn.Sequential(*list(teacher.children())[:-1], nn.Linear(2, 4))}


def process_group() -> nn.Module:
    """Return a network in DistributedDataParallel, whose process group is gone again."""
    network: nn.Module = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(network)
    network.module = sorter()
    return network


NETWORKS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a scripted teacher": (lambda: {"teacher": scripted()}, ""),
    "a traced teacher": (lambda: {"teacher": traced()}, ""),
    "a frozen script as teacher": (lambda: {"teacher": torch.jit.freeze(scripted().eval())}, ""),
    "DataParallel": (lambda: {"student": nn.DataParallel(sorter())}, "student: taken out of its DataParallel:"),
    "a teacher in DataParallel": (lambda: {"teacher": nn.DataParallel(sorter())}, "teacher: taken out of its Data"),
    "DistributedDataParallel": (lambda: {"student": process_group()}, "taken out of its DistributedDataParallel"),
    "compiled": (lambda: {"student": torch.compile(sorter())}, "student: taken out of its OptimizedModule"),
    "compiled and parallel": (
        lambda: {"student": torch.compile(nn.DataParallel(sorter()))}, "its OptimizedModule and DataParallel",
    ),
    "shared layers": (sharing, "shares 2 parameters with the teacher, 0.weight among them; both are copied"),
    "a class of a script": (lambda: {"student": Keeps()}, ""),
}  # fmt: skip


@pytest.mark.parametrize(("given", "said"), NETWORKS.values(), ids=NETWORKS)
def test_outsiders_network_is_taken(
    given: Callable[[], dict[str, Any]],
    said: str,
    recipe_of: Callable[..., Recipe],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = recipe_of(**given())
    lines = " ".join(capsys.readouterr().err.split())
    assert said in lines and bool(said) == ("distill: " in lines)
    for arm in recipe.arms().values():
        kinds = {type(module).__name__ for module in arm.network.build().modules()}
        assert not kinds & {"DataParallel", "DistributedDataParallel", "OptimizedModule"}


def random_sample(number: int) -> tuple[Tensor, int]:
    return torch.rand(3, 8, 8), 0


def unreadable(number: int) -> Any:
    if number < 20:
        return LEVELS[number], 0
    raise OSError("truncated file")


SAME = sorter()
MANY = TensorDataset(LEVELS, LABEL)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "float steps": ({"steps": 3e3}, "steps: expected whole number, found 3000.0; write 3000"),
    "steps as words": ({"steps": "many"}, "steps: expected whole number, found 'many'"),
    "no steps": ({"steps": None}, "steps: expected whole number, found nothing"),
    "no step": ({"steps": 0}, "steps: expected a whole number of at least 1, found 0"),
    "true steps": ({"steps": True}, "steps: expected whole number, found true"),
    "a float batch": ({"batch": 64.5}, "batch: expected whole number, found 64.5"),
    "a batch that cannot be split": ({"batch": 9, "micro_batches": 2}, "batch: 9 samples cannot be split evenly"),
    "fp16": ({"precision": "fp16"}, "precision: expected '32' or 'bf16' or 'auto', found 'fp16'"),
    "a type as precision": (
        {"precision": torch.bfloat16},
        "precision: expected '32' or 'bf16' or 'auto', found torch.bfloat16",
    ),
    "16": ({"precision": 16}, "precision: expected '32' or 'bf16' or 'auto', found 16"),
    "a schedule": ({"schedule": "linear"}, "schedule: expected 'constant' or 'cosine' or 'multistep', found 'linear'"),
    "a scheduler": ({"schedule": torch.optim.lr_scheduler.StepLR}, "schedule: expected 'constant' or 'cosine'"),
    "ema of 1": ({"ema": 1.0}, "ema: expected a number in [0, 1), found 1.0"),
    "ema as true": ({"ema": True}, "ema: expected number or null, found true"),
    "lr below 0": ({"lr": -1.0}, "optimizer: cannot be made: ValueError: Invalid learning rate: -1.0"),
    "lr as words": ({"lr": "fast"}, "lr: expected number or null, found 'fast'"),
    "lr of NaN": ({"lr": float("nan")}, "lr: expected number or null, found nan"),
    "two rates": ({"lr": 0.1, "optimizer": partial(ADAM, lr=0.2)}, "lr: expected none, as optimizer has one"),
    "a rate for a function without": (
        {"lr": 0.1, "optimizer": lambda own: ADAM(params=own)}, "optimizer: cannot be made: TypeError",
    ),
    "an optimiser that is made": (
        {"optimizer": ADAM(SAME.parameters())}, "optimizer: expected the class of an optimiser, its name, or a functio",
    ),
    "an optimiser of nobody": ({"optimizer": "AdamV"}, "optimizer: expected a Optimizer, found 'AdamV' (did you mean"),
    "one that takes a closure": ({"optimizer": torch.optim.LBFGS}, "optimizer: cannot be made: TypeError"),
    "a scheduler as optimiser": ({"optimizer": dict}, "optimizer: cannot be made: "),
    "one optimiser as all": ({"optimizers": ADAM}, "optimizers: expected optimisers by player, student; one for all"),
    "weights as a number": ({"weights": 0.5}, 'weights: expected weights by player.term, such as {"student.output"'),
    "a weight of nothing": (
        {"weights": {"student.cross_entropy": None}}, "weights: student.cross_entropy: expected number, found nothing",
    ),
    "a weight as words": ({"weights": {"student.cross_entropy": "high"}}, "expected number, found 'high'"),
    "a weight of a misspelt term": ({"weights": {"student.output": 1.0}}, "student.output: no such loss"),
    "seeds as a list": ({"seeds": [0, 1, 2]}, "seeds: expected whole number, found [0, 1, 2]"),
    "a seed below 0": ({"seed": -1}, "seed: expected a whole number of at least 0, found -1"),
    "control by name": ({"control": "no"}, "control: expected true or false, found 'no'"),
    "a device": ({"device": "cuda"}, 'device: here it is `accelerator`, such as "cuda"'),
    "an accelerator of torch": ({"accelerator": torch.device("cpu")}, "accelerator: expected text, found device"),
    "a gpu": ({"accelerator": "gpu"}, "accelerator: expected auto, cpu, cuda, mps, found 'gpu'"),
    "epochs": ({"epochs": 10}, "epochs: here it is `steps`, a batch each"),
    "batch_size": ({"batch_size": 10}, "batch_size: here it is `batch`"),
    "optimiser": ({"optimiser": "SGD"}, "optimiser: here it is `optimizer`"),
    "weight_decay": ({"weight_decay": 0.1}, "weight_decay: here it is in `optimizer`, such as partial("),
    "a loss": ({"loss": nn.MSELoss()}, "loss: here it is `terms` by player.term"),
    "misspelt": ({"optimzer": "SGD"}, "no such argument 'optimzer' of Supervised, the training or the networks' view"),
    "a folder of no path": ({"out": None}, "out: expected the path of a folder, found None"),
    "augmentation by name": ({"augmentation": "Flip"}, "augmentation: expected one, such as Flip(), found 'Flip'"),
    "an augmentation's class": ({"augmentation": Flip}, "augmentation: expected one, such as Flip()"),
    "augment by name": ({"latent": (6,), "augment": "Flip"}, "augment: expected a Augmentation that is made, found 'F"),
    "critic_steps in words": ({"latent": (6,), "critic_steps": "two"}, "critic_steps: expected whole number, found 't"),
    "float critic_steps": ({"latent": (6,), "critic_steps": 2.0}, "critic_steps: expected whole number, found 2.0; wr"),
    "Gan's features": (
        {"latent": (6,), "features": ["0"]},
        'is a term, terms={"student.feature": FeatureMatching(paths=...)}',
    ),
    "a latent as a number": ({"latent": 6}, "latent: expected the shape of one latent, such as (128,), found 6"),
    "a latent of floats": ({"latent": (6.0,)}, "latent: expected list of whole number, found [6.0]"),
    "samples in words": ({"latent": (6,), "samples": "all"}, "samples: expected whole number, found 'all'"),
    "a range of one": ({"image_range": 1}, "image_range: expected list of number, found 1"),
    "a range in words": ({"image_range": "0-1"}, "image_range: expected list of number, found '0-1'"),
    "a range of three": ({"image_range": (0, 1, 2)}, "image_range: expected [low, high] with low < high"),
    "mean as a number": ({"image_range": None, "mean": 0.5, "std": 0.5}, "mean: expected list of number or null, fo"),
    "an optimiser that cannot be sent": (
        {"processes": 2, "optimizer": lambda own: ADAM(params=own)}, "processes: expected networks, terms and",
    ),
    "a script that cannot be sent": ({"processes": 2, "teacher": scripted()}, "use no lambda and no TorchScript, o"),
    # Networks.
    "a lambda": ({"student": lambda x: x}, "student: expected a torch.nn.Module, found 'function'; call it"),
    "a function": ({"teacher": sorter}, "; call it in the forward of a module of your own"),
    "a class": ({"student": Keeps}, "student: expected a torch.nn.Module, found <class", ),
    "a file of weights": ({"teacher": "teacher.pth"}, "build the network, and load its weights with load_state_dict"),
    "weights alone": ({"teacher": SAME.state_dict()}, "teacher: expected a torch.nn.Module, found 'OrderedDict'"),
    "nothing": ({"student": None}, "student: expected a torch.nn.Module, found None"),
    "a bound method": ({"teacher": SAME.forward}, "teacher: expected a torch.nn.Module, found 'method'"),
    "a partial": ({"teacher": partial(sorter, 2)}, "teacher: expected a torch.nn.Module, found 'partial'"),
    "the teacher itself": ({"teacher": SAME, "student": SAME}, "student: expected another network than the teacher"),
    "the teacher in DataParallel": (
        {"teacher": SAME, "student": nn.DataParallel(SAME)}, "student: expected another network than the teacher",
    ),
    "a scripted student": ({"student": scripted()}, "student: expected a module of Python code, found one of Torch"),
    "a student with a script in it": ({"student": nn.Sequential(scripted())}, "found one of TorchScript"),
    "a lazy student": (
        {"student": nn.Sequential(nn.LazyConv2d(4, 8), nn.Flatten())}, "found that 0.weight has no shape yet; call",
    ),
    "a lazy norm": (
        {"student": nn.Sequential(nn.LazyBatchNorm2d(affine=False), sorter())}, "that 0.running_mean has no shape yet",
    ),
    "a lazy discriminator": ({"latent": (6,), "discriminator": nn.LazyLinear(1)}, "discriminator: expected a network "),
    "on the meta device": ({"teacher": sorter().to("meta")}, "teacher: expected a network with weights, found that 0."),
    "a discriminator by name": ({"latent": (6,), "discriminator": "Dcgan"}, "discriminator: expected a torch.nn.Modul"),
    # Data.
    "an iterable data set": ({"data": Stream()}, "found 'Stream'; give one with a length"),
    "a loader of one": ({"data": DataLoader(Stream())}, "found 'Stream'; give one with a length"),
    "a generator": ({"data": (x for x in LEVELS)}, "found 'generator'; give one with a length"),
    "an iterator": ({"data": iter(DataLoader(MANY))}, "LoaderIter'; give one with a length whose samples are read"),
    "a sampler of its own": (
        {"data": DataLoader(MANY, sampler=SubsetRandomSampler(range(9)))}, "found one with a sampler of its own",
    ),
    "batches of its own": (
        {"data": DataLoader(MANY, batch_sampler=[[0, 1], [2, 3]])}, "found one with a sampler of its own",  # type: ignore[arg-type]
    ),
    "a collate_fn of its own": (
        {"data": DataLoader(MANY, collate_fn=lambda samples: samples[0])}, "found one with a collate_fn of its own",
    ),
    "random samples": ({"data": Pictures(random_sample)}, "number 0 changes from one reading to the next; leave rando"),
    "no samples": ({"data": Pictures(random_sample, 0)}, "data: expected samples, found an empty Pictures"),
    "an empty list": ({"data": []}, "data: expected samples, found an empty list"),
    "an unreadable sample": ({"data": Pictures(unreadable)}, "sample 20 cannot be read: OSError: truncated file"),
    "samples of several sizes": (
        {"data": Pictures(lambda n: (ARRAY[n, : 4 + n % 2], 0))}, "found (3, 5, 8) of torch.uint8 at number 1; let the",
    ),
    "labels in words": ({"data": Pictures(lambda n: (picture(n), "cat"))}, "the number of a class, from 0 in every sa"),
    "labels one-hot": ({"data": Pictures(lambda n: (LEVELS[n], torch.eye(4)[0]))}, "a tensor (4,)"),
    "pictures with an alpha": ({"data": Pictures(lambda n: (picture(n, "RGBA"), 0))}, "pictures in RGB or grey, found"),
    "palettes": ({"data": Pictures(lambda n: (picture(n, "P"), 0))}, 'let the data set do image.convert("RGB")'),
    "samples of nothing": ({"data": Pictures(lambda n: None)}, "expected an image in every sample, found NoneType"),
    "a terabyte": ({"data": Pictures(lambda n: (LEVELS[n % 30], 0), 10**10)}, "of at most 8 GiB, as they are read int"),
    "fields of others": ({"data": {"x": LEVELS, "y": LABEL}}, "samples by field, image, label, mask, target, found 'x"),
    "labels alone": ({"data": {"label": LABEL}}, "data: expected images among the samples, found ['label']"),
    "a number": ({"data": 5}, "data: expected a folder, a tensor or array of images"),
    "a single picture": ({"data": picture(0)}, "data: expected a folder, a tensor or array of images"),
    "nothing as data": ({"data": None}, "data: expected a folder, a tensor or array of images"),
    "a tensor with channels last": (
        {"data": (LEVELS.permute(0, 2, 3, 1), LABEL)}, "found (30, 8, 8, 3); turn them: images.permute(0, 3, 1, 2)",
    ),
    "an array of either order": (
        {"data": (np.zeros((30, 3, 8, 3), np.uint8), LABEL)}, "found (30, 3, 8, 3); give a tensor (N, C, H, W)",
    ),
    "an array of four channels": (
        {"data": (np.zeros((30, 8, 8, 4), np.uint8), LABEL)}, "images (N, H, W, C) or (N, H, W) of 1 or 3 channels",
    ),
    "an array of objects": ({"data": np.array([None, 1])}, "data: expected an array of numbers, found 'an array of ob"),
    "whole numbers": ({"data": (ARRAY.astype(np.int64), LABEL)}, "expected uint8 (0..255) or float images"),
    "16 bits": ({"data": (ARRAY.astype(np.uint16), LABEL)}, "expected uint8 (0..255) or float images, found torch.int"),
    "float labels": ({"data": (ARRAY, LABEL.numpy() / 1)}, "whole-number labels, found (30,) of torch.float64"),
    "floats of another range": ({"data": (FLOATS * 2 - 1, LABEL)}, "expected float images in [0, 1], found -1..1; say"),
    "floats in 0..1 for networks in [-1, 1]": (
        {"data": (FLOATS, LABEL), "image_range": (-1, 1)}, "expected float images that use [-1, 1], found 0..1; say",
    ),
    "standardized floats": (
        {"data": (FLOATS * 5 - 2, LABEL), "image_range": None, "mean": [0.4] * 3, "std": [0.2] * 3},
        "expected float images in [0, 1], found -2..3",
    ),
    "a file": ({"data": __file__}, "expected a folder of images, found the file"),
    "no folder": ({"data": Path("absent")}, "data: no such folder: absent"),
    "a split of another size": (
        {"validation": (LEVELS[:, :, :4], LABEL)}, "validation: expected images like those of the data, (3, 8, 8) of",
    ),
    "a split without labels": ({"test": LEVELS}, "test: expected labels like those of the data, () of torch.int64, fo"),
    "a split of floats": ({"test": (FLOATS, LABEL)}, "test: expected images like those of the data, (3, 8, 8) of torc"),
    "all of it": ({"validation": 1}, "expected parts in (0, 1) that leave some for training, found validation 1.0"),
    "a part of a data set": (
        {"data": TensorImages(LEVELS, LABEL), "validation": 0.2}, "validation: expected none, as the data have splits",
    ),
    "a part of a folder": ({"data": str(Path(__file__).parent), "test": 0.2}, "such as ImageFolder(path, size=32, val"),
    "a shape of floats": ({"image_shape": (3, 8.0, 8)}, "image_shape: expected list of whole number, found [3, 8.0, 8"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED)
def test_outsiders_argument_is_refused_in_a_line(
    given: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distillation, "run", lambda *args, **options: pytest.fail("it would train"))
    usual = {"teacher": sorter(3), "student": sorter(), "data": (LEVELS, LABEL), "task": Classification()}
    if "latent" in given:
        usual = {"teacher": maker(), "student": maker(), "data": LEVELS}
    with pytest.raises(LimbeckError) as caught:
        limbeck.distill(
            **{**usual, "batch": 8, "image_range": (0, 1), "accelerator": "cpu", "out": "runs/mine"} | given
        )  # type: ignore[arg-type]
    line = str(caught.value)
    assert said in line and "\n" not in line and len(line) < 700
    assert list(tmp_path.iterdir()) == []


def test_outsiders_distill_can_be_looked_up() -> None:
    """Help and completion show every option of a training with the default that it has here."""
    shown = inspect.signature(limbeck.distill).parameters
    assert list(shown)[:3] == ["teacher", "student", "data"] and list(shown)[-1] == "options"
    told = {name: parameter.default for name, parameter in shown.items()}
    for name, field in inspect.signature(Training).parameters.items():
        assert re.search(rf"`{name}`|^ *{name}: ", str(limbeck.distill.__doc__), re.MULTILINE)
        usual = {"ema": 0.99, "schedule": "cosine", "steps": 3000, "batch": 64}
        if isinstance(field.default, str | int | float | None):
            assert told[name] == usual.get(name, field.default)


def test_outsiders_names_of_the_package_are_listed_before_anything_is_imported() -> None:
    script = """
import sys, limbeck
assert dir(limbeck) == ["__version__", "distill"] == sorted(limbeck.__all__), dir(limbeck)
assert "torch" not in sys.modules
try:
    limbeck.distil
except AttributeError as error:
    assert error.name == "distil" and error.obj is limbeck
import rlcompleter
found = rlcompleter.Completer({"limbeck": limbeck}).complete("limbeck.dis", 0)
assert found.startswith("limbeck.distill"), found
from limbeck import *
assert "lr" in __import__("inspect").signature(distill).parameters
import pydoc
assert "lr" in pydoc.render_doc(limbeck.distill) and "evaluate_every: " in pydoc.render_doc(limbeck.distill)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_outsiders_line_runs_to_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader, a scripted teacher, a wrapped student, a rate, an average, bf16 and a watched training, in one line."""
    monkeypatch.setattr(
        "limbeck.run.assessing.costs", lambda networks, inputs: {n: Cost({"parameters": 1.0}, {}) for n in networks}
    )
    monkeypatch.chdir(tmp_path)
    loader, student = DataLoader(TensorDataset(FLOATS, LABEL), batch_size=4, shuffle=True), sorter()
    before = copy.deepcopy(student.state_dict())
    trained = limbeck.distill(
        scripted(), nn.DataParallel(student), loader, task=Classification(), image_range=(0, 1), steps=3, batch=8,
        lr=2e-2, ema=0.5, precision="bf16", evaluate_every=1, validation=0.2, accelerator="cpu",
    )  # fmt: skip
    assert type(trained) is nn.Sequential and not trained.training
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert not any(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert Path("runs/distilled/report.html").exists()
    description = json.loads(Path("runs/distilled/result.json").read_text())["recipe"]["training"]
    assert (description["ema"], description["precision"], description["evaluate_every"]) == (0.5, "bf16", 1)
    assert description["optimizers"]["student"]["lr"] == 2e-2

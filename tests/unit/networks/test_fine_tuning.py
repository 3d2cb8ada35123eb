"""Freezing, learning rates by layer and new layers, by what they do to the weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.data.base import InMemory
from limbeck.errors import RecipeError, WeightsError
from limbeck.methods.supervised import Supervised
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.given.external import Wrapped
from limbeck.networks.given.weights import load_weights, save_weights
from limbeck.tasks.classification import Classification
from limbeck.training.engine import Engine
from limbeck.training.feed import Material
from limbeck.training.fine_tuning import freeze, grouped, start
from limbeck.training.job import Job, Place
from limbeck.training.launch import fit
from limbeck.training.options import Training
from limbeck.training.replicas import One
from limbeck.weighting.scheduled import Scheduled

SGD = {"student": partial(torch.optim.SGD, lr=0.1)}


def network(classes: int = 3) -> SmallCnn:
    torch.manual_seed(0)
    return SmallCnn(width=2, size=8, classes=classes)


def job(folder: Path, student: SmallCnn, **options: Any) -> Job:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (32, 1, 8, 8), generator=draw, dtype=torch.uint8)
    method = Supervised(student)
    training = Training(**{"steps": 3, "batch": 8, "optimizers": SGD} | options)
    start(student, None, [], training)
    images, weighting = InMemory(image, torch.arange(32) % 3), Scheduled({}, method.losses())
    place = Place(folder, accelerator="cpu")
    return Job(method, Material(images, Classification()), training, weighting, seed=0, place=place)


def moved(folder: Path, **options: Any) -> dict[str, float]:
    """Return how far each entry of a network's state went in three steps."""
    student = network()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    fit(job(folder, student, **options))
    return {n: float((v - before[n]).abs().max()) for n, v in student.state_dict().items()}


def test_frozen_layers_keep_weights_and_statistics_and_the_others_train(tmp_path: Path) -> None:
    far = moved(tmp_path, freeze="blocks.1", ema=0.9)
    frozen = {name for name, distance in far.items() if distance == 0}
    assert frozen == {name for name in far if name.startswith(("blocks.0", "blocks.1"))}
    assert {"blocks.1.norm.running_mean", "blocks.1.norm.num_batches_tracked"} <= frozen
    assert far["blocks.2.norm.running_mean"] > 0


def test_a_frozen_layer_inside_a_block_freezes_what_stands_before_it() -> None:
    student = network()
    freeze(student, "blocks.1.conv")
    held = {name for name, parameter in student.named_parameters() if not parameter.requires_grad}
    assert held == {"blocks.0.conv.weight", "blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.1.conv.weight"}


def test_the_longest_path_decides_the_rate_and_scales_the_first_step(tmp_path: Path) -> None:
    rates = {"blocks": 0.1, "blocks.2": 0.01, "blocks.2.norm": 0.5}
    plain, scaled = (moved(tmp_path / str(len(r)), steps=1, rates=r) for r in ({}, rates))
    for name, factor in {
        "output.weight": 1.0, "blocks.0.conv.weight": 0.1, "blocks.2.conv.weight": 0.01, "blocks.2.norm.bias": 0.5,
    }.items():  # fmt: skip
        assert plain[name] > 0
        assert scaled[name] == pytest.approx(factor * plain[name], rel=1e-3), name


def test_every_parameter_is_in_one_group_and_schedules_keep_the_ratio(tmp_path: Path) -> None:
    student = network()
    groups = grouped(list(student.parameters()), student, {"blocks.0": 0.5})
    assert sorted(map(id, [p for group in groups.values() for p in group])) == sorted(map(id, student.parameters()))

    engine = Engine(One("cpu"), job(tmp_path, network(), rates={"blocks.0": 0.5}, schedule="cosine"))
    for batch in engine.feed.steps(0, 3):
        engine.advance(batch)
        slow, fast = sorted(group["lr"] for group in engine.optimizers["student"].param_groups)
        assert slow == pytest.approx(0.5 * fast)


def test_an_adapted_network_takes_everything_but_its_new_head(tmp_path: Path) -> None:
    trained, student = network(classes=7), network(classes=3)
    save_weights(trained, tmp_path / "trained.safetensors")
    head = student.output.weight.clone()
    with pytest.raises(WeightsError, match=r"output\.weight expected \(3, 8\), found \(7, 8\)"):
        load_weights(student, tmp_path / "trained.safetensors")
    load_weights(student, tmp_path / "trained.safetensors", ["output"])
    assert torch.equal(student.output.weight, head)
    kept = {n: v for n, v in trained.state_dict().items() if not n.startswith("output.")}
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in kept.items())


def test_a_new_head_is_new_even_if_the_file_has_one_of_its_shape_and_in_nested_files(tmp_path: Path) -> None:
    trained, student = network(), Wrapped(network(), "classifier")
    torch.save({"state_dict": {f"module.{n}": v for n, v in trained.state_dict().items()}}, tmp_path / "trained.pth")
    head: Tensor = student.module.output.weight.clone()  # type: ignore[union-attr, operator, assignment]
    start(student, tmp_path / "trained.pth", ["output"], Training(steps=1))
    assert torch.equal(student.module.output.weight, head)  # type: ignore[union-attr, arg-type]
    assert torch.equal(student.module.blocks[0].conv.weight, trained.blocks[0].conv.weight)  # type: ignore


@pytest.mark.parametrize(
    ("layers", "training", "words"),
    [
        (["outputs"], {}, r"new_layers 'outputs': no such module in SmallCnn \(did you mean 'output'\?\)"),
        ([], {"freeze": "block.1"}, r"training.freeze 'block\.1': no such module.*blocks\.1"),
        ([], {"freeze": "output"}, "training.freeze: 'output' leaves nothing to train"),
        ([], {"rates": {"head": 2.0}}, "training.rates 'head': no such module"),
    ],
)
def test_paths_that_do_not_exist(layers: list[str], training: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        start(network(), None, layers, Training(steps=1, **training))

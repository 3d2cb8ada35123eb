"""The JSON Schema of recipes, which jsonschema (an implementation of the standard) reads."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from torch import nn
from torch.optim import Optimizer

from limbeck.cli import main
from limbeck.methods.base import Method
from limbeck.recipe import tree as trees
from limbeck.recipe.catalogue import catalogue
from limbeck.recipe.schema import recipe_schema

RECIPES = Path(__file__).parents[2] / "recipes"

GOOD: dict[str, Any] = yaml.safe_load("""
name: toy
seeds: 2
data: {class_path: Glyphs, init_args: {size: 32, channels: 1}}
task: {class_path: Generation, init_args: {latent: [64]}}
method: Gan
networks: {discriminator: {class_path: DcganDiscriminator, init_args: {width: 8}}}
augmentation: {class_path: AugmentationSequence, init_args: {augmentations: [Flip, {class_path: Crop, init_args: {}}]}}
weighting: Scheduled
teacher:
  network: {class_path: DcganGenerator, init_args: {width: 8}}
  training: {steps: 20, precision: 32, optimizers: {student: {class_path: Adam, init_args: {lr: 0.01}}}}
student:
  network: {class_path: DcganGenerator, init_args: {width: 4}}
  training: {steps: 10, batch: 8}
  weights: {student.output: 1, student.adversarial: {weight: 0.1, from: 0.5}}
students:
  small: {network: {init_args: {width: 2}}, control: {training: {steps: 7}}}
  same: null
  other: {control: small}
control: true
baselines: {mine: somebody.elses.Network}
""")


@cache
def validator() -> Draft202012Validator:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def changed(key: str, value: Any) -> dict[str, Any]:
    tree = deepcopy(GOOD)
    trees.override(tree, key, value)
    return tree


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_ships_satisfies_it(path: Path) -> None:
    assert [error.message[:300] for error in validator().iter_errors(trees.load(path))] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "toy"),
        ("students", None),
        ("control", False),
        ("features", {"name": "cnn", "network": "SmallCnn", "method": "Supervised", "training": {"steps": 5}}),
        ("data.class_path", "limbeck.data.glyphs.Glyphs"),
        ("data", {"class_path": "somebody.elses.Data", "init_args": {"whatever": 1}}),
        ("student.network", {"class_path": "Import", "init_args": {"target": "a.B", "arguments": {"x": [1, None]}}}),
        ("task.init_args", {"latent": [8], "samples": 100}),
        ("students.small.network", {"class_path": "Import", "init_args": {"classes": 3}}),  # a change of an Import
        ("augmentation.init_args.augmentations", []),
    ],
)
def test_what_a_recipe_may_say(key: str, value: Any) -> None:
    assert validator().is_valid(changed(key, value)), key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nam", "toy"),
        ("name", "../etc"),
        ("seeds", 0),
        ("seeds", "many"),
        ("data", None),
        ("data.init_args.sise", 32),
        ("data.init_args.size", "large"),
        ("data.class_path", "Glyph"),
        ("data", "Gan"),  # of another room
        ("task", "Generation"),  # which needs a latent
        ("task.init_args", {}),
        ("method", {"class_path": "Gan", "init_args": {"student": "DcganGenerator"}}),  # gets it from elsewhere
        ("augmentation.init_args.augmentations", [{"class_path": "Flip", "init_args": {"vertical": 3}}]),
        ("augmentation.init_args.augmentations", ["Flap"]),
        ("teacher.network.init_args.widht", 8),
        ("teacher.network.width", 8),
        ("teacher.start_from_teacher", []),
        ("teacher.training.stepz", 8),
        ("teacher.training.precision", 16),
        ("teacher.training.schedule", "cosin"),
        ("teacher.training.optimizers.student.init_args.betas", [0.9]),
        ("teacher.training.optimizers.student.init_args.params", []),
        ("student.weights.student.output", "much"),
        ("student.weights.student.output", {"weight": 1, "form": 0.5}),
        ("student.weighting", {"class_path": "Scheduled", "init_args": {"weights": {}}}),
        ("students.small.network.init_args", 3),
        ("students.small.controll", True),
        ("control", {"network": {}}),
        ("settings_tried", {"teacher": 3}),
    ],
)
def test_what_a_recipe_may_not_say(key: str, value: Any) -> None:
    assert validator().is_valid(GOOD)
    assert not validator().is_valid(changed(key, value)), key


@pytest.mark.parametrize("missing", ["name", "data", "task"])
def test_what_every_recipe_says(missing: str) -> None:
    assert not validator().is_valid({name: value for name, value in GOOD.items() if name != missing})


def test_every_class_of_every_room_is_described_once() -> None:
    definitions = recipe_schema()["$defs"]
    for base, room in ((nn.Module, "ChangeModule"), (Method, "ChangeMethod"), (Optimizer, "ChangeOptimizer")):
        choices = definitions[room]["anyOf"]
        described = {
            choice["properties"]["class_path"].get("enum", [None])[0]
            for choice in choices
            if "properties" in choice and "class_path" in choice["properties"]
        }
        assert described - {None} == {cls.__name__ for cls in catalogue(base)}
    width = definitions["DcganGenerator"]["properties"]["width"]
    assert width["type"] == "integer" and width["default"] == 48 and width["description"]


def test_every_reference_leads_somewhere() -> None:
    schema = recipe_schema()
    found: set[str] = set()

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                found.add(part["$ref"])
            for each in part.values():
                walk(each)
        elif isinstance(part, list):
            for each in part:
                walk(each)

    walk(schema)
    assert {f"#/$defs/{name}" for name in schema["$defs"]} == found


def test_the_verb_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == recipe_schema()

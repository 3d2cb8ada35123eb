"""The arms of a run: built, named and checked before any of them is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.baselines.base import Fitted
from limbeck.data.base import Data
from limbeck.errors import DataError, LimbeckError, RecipeError
from limbeck.ground.progress import say
from limbeck.ground.randomness import generator
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.features import ClassifierFeatures
from limbeck.recipe.content import code_in, content_of
from limbeck.recipe.parts import Part
from limbeck.recipe.probing import Probe
from limbeck.recipe.reader import FeatureArm, Recipe
from limbeck.recipe.rehearsal import rehearse
from limbeck.run.arm import Arm
from limbeck.run.evaluation import evaluate
from limbeck.run.setting import Setting
from limbeck.tasks.classification import Classification
from limbeck.training.options import Training


@dataclass(frozen=True)
class Run:
    """The arms of a run, built but not yet trained.

    Attributes:
        recipe: What to run.
        setting: What the arms share.
        extractor: What distribution metrics compare by, or None.
        teacher: The teacher, or None.
        controls: For each name of a control, one arm a seed.
        students: For each name of a student, one arm a seed.
        control_of: The name of the control of each student that has one.
    """

    recipe: Recipe
    setting: Setting
    extractor: FeatureExtractor | None
    teacher: Arm | None
    controls: Mapping[str, list[Arm]]
    students: Mapping[str, list[Arm]]
    control_of: Mapping[str, str]

    def arms(self) -> dict[str, list[Arm]]:
        """Return all arms by name, in the order in which they train."""
        teacher = {"teacher": [self.teacher]} if self.teacher else {}
        return {**teacher, **self.controls, **self.students}

    @cached_property
    def baselines(self) -> dict[str, nn.Module]:
        """The recipe's baselines by name, ready to be called, fitted to training images where they need that."""
        task, data, device = self.setting.task, self.setting.data, self.setting.device
        parts = self.recipe.baselines.items()
        return {name: task.ready(fitted(part.build(), data)).to(device).eval() for name, part in parts}


def prepare(recipe: Recipe, out: Path, arms: Path | None = None, accelerator: str = "auto") -> Run:
    """Return the arms of a recipe; only the feature network, by which the others are measured, is trained.

    Before that everything is built once, and what is not trained yet is probed: whatever a verb is to do with the arms,
    what cannot work shows here.

    Raises:
        LimbeckError: Anything in recipe, data or weights that cannot be used.
    """
    rehearse(recipe)
    setting = setting_of(recipe, arms or out / "arms", accelerator)
    _check_splits(setting)
    for name, arm in recipe.arms().items():
        if arm.training is not None:
            _check_training(name, arm.training, setting)
    _probe(recipe, setting)
    _make(setting.store)
    return built(recipe, setting, measured_by(recipe, setting))


def built(recipe: Recipe, setting: Setting, extractor: FeatureExtractor | None) -> Run:
    """Return the arms of a recipe, as they are."""
    teacher = Arm("teacher", recipe.teacher, setting, recipe.seeds[0], None, extractor) if recipe.teacher else None
    return Run(
        recipe,
        setting,
        extractor,
        teacher,
        {
            name: [Arm(name, control, setting, seed, None, extractor) for seed in recipe.seeds]
            for name, control in recipe.controls.items()
        },
        _students(recipe, setting, teacher, extractor),
        recipe.control_of,
    )


def setting_of(recipe: Recipe, store: Path, accelerator: str) -> Setting:
    """Return what the arms of a recipe share, with what arms and evaluations are known by."""
    data, task = dict(recipe.data.description), dict(recipe.task.description)
    measured_as: dict[str, Any] = {"task": task}
    if isinstance(recipe.features, FeatureArm):
        measured_as["features"] = recipe.features.arm.description()
    elif recipe.features is not None:
        measured_as["features"] = dict(recipe.features.description)
    measured_as["content"] = content_of(measured_as)
    code = code_in([data, task])
    return Setting(recipe.data.build(), recipe.task.build(), store, accelerator, code, measured_as)


def _probe(recipe: Recipe, setting: Setting) -> None:
    """Probe the arms that are not trained yet, and the networks whose weights come from elsewhere."""
    everything = built(recipe, setting, None)
    # Students before controls: a mistake that both have is told under the name that the recipe has for it.
    groups = {name: group for name, group in everything.arms().items() if name not in everything.controls}
    groups |= everything.controls
    if isinstance(recipe.features, FeatureArm):
        groups = {"features": [_features(recipe, recipe.features, setting)], **groups}
    for name, group in groups.items():
        first = group[0]
        if first.loaded or not all(arm.done for arm in group):
            probe = Probe(setting.data, first.setting.task, setting.accelerator)
            probe.arm(name, first.recipe, None if first.teacher is None else first.teacher.recipe)
    for name, part in recipe.baselines.items():
        Probe(setting.data, setting.task, setting.accelerator).baseline(name, part.build())


def _check_splits(setting: Setting) -> None:
    """Read every split that the run will need: what is missing there would show at the end of a training."""
    for part in ("train", "validation", setting.data.reference_split):
        setting.data.split(part)


def _check_training(name: str, training: Training, setting: Setting) -> None:
    """Refuse a batch larger than the data, and more processes than the machine has devices."""
    count, batch = len(setting.data.split("train")), training.batch
    if batch > count:
        found = f"found {batch} and {count}; make the batch smaller"
        raise DataError(f"{name}: expected a training.batch of at most the number of training images, {found}")
    device = setting.device.type
    most = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device)
    if most is not None and training.processes > most:
        found = f"found {training.processes}; make them fewer, or choose --accelerator cpu"
        raise RecipeError(f"{name}: expected at most {most} training.processes on {device}, one a device, {found}")


def _make(store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LimbeckError(f"{store}: cannot be made ({error.strerror}); choose another folder with --out") from error


def _students(
    recipe: Recipe, setting: Setting, teacher: Arm | None, extractor: FeatureExtractor | None
) -> dict[str, list[Arm]]:
    """Return the students; one that another student teaches learns from that one's arm of the same seed."""
    students: dict[str, list[Arm]] = {}
    for name, student in recipe.students.items():
        same = [teacher] * len(recipe.seeds)
        teachers = same if student.taught_by is None else students[student.taught_by]
        arms = zip(recipe.seeds, teachers, strict=True)
        students[name] = [Arm(name, student, setting, seed, taught_by, extractor) for seed, taught_by in arms]
    return students


def measured_by(recipe: Recipe, setting: Setting) -> FeatureExtractor | None:
    """Return what distribution metrics compare by: a classifier, trained here if need be, or a ready extractor."""
    if recipe.features is None or isinstance(recipe.features, Part):
        return None if recipe.features is None else recipe.features.build()
    arm = _features(recipe, recipe.features, setting).fit()
    right = evaluate(arm)["top1"]
    say(f"{recipe.features.name}: {right:.1%} right on the {setting.data.reference_split} split")
    return ClassifierFeatures(arm.network(), recipe.features.name)


def _features(recipe: Recipe, features: FeatureArm, setting: Setting) -> Arm:
    """Return the arm of a feature network: a classifier, whatever the task."""
    labelled = replace(setting, task=Classification(), code=code_in(dict(recipe.data.description)), measured_as={})
    return Arm(f"features {features.name}", features.arm, labelled, recipe.seeds[0])


def fitted(network: nn.Module, data: Data) -> nn.Module:
    """Return a baseline as it is, or if it needs that fitted to training images drawn once for all runs."""
    if isinstance(network, Fitted):
        say(f"fitting {type(network).__name__}")
        train = data.split("train")
        batch = train.read(torch.randperm(len(train), generator=generator(0, "fit"))[: network.train_images])
        network.fit(batch.need("image", data.name), batch.need(network.truth, data.name))
    return network

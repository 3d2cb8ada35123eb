"""The plan of a run: its arms and their parts, read by `reader.py` from YAML or made in Python by `distill`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.data.base import Augmentation, Data
from limbeck.errors import RecipeError
from limbeck.methods.base import Method
from limbeck.metrics.base import FeatureExtractor
from limbeck.recipe.catalogue import network_arguments
from limbeck.recipe.parts import Part
from limbeck.recipe.tree import dump
from limbeck.tasks.base import Task
from limbeck.training.fine_tuning import copy_part, start
from limbeck.training.options import Training
from limbeck.weighting.base import Weighting
from limbeck.weighting.schedule import Schedule
from limbeck.weighting.scheduled import Scheduled

SCHEDULED: Part[Weighting] = Part({"class_path": "limbeck.weighting.scheduled.Scheduled"}, Scheduled, Scheduled)


@dataclass(frozen=True)
class ArmRecipe:
    """One network to train, or to load: the teacher, a student, a control, or a feature network.

    Attributes:
        network: The network that the arm is about; its method's `student`.
        method: How it learns; `build` takes the networks by name.
        training: How long; None for a network that is loaded.
        networks: Further networks of the method, by name: `discriminator`...
        training_description: `training` as plain JSON.
        weights: Weights of losses that differ from the method's default, by "player.loss".
        weighting: How the losses of one update become one number; `build` takes `weights` and `defaults`.
        load: File of a trained network, relative to the working directory; with `training` the network starts there,
            without it the arm is not trained.
        new_layers: Module paths of the network that do not take their weights from `load`, such as its head.
        start_from_teacher: Names of the networks that start as a copy of the teacher's trained ones, or of modules in
            them, such as "student.encoder".
        taught_by: Name of the student that is this one's teacher (an assistant); None for the run's teacher.
        augmentation: Applied to the training images, or None.
    """

    network: Part[nn.Module]
    method: Part[Method]
    training: Training | None
    networks: Mapping[str, Part[nn.Module]] = field(default_factory=dict)
    training_description: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float | Schedule] = field(default_factory=dict)
    load: Path | None = None
    new_layers: tuple[str, ...] = ()
    start_from_teacher: tuple[str, ...] = ()
    taught_by: str | None = None
    augmentation: Part[Augmentation] | None = None
    weighting: Part[Weighting] = SCHEDULED

    def description(self) -> dict[str, Any]:
        """Return everything that decides what the arm becomes, as plain JSON; a file is known by its content."""
        return {
            "network": dict(self.network.description),
            "networks": {name: dict(part.description) for name, part in self.networks.items()},
            "method": dict(self.method.description),
            "training": dict(self.training_description),
            "weights": {name: _weight(weight) for name, weight in self.weights.items()},
            "load": None if self.load is None else hashlib.sha256(self.load.read_bytes()).hexdigest(),
            **({"new_layers": list(self.new_layers)} if self.new_layers else {}),
            "start_from_teacher": list(self.start_from_teacher),
            "augmentation": None if self.augmentation is None else dict(self.augmentation.description),
            **({} if self.weighting.cls is Scheduled else {"weighting": dict(self.weighting.description)}),
        }

    def weigh(self) -> Weighting:
        """Return the weighting of the method's losses."""
        there = {"student", *self.networks}  # a method can go without a discriminator
        losses = {name: weight for name, weight in losses_of(self.method).items() if name.partition(".")[0] in there}
        return self.weighting.build(weights=self.weights, defaults=losses)

    def assemble(self, networks: Mapping[str, nn.Module], teacher: Mapping[str, nn.Module] | None = None) -> Method:
        """Return the method with its networks, fine-tuned ones with their given weights and frozen parts.

        Args:
            networks: `student` and the further networks, by name.
            teacher: The teacher arm's trained networks by the same names, or None. The method gets the teacher's
                `student` as `teacher`, and its `discriminator`, say, as `teacher_discriminator`; those that it does
                not take are left out.

        Raises:
            LimbeckError: The networks do not fit the method, the file of weights, or the paths to freeze.
        """
        teaching = teacher or {}
        if self.training is not None:
            start(networks["student"], self.load, self.new_layers, self.training)
        for place in self.start_from_teacher if teaching else ():
            name, _, path = place.partition(".")
            if name not in teaching:
                raise RecipeError(
                    f"start_from_teacher: expected a trained {name!r} of the teacher, found none; train it here"
                )
            copy_part(networks[name], teaching[name], path, "start_from_teacher")
        teacher_networks = {"teacher" if name == "student" else f"teacher_{name}": n for name, n in teaching.items()}
        taken = network_arguments(self.method.cls) if self.method.cls else {**networks, **teacher_networks}
        return self.method.build(**{name: n for name, n in {**networks, **teacher_networks}.items() if name in taken})


@dataclass(frozen=True)
class FeatureArm:
    """A classifier trained on the data, whose features the distribution metrics compare by.

    Attributes:
        name: What the metrics are named after.
        arm: The classifier.
    """

    name: str
    arm: ArmRecipe


@dataclass(frozen=True)
class Recipe:
    """A whole run: its arms, and what they are measured by.

    Attributes:
        name: Names the run and its results.
        data: The data set.
        task: What the networks are for.
        students: The students by name; "student" when there is one.
        seeds: One run of student and control each.
        teacher: What the students learn from, or None.
        controls: By their own names: students without the teacher. Those that would be equal are one.
        control_of: By the name of a student: the name of the control, or of the student, that it is measured against.
        features: What distribution metrics compare by, or None.
        baselines: Networks without training, evaluated only.
        settings_tried: How many settings were tried for "student" and "control" before these.
        tree: The effective recipe as plain JSON.
    """

    name: str
    data: Part[Data]
    task: Part[Task]
    students: Mapping[str, ArmRecipe]
    seeds: tuple[int, ...] = (0,)
    teacher: ArmRecipe | None = None
    controls: Mapping[str, ArmRecipe] = field(default_factory=dict)
    control_of: Mapping[str, str] = field(default_factory=dict)
    features: FeatureArm | Part[FeatureExtractor] | None = None
    baselines: Mapping[str, Part[nn.Module]] = field(default_factory=dict)
    settings_tried: Mapping[str, int] = field(default_factory=dict)
    tree: Mapping[str, Any] = field(default_factory=dict)

    def to_yaml(self) -> str:
        """Return the effective recipe, after overrides."""
        return dump(self.tree)

    def arms(self) -> dict[str, ArmRecipe]:
        """Return every arm by name: features, teacher, students, controls."""
        named = {"features": self.features.arm} if isinstance(self.features, FeatureArm) else {}
        if self.teacher is not None:
            named["teacher"] = self.teacher
        return named | dict(self.students) | dict(self.controls)

    def teacher_of(self, name: str) -> ArmRecipe | None:
        """Return the arm that teaches an arm: of a student another student, or the run's teacher; of others none."""
        if name not in self.students:
            return None
        assistant = self.students[name].taught_by
        return self.teacher if assistant is None else self.students[assistant]


def losses_of(method: Part[Method]) -> dict[str, float]:
    """Return the default weight of every loss of a method with the terms that a recipe gives it, by "player.term"."""
    given = method.description.get("init_args", {}).get("terms")
    names = [name for name, term in given.items() if term is not None] if isinstance(given, Mapping) else []
    return method.cls.losses(names) if method.cls else {}


def _weight(weight: float | Schedule) -> Any:
    if not isinstance(weight, Schedule):
        return weight
    return {"weight": weight.weight, "from": weight.start, "until": weight.until, "ramp": weight.ramp}

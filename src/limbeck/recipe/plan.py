"""The plan of a run: its arms and their parts, read by `recipe.py` from YAML or made in Python by `distill`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.baselines.base import Fitted
from limbeck.data.base import Augmentation, Data
from limbeck.errors import LimbeckError, RecipeError, in_a_line
from limbeck.methods.base import Method
from limbeck.metrics.base import FeatureExtractor
from limbeck.networks.given.external import External
from limbeck.networks.roles import Segmenter, segments
from limbeck.recipe.catalogue import network_arguments
from limbeck.recipe.needs import check_needs
from limbeck.recipe.parts import Mistakes, Part
from limbeck.recipe.tree import dump
from limbeck.tasks.base import Task
from limbeck.training.feed import together
from limbeck.training.fine_tuning import copy_part, start
from limbeck.training.options import Training
from limbeck.weighting.schedule import Schedule


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
        }

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
        taught = {"teacher" if name == "student" else f"teacher_{name}": n for name, n in teaching.items()}
        taken = network_arguments(self.method.cls) if self.method.cls else {**networks, **taught}
        return self.method.build(**{name: n for name, n in {**networks, **taught}.items() if name in taken})


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
        controls: By the name of the student: the same without the teacher, or another student that it is measured
            against. Equal ones are one object.
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
    features: FeatureArm | Part[FeatureExtractor] | None = None
    baselines: Mapping[str, Part[nn.Module]] = field(default_factory=dict)
    settings_tried: Mapping[str, int] = field(default_factory=dict)
    tree: Mapping[str, Any] = field(default_factory=dict)

    def to_yaml(self) -> str:
        """Return the effective recipe, after overrides."""
        return dump(self.tree)

    def arms(self) -> dict[str, ArmRecipe]:
        """Return every arm by a name for people: features, teacher, students, controls."""
        named = {"features": self.features.arm} if isinstance(self.features, FeatureArm) else {}
        if self.teacher is not None:
            named["teacher"] = self.teacher
        controls: dict[str, ArmRecipe] = {}
        for name, arm in self.controls.items():
            if not any(arm is other for other in [*controls.values(), *self.students.values()]):  # one may be shared
                controls[f"control of {name}"] = arm
        return named | dict(self.students) | controls

    def teacher_of(self, student: ArmRecipe) -> ArmRecipe | None:
        """Return the arm that teaches a student: another student, or the run's teacher."""
        return self.teacher if student.taught_by is None else self.students[student.taught_by]

    def rehearse(self) -> None:
        """Build everything once, so that what cannot be built or does not fit shows before any training.

        Raises:
            RecipeError: With one line for each of them.
        """
        mistakes = Mistakes()
        with torch.random.fork_rng(devices=[]):
            if isinstance(self.features, Part):
                _build(self.features, mistakes)
            data, task = _build(self.data, mistakes), _build(self.task, mistakes)
            for name, part in self.baselines.items():
                baseline = _build(part, mistakes)
                if data is not None and task is not None:
                    _check_fit(f"baselines.{name}", baseline, data, task, mistakes)
            for name, arm in self.arms().items():
                taught = any(arm is student for student in self.students.values())
                networks, method = _assemble(arm, self.teacher_of(arm) if taught else None, mistakes)
                augmentation = None if arm.augmentation is None else _build(arm.augmentation, mistakes)
                if task is not None and networks["student"] is not None:
                    try:
                        task.check(networks["student"], method, arm.weights)
                        together(task, {} if method is None else method.draws(), augmentation)
                        if data is not None:  # a feature network learns as a classifier does, whatever the task
                            check_needs(method, data.gives() if name == "features" else task.gives(data), data)
                    except LimbeckError as error:
                        mistakes.add(name, str(error))
                control = any(arm is other for other in self.controls.values())  # its networks are its student's
                if data is not None and task is not None and not control:
                    for own, network in networks.items():
                        beside = own != "student"
                        place = f"networks.{own}" if beside else "network"
                        _check_fit(f"{name}.{place}", network, data, task, mistakes, beside=beside)
        mistakes.report(self.name)


def _assemble(arm: ArmRecipe, teacher: ArmRecipe | None, mistakes: Mistakes) -> tuple[dict[str, Any], Method | None]:
    """Try to put an arm together, and return its networks by name and its method; None for what cannot be built."""
    networks = _networks(arm, mistakes)
    taught = None if teacher is None else _networks(teacher, mistakes)
    if arm.training is None or None in networks.values() or (taught is not None and None in taught.values()):
        return networks, None
    try:
        return networks, arm.assemble(networks, taught)
    except LimbeckError as error:
        mistakes.note(str(error))
        return networks, None


def _check_fit(key: str, network: Any, data: Data, task: Task, mistakes: Mistakes, *, beside: bool = False) -> None:
    """Note where a network does not take the shapes and classes of data and task.

    `beside` is for a network that a method has beside the arm's own.
    """
    image, latent = getattr(network, "image_shape", None), getattr(network, "latent_shape", None)
    drawn = task.draws().get("latent")
    if latent is not None and drawn is not None and prod(latent) != prod(drawn.shape):
        mistakes.add(key, f"expected latents {drawn.shape} as the task draws them, found {latent}")
    elif isinstance(network, External):
        image = _called(key, network, data, task, mistakes, beside=beside) or image
    if image is not None and image != data.image_shape:
        mistakes.add(key, f"expected images {data.image_shape} (C, H, W) as in {data.name}, found {image}")
    of_pixels = segments(network) or (isinstance(network, Fitted) and network.truth == "mask")
    told, known = len(data.mask_classes if of_pixels else data.classes), getattr(network, "classes", 0)
    if 0 < known < told or (of_pixels and 0 < told < known):  # a class too many would be told for some pixel
        mistakes.add(key, f"expected the {told} classes of {data.name}, found {known}")
    if isinstance(network, Segmenter) and network.channels != data.image_shape[0]:
        mistakes.add(
            key, f"expected images of {data.image_shape[0]} channels as in {data.name}, found {network.channels}"
        )


def _called(
    key: str, network: External, data: Data, task: Task, mistakes: Mistakes, *, beside: bool
) -> tuple[int, ...] | None:
    """Call somebody else's network, which need not state its shapes, and return (C, H, W) of what a generator makes.

    None for other roles, and where it cannot be called, which is noted.
    """
    latent = task.draws().get("latent")
    makes, classifies = network.role == "generator", network.role in ("classifier", "segmenter")
    if beside:  # it is shown what the method makes: where there is a latent, images like the data's
        known = latent is not None and (classifies or network.role == "discriminator")
    else:
        known = classifies or (makes and latent is not None)
    if not known:
        return None
    given, shape = ("latents", latent.shape) if makes and latent else ("images", data.image_shape)
    label = torch.zeros(2, dtype=torch.long) if network.classes and task.teaches().get("conditional") else None
    try:
        with torch.no_grad():  # a copy: the owner's may be elsewhere, in another precision, or keep something
            output: Tensor = deepcopy(network).cpu().float().eval()(torch.randn(2, *shape), label)
    except LimbeckError as error:
        mistakes.add(key, str(error))
    except Exception as error:  # whatever the owner's module raises
        name = type(network.module).__name__
        mistakes.add(key, f"{name} cannot be called with {given} of shape {(2, *shape)}: {in_a_line(error)}")
    else:
        return tuple(output.shape[1:]) if makes else None
    return None


def _networks(arm: ArmRecipe, mistakes: Mistakes) -> dict[str, Any]:
    return {name: _build(part, mistakes) for name, part in {"student": arm.network, **arm.networks}.items()}


def _build(part: Part[Any], mistakes: Mistakes) -> Any:
    try:
        return part.build()
    except LimbeckError as error:
        mistakes.note(str(error))
        return None


def _weight(weight: float | Schedule) -> Any:
    if not isinstance(weight, Schedule):
        return weight
    return {"weight": weight.weight, "from": weight.start, "until": weight.until, "ramp": weight.ramp}

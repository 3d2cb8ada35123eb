"""From YAML and flags to a `Recipe`: every mistake is told at once, before anything is built.

    name: gan-fashion-mnist
    seed: 0                   # the first seed
    seeds: 5                  # how many runs of student and control; 1
    data: {class_path: FashionMNIST, init_args: {size: 32}}
    task: {class_path: Generation, init_args: {latent: [64]}}
    features: {...}           # an arm with a name, trained on the data; or a ready {class_path: ...}
    method: {class_path: Gan, init_args: {loss: hinge}}
    networks: {discriminator: {class_path: DcganDiscriminator}}     # what the method needs besides the student
    augmentation: {class_path: Flip}
    teacher: {network: ..., training: ...}                          # or {network: ..., load: file}: not trained
                              # with both it starts from the file; new_layers: [fc] do not, and are drawn anew
    student: {network: ..., training: ..., weights: ..., start_from_teacher: [discriminator]}
                              # or a part of it that the teacher's network has too: [student.encoder]
    students: {x18: {...}, x48: {...}}                              # several, each a change of `student`
                              # taught_by: x18 makes an earlier student the teacher: an assistant (Mirzadeh et al. 2020)
                              # control: x18 measures it against that student instead of its own control
    control: true             # the student without teacher; false, or its own training, method and weights
    baselines: {...}          # networks without training, by name
    settings_tried: {student: 8, control: 8}

`method`, `networks` and `augmentation` hold for teacher, students and controls; an arm that has its own lays it over
them. `weights` names losses as "player.loss", with a number or {weight, from, until, ramp}; what it does not name has
the method's default. A control takes over everything of its student but the weights and where networks start from;
and but `freeze` if any of the student starts from the teacher. Where the teacher is a black box, so that there is no
teacher section, a control needs a method of its own that ignores it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.data.base import Data
from limbeck.errors import LimbeckError, RecipeError, nearest
from limbeck.metrics.base import FeatureExtractor
from limbeck.recipe import tree as trees
from limbeck.recipe.arm import ArmReader
from limbeck.recipe.parts import Mistakes, Part, canonical, read_part, shown
from limbeck.recipe.plan import ArmRecipe, FeatureArm, Recipe
from limbeck.tasks.base import Task

__all__ = ["ArmRecipe", "FeatureArm", "Part", "Recipe", "canonical", "read_recipe"]

SHARED = ("method", "networks", "augmentation")
TRAINED = ("network", "training", "weights", *SHARED)
TEACHER = (*TRAINED, "load", "new_layers")
STUDENT = (*TEACHER, "start_from_teacher")
FEATURES = ("name", *TEACHER)
CONTROL = ("training", "method", "weights")
TOP = (
    "name", "seed", "seeds", "data", "task", "features", "method", "networks", "augmentation", "teacher", "student",
    "students", "control", "baselines", "settings_tried",
)  # fmt: skip
OF_ARMS = ("teacher", "control", "floor")  # names of rows that are no students
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_recipe(path: str | Path, overrides: Sequence[tuple[str, str]] = ()) -> Recipe:
    """Return the recipe in a YAML file.

    Args:
        path: The file.
        overrides: (dotted path, YAML text) of values that replace the file's: ("student.training.steps", "100").

    Raises:
        RecipeError: Naming every mistake, one a line.
    """
    tree = trees.load(Path(path))
    mistakes = Mistakes()
    for key, text in overrides:
        try:
            trees.override(tree, key, trees.parse(text, f"--{key}"))
        except RecipeError as error:
            mistakes.note(str(error))
    recipe = _Reader(tree, mistakes).recipe()
    mistakes.report(path)
    return recipe


def network_of(tree: Mapping[str, Any], student: str) -> nn.Module:
    """Return the untrained network of a student of a recipe, of which nothing else has to be at hand.

    Args:
        tree: The recipe as plain JSON.
        student: Its name.

    Raises:
        RecipeError: The recipe has no such student, or its network cannot be built.
    """
    students = _Reader(tree, Mistakes()).networks()  # data and weights of the run need not be on this machine
    if student not in students:
        raise RecipeError(
            f"no student {student!r} in the recipe{nearest(student, students)}; there is {', '.join(students)}"
        )
    mistakes = Mistakes()
    description = students[student].description
    part: Part[nn.Module] = read_part(nn.Module, description, f"{student}.network", mistakes)
    mistakes.report("result.json")
    return part.build()


def _laid(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with another laid over it, without what is null in the end."""
    return {name: value for name, value in trees.merged(base, change).items() if value is not None}


class _Reader:
    """Reads the sections of one tree; what it returns is only usable when there are no mistakes."""

    def __init__(self, tree: Mapping[str, Any], mistakes: Mistakes) -> None:
        self.tree, self.mistakes = tree, mistakes
        self.top = mistakes.section(tree, "", TOP)
        self.arms = ArmReader()

    def recipe(self) -> Recipe:
        shared = {name: self.top[name] for name in SHARED if name in self.top}
        teacher = None
        if "teacher" in self.top:
            section = _laid(shared, self._raw("teacher", TEACHER))
            teacher = self._arm(section, ("teacher", ""), None)
        students, controls = self._students(shared, teacher)
        recipe = Recipe(
            name=self._name(self.top.get("name"), "name", self.mistakes),
            data=self._tried(Data, "data"),
            task=self._tried(Task, "task"),
            students=students,
            seeds=self._seeds(),
            teacher=teacher,
            controls=controls,
            features=self._features(),
            baselines={n: self._part(nn.Module, v, f"baselines.{n}") for n, v in self._section("baselines").items()},
            settings_tried={
                n: self._count(v, f"settings_tried.{n}", 1)
                for n, v in self._section("settings_tried", ("student", "control")).items()
            },
            tree=self.tree,
        )
        for name in recipe.baselines:
            if name in (*OF_ARMS, *students) or name.startswith("control of "):
                self.mistakes.add(f"baselines.{name}", "an arm of the run has this name; choose another")
        self.arms.report(self.mistakes)
        return recipe

    def networks(self) -> dict[str, Part[nn.Module]]:
        """Return the networks of the students by name."""
        shared = {name: self.top[name] for name in SHARED if name in self.top}
        students, _ = self._students(shared, None)
        return {name: arm.network for name, arm in students.items()}

    def _students(
        self, shared: Mapping[str, Any], teacher: ArmRecipe | None
    ) -> tuple[dict[str, ArmRecipe], dict[str, ArmRecipe]]:
        base = _laid(shared, self._raw("student", STUDENT))
        variants = {name: f"students.{name}" for name in self._names("students")} or {"student": "student"}
        if "student" not in self.top and "students" not in self.top:
            self.mistakes.add("student", "missing; expected {network: ..., training: ...}")
            variants = {}
        students: dict[str, ArmRecipe] = {}
        controls: dict[str, ArmRecipe] = {}
        trained: dict[str, ArmRecipe | None] = {}  # the controls that are no students; equal ones are trained once
        for name, key in variants.items():
            own = self._raw(key, (*STUDENT, "taught_by", "control")) if key != "student" else {}
            assistant = self._earlier(own.get("taught_by"), f"{key}.taught_by", students)
            section = _laid(base, {n: v for n, v in own.items() if n != "control"})
            places = tuple(dict.fromkeys((key, "student", "")))
            students[name] = self._arm(section, places, teacher if assistant is None else assistant)
            choices = {"control": self.top.get("control", teacher is not None)}
            if own.get("control") is not None:
                choices[f"{key}.control"] = own["control"]
            if isinstance(own.get("control"), str):
                before = {n: student for n, student in students.items() if n != name}
                control = self._earlier(own["control"], f"{key}.control", before)
            else:
                control = self._control(section, places, choices, teacher)
                alike = (c for c in trained.values() if c and control and c.description() == control.description())
                control = trained[name] = next(alike, control)
            if control is not None:
                controls[name] = control
        return students, controls

    def _earlier(self, name: Any, key: str, students: Mapping[str, ArmRecipe]) -> ArmRecipe | None:
        """Return the student of that name, which must stand before the one that asks for it."""
        if name is not None and not (isinstance(name, str) and name in students):
            there = f"there are {', '.join(students)}" if students else "there is none"
            self.mistakes.add(key, f"no student {shown(name)} before this one{nearest(str(name), students)}; {there}")
        return students.get(name) if isinstance(name, str) else None

    def _control(
        self,
        student: Mapping[str, Any],
        places: tuple[str, ...],
        choices: Mapping[str, Any],
        teacher: ArmRecipe | None,
    ) -> ArmRecipe | None:
        """Return the control of a student, from the choices by the key where they stand, the last the strongest."""
        of_the_teacher = ("weights", "start_from_teacher", "taught_by")
        section = {name: value for name, value in student.items() if name not in of_the_teacher}
        start = student.get("start_from_teacher")
        began = isinstance(start, list | tuple) and any(str(place).partition(".")[0] == "student" for place in start)
        if began and isinstance(section.get("training"), Mapping):
            # What the student holds as the teacher left it, its control would hold as it was drawn.
            section["training"] = {name: value for name, value in section["training"].items() if name != "freeze"}
        wanted, own_method = False, False
        for key, choice in choices.items():
            wanted = choice is not False
            own_method = own_method or (isinstance(choice, Mapping) and "method" in choice)
            if not isinstance(choice, bool | Mapping):
                self.mistakes.add(key, f"expected true, false or its own {', '.join(CONTROL)}, found {shown(choice)}")
            elif isinstance(choice, Mapping):
                section = trees.merged(section, self.mistakes.section(choice, key, CONTROL))
        taught = teacher is not None or own_method  # by a black box, whose images are in the data
        if wanted and not taught:
            self.mistakes.add(
                list(choices)[-1],
                "there is no teacher, so the student is its own control; leave it out, or give it its own method",
            )
        if not wanted or not taught:
            return None
        return self._arm(section, (*reversed(list(choices)), *places), None)

    def _features(self) -> FeatureArm | Part[FeatureExtractor] | None:
        value = self.top.get("features")
        if value is None:
            return None
        if isinstance(value, str) or (isinstance(value, Mapping) and "class_path" in value):
            return self._part(FeatureExtractor, value, "features")
        section = self._section("features", FEATURES)
        mistakes = self.mistakes.scoped(lambda key: f"features.{key}")
        arm = self._arm(section, ("features",), None)
        return FeatureArm(self._name(section.get("name"), "name", mistakes), arm)

    def _arm(self, section: Mapping[str, Any], places: tuple[str, ...], teacher: ArmRecipe | None) -> ArmRecipe:
        """Read one arm from its merged section; `places` are what it was merged from, the strongest first."""
        return self.arms.read(section, self.mistakes.scoped(partial(trees.origin, self.tree, places)), teacher)

    def _seeds(self) -> tuple[int, ...]:
        first = self._count(self.top.get("seed", 0), "seed", 0)
        count = self._count(self.top.get("seeds", 1), "seeds", 1)
        return tuple(range(first, first + count))

    def _count(self, value: Any, key: str, least: int) -> int:
        number = self.mistakes.value(int, value, key)
        if number is not None and number < least:
            self.mistakes.add(key, f"expected a whole number of at least {least}, found {number}")
        return number or 0

    def _section(self, key: str, known: Collection[str] | None = None) -> dict[str, Any]:
        return self.mistakes.section(self._at(key), key, known)

    def _at(self, key: str) -> Any:
        value: Any = self.tree
        for step in key.split(".", 1):
            value = value.get(step)
        return value

    def _raw(self, key: str, known: Collection[str]) -> dict[str, Any]:
        """Return a section as `_section` does, but with its nulls: laid over another, null takes a value away."""
        self._section(key, known)
        value = self._at(key)
        return {name: part for name, part in value.items() if name in known} if isinstance(value, Mapping) else {}

    def _names(self, key: str) -> list[str]:
        value = self.top.get(key)
        if value is not None and not isinstance(value, Mapping):
            self.mistakes.add(key, f"expected a mapping of names, found {shown(value)}")
            return []
        good = [n for n in value or {} if NAME.fullmatch(n) and "." not in n and n not in (*OF_ARMS, "features")]
        for name in value or {}:
            if name not in good:
                self.mistakes.add(key, f"{name!r} cannot be a student's name; use letters, digits, '-' and '_'")
        return good

    def _name(self, value: Any, key: str, mistakes: Mistakes) -> str:
        if not isinstance(value, str) or not NAME.fullmatch(value):
            mistakes.add(key, f"expected a name of letters, digits, '-', '_' and '.', found {shown(value)}")
        return str(value)

    def _part(self, base: type[Any], value: Any, key: str) -> Part[Any]:
        return read_part(base, value, key, self.mistakes)

    def _tried(self, base: type[Any], key: str) -> Part[Any]:
        """Return a part whose constructor is cheap, after trying it."""
        before = len(self.mistakes.lines)
        part = self._part(base, self.top.get(key), key)
        if len(self.mistakes.lines) == before:
            try:
                part.build()
            except LimbeckError as error:
                self.mistakes.note(str(error))
        return part

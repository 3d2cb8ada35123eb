"""From YAML and flags to a `Recipe`: every mistake is told at once, before anything is built.

`method`, `networks`, `augmentation` and `weighting` hold for teacher, students and controls; an arm that has its own
lays it over them. `weights` names losses as "player.loss", with a number or {weight, from, until, ramp}; what it does
not name has the method's default. A control takes over everything of its student but where networks start from, and of
the weights only those of terms that the recipe adds; `freeze` goes where any of the student starts from the teacher.
Where the teacher is a black box, so that there is no teacher section, a control needs a method of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from limbeck.data.base import Data
from limbeck.errors import LimbeckError, RecipeError, nearest
from limbeck.ground.modules import only_ours
from limbeck.metrics.base import FeatureExtractor
from limbeck.recipe import tree as trees
from limbeck.recipe.arm import ArmReader
from limbeck.recipe.control import weights_of_added, without_teacher
from limbeck.recipe.marks import shown
from limbeck.recipe.parts import Mistakes, Part, canonical, part_of, read_part, unusable
from limbeck.recipe.plan import ArmRecipe, FeatureArm, Recipe
from limbeck.recipe.sections import (
    NAME,
    NAMES,
    ControlSection,
    FeaturesSection,
    RecipeSection,
    Section,
    StudentSection,
    TeacherSection,
    TriedSection,
    VariantSection,
)
from limbeck.recipe.signatures import Draft
from limbeck.tasks.base import Task

__all__ = ["ArmRecipe", "FeatureArm", "Part", "Recipe", "canonical", "read_recipe"]

SHARED = ("method", "networks", "augmentation", "weighting")
OF_ARMS = ("teacher", "control", "floor")  # names of rows that are no students


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


def network_of(tree: Mapping[str, Any], student: str, *, trust: bool = False) -> nn.Module:
    """Return the untrained network of a student of a recipe, of which nothing else has to be at hand.

    Args:
        tree: The recipe as plain JSON.
        student: Its name.
        trust: Run code outside Limbeck that the recipe names, too: a recipe is code, and this one may be somebody's.

    Raises:
        RecipeError: The recipe has no such student, or its network cannot be built, or is not trusted.
    """
    networks = _Reader(tree, Mistakes()).networks()  # data and weights of the run need not be on this machine
    if student not in networks:
        raise RecipeError(
            f"no student {student!r} in the recipe{nearest(student, networks)}; there is {', '.join(networks)}"
        )
    mistakes = Mistakes()
    with nullcontext() if trust else only_ours():
        part: Part[nn.Module] = read_part(nn.Module, networks[student], f"{student}.network", mistakes)
        mistakes.report("result.json")
        return part.build()


def _laid(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with another laid over it, without what is null in the end."""
    return {name: value for name, value in trees.merged(base, change).items() if value is not None}


class _Variant(NamedTuple):
    """A student: its merged section, where that was merged from, and what it says of its control."""

    name: str
    places: tuple[str, ...]
    section: dict[str, Any]
    control: Any


class _Reader:
    """Reads the sections of one tree; what it returns is only usable when there are no mistakes."""

    def __init__(self, tree: Mapping[str, Any], mistakes: Mistakes) -> None:
        self.tree, self.mistakes = tree, mistakes
        self.top = mistakes.section(tree, "", RecipeSection.names())
        self.arms = ArmReader()

    def recipe(self) -> Recipe:
        own = RecipeSection.read(self.top, "", self.mistakes)
        teacher = None
        if "teacher" in self.top:
            teacher = self._arm(_laid(self._shared(), self._raw("teacher", TeacherSection)), ("teacher", ""), None)
        variants = list(self._variants())
        students = self._students(variants, teacher)
        controls, control_of = self._controls(variants, teacher)
        tried = TriedSection.read(self.top.get("settings_tried"), "settings_tried", self.mistakes)
        recipe = Recipe(
            name=own.name,
            data=self._tried(Data, "data", own.data),
            task=self._tried(Task, "task", own.task),
            students=students,
            seeds=tuple(range(own.seed, own.seed + own.seeds)),
            teacher=teacher,
            controls=controls,
            control_of=control_of,
            features=self._features(),
            baselines={
                name: read_part(nn.Module, value, f"baselines.{name}", self.mistakes)
                for name, value in self._section("baselines").items()
            },
            settings_tried=tried.model_dump(exclude_unset=True),
            tree=self.tree,
        )
        for name in recipe.baselines:
            if name in (*OF_ARMS, *students) or name.startswith("control of "):
                self.mistakes.add(f"baselines.{name}", "an arm of the run has this name; choose another")
        self.arms.report(self.mistakes)
        return recipe

    def networks(self) -> dict[str, Any]:
        """Return what the recipe says of the students' networks, by name."""
        return {name: section.get("network") for name, _, section, _ in self._variants()}

    def _shared(self) -> dict[str, Any]:
        return {name: self.top[name] for name in SHARED if name in self.top}

    def _variants(self) -> Iterator[_Variant]:
        """Yield the students in turn."""
        if "student" not in self.top and "students" not in self.top:
            self.mistakes.add("student", "missing; expected {network: ..., training: ...}")
            return
        base = _laid(self._shared(), self._raw("student", StudentSection))
        names = self._names("students")
        for name in names:
            own = self._raw(f"students.{name}", VariantSection)
            section = _laid(base, {n: v for n, v in own.items() if n != "control"})
            yield _Variant(name, (f"students.{name}", "student", ""), section, own.get("control"))
        if not names:
            yield _Variant("student", ("student", ""), base, None)

    def _students(self, variants: list[_Variant], teacher: ArmRecipe | None) -> dict[str, ArmRecipe]:
        students: dict[str, ArmRecipe] = {}
        for name, places, section, _ in variants:
            assistant = self._earlier(section.get("taught_by"), f"{places[0]}.taught_by", students)
            students[name] = self._arm(section, places, teacher if assistant is None else students[assistant])
        return students

    def _controls(
        self, variants: list[_Variant], teacher: ArmRecipe | None
    ) -> tuple[dict[str, ArmRecipe], dict[str, str]]:
        """Return the controls by name, and for each student the name of what it is measured against."""
        against: dict[str, str] = {}
        made: dict[str, tuple[ArmRecipe, list[str]]] = {}  # by content: controls that are equal are trained once
        for number, (name, places, section, own) in enumerate(variants):
            if isinstance(own, str):
                other = self._earlier(own, f"{places[0]}.control", [variant.name for variant in variants[:number]])
                against[name] = other or ""
            elif (control := self._control(section, places, own, teacher)) is not None:
                made.setdefault(canonical(control.description()), (control, []))[1].append(name)
        controls = {}
        for control, names in made.values():
            own_name = "control" if len(made) == 1 else f"control of {', '.join(names)}"
            controls[own_name] = control
            against |= dict.fromkeys(names, own_name)
        return controls, {v.name: against[v.name] for v in variants if v.name in against}

    def _earlier(self, name: Any, key: str, students: Collection[str]) -> str | None:
        """Return the name of a student, which must stand before the one that asks for it."""
        if name is None or (isinstance(name, str) and name in students):
            return name
        there = f"there are {', '.join(students)}" if students else "there is none"
        self.mistakes.add(key, f"no student {shown(name)} before this one{nearest(str(name), students)}; {there}")
        return None

    def _control(
        self, student: Mapping[str, Any], places: tuple[str, ...], own: Any, teacher: ArmRecipe | None
    ) -> ArmRecipe | None:
        """Return the control of a student; `own` is what the student itself says of it."""
        choices = {"control": self.top.get("control", teacher is not None)}  # the last is the strongest
        if own is not None:
            choices[f"{places[0]}.control"] = own
        section = without_teacher(student)
        for key, choice in choices.items():
            if isinstance(choice, Mapping):
                section = trees.merged(section, self.mistakes.section(choice, key, ControlSection.names()))
            elif not isinstance(choice, bool):
                expected = f"true, false or its own {', '.join(ControlSection.names())}"
                self.mistakes.add(key, f"expected {expected}, found {shown(choice)}")
        *_, (key, wanted) = choices.items()
        if wanted is False:
            return None
        own_method = any(isinstance(choice, Mapping) and "method" in choice for choice in choices.values())
        if teacher is None and not own_method:  # with one: taught by a black box, whose images are in the data
            self.mistakes.add(
                key, "there is no teacher, so the student is its own control; leave it out, or give it its own method"
            )
            return None
        section["weights"] = {**weights_of_added(student, section), **(section.get("weights") or {})}
        return self._arm(section, (*reversed(choices), *places), None)

    def _features(self) -> FeatureArm | Part[FeatureExtractor] | None:
        value = self.top.get("features")
        if value is None:
            return None
        if isinstance(value, str) or (isinstance(value, Mapping) and "class_path" in value):
            return read_part(FeatureExtractor, value, "features", self.mistakes)
        section = self._section("features", FeaturesSection)
        arm = self._arm({n: v for n, v in section.items() if n != "name"}, ("features",), None)
        return FeatureArm(self.mistakes.read(NAME, section.get("name"), "features.name") or "", arm)

    def _arm(self, section: Mapping[str, Any], places: tuple[str, ...], teacher: ArmRecipe | None) -> ArmRecipe:
        """Read one arm from its merged section; `places` are what it was merged from, the strongest first."""
        return self.arms.read(section, self.mistakes.scoped(partial(trees.origin, self.tree, places)), teacher)

    def _section(self, key: str, kind: type[Section] | None = None) -> dict[str, Any]:
        """Return a section without empty entries, after noting what is not known."""
        return self.mistakes.section(trees.at(self.tree, key), key, None if kind is None else kind.names())

    def _raw(self, key: str, kind: type[Section]) -> dict[str, Any]:
        """Return a section as `_section` does, but with its nulls: laid over another, null takes a value away."""
        self._section(key, kind)
        value = trees.at(self.tree, key)
        return (
            {name: part for name, part in value.items() if name in kind.names()} if isinstance(value, Mapping) else {}
        )

    def _names(self, key: str) -> list[str]:
        value = self.top.get(key)
        if value is not None and not isinstance(value, Mapping):
            self.mistakes.add(key, f"expected a mapping of names, found {shown(value)}")
            return []
        good = [n for n in value or {} if re.fullmatch(NAMES, n) and "." not in n and n not in (*OF_ARMS, "features")]
        for name in value or {}:
            if name not in good:
                self.mistakes.add(key, f"{name!r} cannot be a student's name; use letters, digits, '-' and '_'")
        return good

    def _tried(self, base: type[Any], key: str, draft: Draft | None) -> Part[Any]:
        """Return a part whose constructor is cheap, after trying it."""
        if draft is None:
            return unusable(base, self.top.get(key))
        part = part_of(draft, key, self.mistakes)
        try:
            part.build()
        except LimbeckError as error:
            self.mistakes.note(str(error))
        return part

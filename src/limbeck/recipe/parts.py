"""From a `class_path` with its `init_args` to an object: checked now, built when it is needed, as often as needed."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from limbeck.errors import LimbeckError, RecipeError, in_a_line, nearest
from limbeck.recipe.catalogue import Argument, arguments, classes_in, open_ended, resolve, type_text

T = TypeVar("T")


@dataclass(frozen=True)
class Part(Generic[T]):
    """Something that a recipe describes.

    Attributes:
        description: Plain JSON: the full class path and the arguments that were given.
        build: Makes it; every call makes a new one. Takes by keyword what the recipe cannot say, such as networks.
        cls: The class; None for an object made in Python.

    Example:
        >>> Part({"class_path": "live"}, lambda: nn.Linear(2, 3)).build().weight.shape
        torch.Size([3, 2])
    """

    description: Mapping[str, Any]
    build: Callable[..., T]
    cls: type[T] | None = None


class Mistakes:
    """Collects what is wrong with a recipe, so that all of it can be told at once.

    Args:
        at: Turns the key of a value into the key where the user wrote it.
        lines: The lines to add to; the views made by `scoped` share them.
    """

    def __init__(self, at: Callable[[str], str] = str, lines: list[str] | None = None) -> None:
        self.at = at
        self.lines: list[str] = [] if lines is None else lines

    def scoped(self, at: Callable[[str], str]) -> Mistakes:
        """Return a view that adds to the same lines under other keys."""
        return Mistakes(at, self.lines)

    def add(self, key: str, text: object) -> None:
        """Note a mistake."""
        self.note(f"{self.at(key)}: {text}")

    def note(self, line: str) -> None:
        """Note a mistake that already names its key."""
        self.lines.append(line)

    def section(self, value: Any, key: str, known: Collection[str] | None = None) -> dict[str, Any]:
        """Return `value` as a mapping without empty entries; note whatever is not in `known`."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.add(key, f"expected a mapping, found {shown(value)}")
            return {}
        for name in value:
            if known is not None and name not in known:
                prefix = f"{key}." if key else ""
                self.add(f"{prefix}{name}", f"unknown key{nearest(name, known)}; there are {', '.join(known)}")
        return {n: v for n, v in value.items() if v is not None and (known is None or n in known)}

    def value(self, annotation: Any, value: Any, key: str) -> Any:
        """Return `value` as its type wants it, or None after noting that it does not fit."""
        try:
            return checked(annotation, value)
        except RecipeError as error:
            self.add(key, error)
            return None

    def report(self, source: object) -> None:
        """Raise one RecipeError with everything that was noted, if anything was."""
        lines = list(dict.fromkeys(self.lines))  # arms share sections, and so their mistakes
        if len(lines) == 1:
            raise RecipeError(f"{source}: {lines[0]}")
        if lines:
            listed = "\n".join(f"  {line}" for line in lines)
            raise RecipeError(f"{source}: {len(lines)} mistakes\n{listed}")


def canonical(tree: Any) -> str:
    """Return the SHA-256 of plain JSON data, whatever the order of its keys."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def shown(value: Any) -> str:
    """Return a value as a recipe would write it, shortened."""
    if value is None:
        return "nothing"
    text = json.dumps(value) if isinstance(value, bool | Mapping | list) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def checked(annotation: Any, value: Any) -> Any:
    """Return `value` as `annotation` wants it: text that reads as a number becomes one, a list a tuple...

    Raises:
        RecipeError: It does not fit. The message does not name the key.
    """
    if get_origin(annotation) is Literal and value not in get_args(annotation) and not isinstance(value, bool):
        value = str(value) if str(value) in get_args(annotation) else value  # YAML reads `precision: 32` as a number
    parser = ArgumentParser(exit_on_error=False)
    try:
        # In a list, because a parser takes None for "not given" whatever the type.
        parser.add_argument("--value", type=types.GenericAlias(list, (annotation,)))
    except ValueError:  # a type that only exists in Python, in somebody else's class: it will see for itself
        return value
    try:
        return parser.parse_object({"value": [value]}).value[0]
    except ArgumentError:
        choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        hint = nearest(value, map(str, choices)) if isinstance(value, str) else ""
        raise RecipeError(f"expected {type_text(annotation)}, found {shown(value)}{hint}") from None


def nothing(cls: type) -> Collection[str]:
    """Return no names: everything that the class needs stands in the recipe."""
    return ()


def read_part(
    base: type[Any], value: Any, key: str, mistakes: Mistakes, supplied: Callable[[type], Collection[str]] = nothing
) -> Part[Any]:
    """Return the part that `value`, a class name or {class_path, init_args}, describes.

    Mistakes are noted; the part returned then is not usable.

    Args:
        base: What it has to be.
        value: What the recipe says.
        key: Where it says so.
        mistakes: Where mistakes are noted.
        supplied: Tells which arguments of a class come with `build` rather than from the recipe.
    """
    spec = {"class_path": value} if isinstance(value, str) else value
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
        wanted = f"expected a {base.__name__}, as {{class_path: Name, init_args: {{...}}}}"
        mistakes.add(key, f"{wanted}, found {shown(value)}")
        return Part({}, _unusable)
    before = len(mistakes.lines)
    mistakes.section(spec, key, ("class_path", "init_args"))
    try:
        cls = resolve(base, spec["class_path"])
    except LimbeckError as error:
        mistakes.add(f"{key}.class_path" if isinstance(value, Mapping) else key, error)
        return Part({}, _unusable)
    values = _read_arguments(cls, spec.get("init_args"), f"{key}.init_args", mistakes, supplied(cls))
    description = {
        "class_path": f"{cls.__module__}.{cls.__qualname__}",
        "init_args": {name: plain(v) for name, v in values.items()},
    }
    if len(mistakes.lines) > before:
        return Part(description, _unusable, cls)
    return Part(description, partial(_construct, cls, values, mistakes.at(key)), cls)


def plain(value: Any) -> Any:
    """Return a checked value as plain JSON data."""
    if isinstance(value, Part):
        return dict(value.description)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {name: plain(v) for name, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def _read_arguments(cls: type, given: Any, key: str, mistakes: Mistakes, supplied: Collection[str]) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        mistakes.add(key, f"expected the arguments of {cls.__name__} by name, found {shown(given)}")
        return {}
    known = {name: a for name, a in arguments(cls).items() if name not in supplied}
    values: dict[str, Any] = {}
    for name, value in (given or {}).items():
        place = f"{key}.{name}"
        if name in supplied:
            mistakes.add(place, f"{cls.__name__} gets {name!r} from elsewhere in the recipe; leave it out here")
        elif name in known:
            values[name] = _read_argument(known[name], value, place, mistakes)
        elif open_ended(cls):
            values[name] = value
        else:
            there = f"it has {', '.join(known)}" if known else "it has none"
            mistakes.add(place, f"{cls.__name__} has no argument {name!r}{nearest(name, known)}; {there}")
    for name, argument in known.items():
        if argument.required and name not in (given or {}):
            mistakes.add(f"{key}.{name}", f"missing; {cls.__name__} needs it ({argument.type})")
    return values


def _read_argument(argument: Argument, value: Any, key: str, mistakes: Mistakes) -> Any:
    annotation = argument.annotation
    base = _base_in(annotation)
    if base is not None and (
        isinstance(value, Mapping) or (isinstance(value, str) and str not in classes_in(annotation))
    ):
        return read_part(base, value, key, mistakes)
    items = _base_in(get_args(annotation)[0]) if get_origin(annotation) is not None and get_args(annotation) else None
    if items is not None and base is None and isinstance(value, list):
        return [read_part(items, v, f"{key}.{i}", mistakes) for i, v in enumerate(value)]
    return mistakes.value(annotation, value, key)


def _base_in(annotation: Any) -> type | None:
    """Return the class in an annotation that a recipe describes by class_path: a network or a class of ours."""
    for cls in classes_in(annotation):
        if issubclass(cls, nn.Module) or cls.__module__.startswith("limbeck."):
            return cls
    return None


def _construct(cls: type[T], values: Mapping[str, Any], key: str, **more: Any) -> T:
    ready = {name: _built(value) for name, value in values.items()}
    try:
        return cls(**ready, **more)
    except LimbeckError as error:
        text = str(error)  # some classes name their section themselves
        raise RecipeError(text if text.startswith(f"{key}.") else f"{key}: {text}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        if cls.__module__.startswith("limbeck."):
            raise  # a bug of ours
        raise RecipeError(f"{key}: {cls.__name__} refuses these arguments ({in_a_line(error)})") from error


def _built(value: Any) -> Any:
    if isinstance(value, Part):
        return value.build()
    return [_built(v) for v in value] if isinstance(value, list) else value


def _unusable(**more: Any) -> Any:
    raise AssertionError("a part of a recipe whose mistakes were not reported")

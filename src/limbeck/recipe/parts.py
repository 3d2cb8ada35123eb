"""From a `class_path` with its `init_args` to an object: checked now, built when it is needed, as often as needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from limbeck.errors import LimbeckError, RecipeError, in_a_line, nearest
from limbeck.ground.modules import as_a_program
from limbeck.recipe.catalogue import resolve
from limbeck.recipe.marks import lines, shown
from limbeck.recipe.signatures import Draft, PartOf, nothing

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

    def read(self, kind: TypeAdapter[T], value: Any, key: str) -> T | None:
        """Return a value as its type wants it, or None after noting what does not fit."""
        try:
            return kind.validate_python(value)
        except ValidationError as error:
            self.refuse(key, error)
            return None

    def refuse(self, key: str, error: ValidationError) -> None:
        """Note everything that was found in the value of a key."""
        for place, text in lines(error):
            self.add(".".join(map(str, (key, *place))), text)

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
    try:
        return part_of(PartOf((base,), supplied).draft(value), key, mistakes)
    except ValidationError as error:
        mistakes.refuse(key, error)
        return unusable(base, value)


def part_of(draft: Draft, key: str, mistakes: Mistakes) -> Part[Any]:
    """Return the part that was read at a key."""
    values = {name: _keyed(value, f"{key}.init_args.{name}", mistakes) for name, value in draft.values.items()}
    description = {
        "class_path": f"{draft.cls.__module__}.{draft.cls.__qualname__}",
        "init_args": {name: plain(value) for name, value in values.items()},
    }
    return Part(description, partial(_construct, draft.cls, values, mistakes.at(key)), draft.cls)


def unusable(base: type[Any], value: Any) -> Part[Any]:
    """Return a part that cannot be built: its class, if that much is known, and what the recipe says of it."""
    spec = value if isinstance(value, Mapping) else {"class_path": value}
    arguments = spec.get("init_args")
    described = {"class_path": spec.get("class_path"), "init_args": arguments if isinstance(arguments, Mapping) else {}}
    try:
        return Part(described, _refuse, resolve(base, str(described["class_path"])))
    except LimbeckError:
        return Part(described, _refuse)


def usable(part: Part[Any]) -> bool:
    """Return whether a part can be built."""
    return part.build is not _refuse


def _keyed(value: Any, key: str, mistakes: Mistakes) -> Any:
    """Return a value with parts, which know their keys, in place of its drafts."""
    if isinstance(value, Draft):
        return part_of(value, key, mistakes)
    if isinstance(value, list | tuple):
        return type(value)(_keyed(each, f"{key}.{i}", mistakes) for i, each in enumerate(value))
    if isinstance(value, dict):
        return {name: _keyed(each, f"{key}.{name}", mistakes) for name, each in value.items()}
    return value


def plain(value: Any) -> Any:
    """Return a checked value as plain JSON data."""
    if isinstance(value, Part):
        return dict(value.description)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {name: plain(v) for name, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def _construct(cls: type[T], values: Mapping[str, Any], key: str, **more: Any) -> T:
    ready = {name: _built(value) for name, value in values.items()}
    try:
        with nullcontext() if cls.__module__.startswith("limbeck.") else as_a_program(cls.__name__):
            return cls(**ready, **more)
    except LimbeckError as error:
        text = str(error)  # some classes name their section themselves, some the argument
        where = f"{key}.init_args." if _names_an_argument(text, values) else f"{key}: "
        raise RecipeError(text if text.startswith(f"{key}.") else f"{where}{text}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        if cls.__module__.startswith("limbeck."):
            raise  # a bug of ours
        raise RecipeError(f"{key}: {cls.__name__} refuses these arguments ({in_a_line(error)}); change them") from error


def _names_an_argument(text: str, values: Mapping[str, Any]) -> bool:
    """Return whether a message begins with the name of an argument, or of an entry of one ("terms.student.output")."""
    inside = {f"{name}.{entry}" for name, value in values.items() if isinstance(value, dict) for entry in value}
    return text.partition(": ")[0] in {*values, *inside}


def _built(value: Any) -> Any:
    if isinstance(value, Part):
        return value.build()
    if isinstance(value, list | tuple):
        return type(value)(_built(each) for each in value)
    return {name: _built(each) for name, each in value.items()} if isinstance(value, dict) else value


def _refuse(**more: Any) -> Any:
    raise AssertionError("a part of a recipe whose mistakes were not reported")

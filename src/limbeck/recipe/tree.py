"""A recipe as plain data: read from YAML, changed by flags, merged, and searched for where a value came from."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from limbeck.errors import RecipeError

Tree = dict[str, Any]
DOTTED = ("weights", "terms")  # mappings of names with a dot: "player.loss"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its two traps: a key given twice is a mistake, and 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key that is not text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would take for a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def load(path: Path) -> Tree:
    """Return the mapping in a YAML file.

    Raises:
        RecipeError: It is missing, unreadable, no YAML, not a mapping, or holds what JSON cannot say.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: expected a YAML recipe in UTF-8, found other bytes ({error.reason})") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None
    tree = parse(text, str(path))
    if not isinstance(tree, dict):
        found = "an empty file" if tree is None else f"a {type(tree).__name__}"
        raise RecipeError(f"{path}: expected a recipe, a mapping of sections, found {found}")
    return tree


def parse(text: str, source: str) -> Any:
    """Return the plain data of a YAML text; `source` is what messages call it.

    Raises:
        RecipeError: It is no YAML, or holds what JSON cannot say, such as a date.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError(f"{source}{line}: cannot be read as YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # a tag can lead to any of them
        raise RecipeError(f"{source}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    try:
        return _plain(value, "")
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    except RecursionError:
        raise RecipeError(f"{source}: an anchor that contains itself") from None


def dump(tree: Mapping[str, Any]) -> str:
    """Return the tree as YAML."""
    text: str = yaml.dump(_plain(tree, ""), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)
    return text


def override(tree: Tree, key: str, value: Any) -> None:
    """Set the value at a dotted path, making sections on the way.

    The path below `weights` and `terms` is a name such as "player.loss", which has a dot of its own.

    Raises:
        RecipeError: The path leads through something that is not a section.
    """
    path = steps(key)
    if "" in path:
        raise RecipeError(f"--{key}: expected a dotted path such as student.training.steps")
    here = tree
    for depth, step in enumerate(path[:-1]):
        if here.get(step) is None:
            here[step] = {}
        if isinstance(here[step], str) and path[depth + 1] == "init_args":
            here[step] = {"class_path": here[step]}
        if not isinstance(here[step], dict):
            raise RecipeError(f"--{key}: {'.'.join(path[: depth + 1])} is {here[step]!r}, which has no parts")
        here = here[step]
    here[path[-1]] = value


def steps(key: str) -> list[str]:
    """Return the keys along a dotted path; below `weights` and `terms` stands a name with a dot of its own."""
    parts = key.split(".")
    path: list[str] = []
    while parts:
        size = 2 if path and path[-1] in DOTTED else 1
        path.append(".".join(parts[:size]))
        parts = parts[size:]
    return path


def merged(base: Any, change: Any) -> Any:
    """Return `base` with `change` laid over it, section by section; another class takes no arguments over."""
    if isinstance(base, str) and isinstance(change, Mapping) and "init_args" in change:
        base = {"class_path": base}
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    if "class_path" in change and change["class_path"] != base.get("class_path"):
        return dict(change)
    return {**base, **{name: merged(base.get(name), value) for name, value in change.items()}}


def origin(tree: Mapping[str, Any], sections: Sequence[str], key: str) -> str:
    """Return the full path of `key` in that of the sections (merged, the last is the base) which says most of it.

    What a section replaces, such as another class with its arguments, is not said by those below it.
    """
    path = steps(key)

    def said(section: str) -> dict[str, Any]:
        own = at(tree, section)
        return {path[0]: own[path[0]]} if isinstance(own, Mapping) and path[0] in own else {}

    *changes, best = sections
    known = said(best)
    for section in reversed(changes):
        change = said(section)
        known = merged(known, change)
        if _depth(change, path) == _depth(known, path):
            best = section
    return f"{best}.{key}" if best else key


def at(tree: Mapping[str, Any], section: str) -> Any:
    """Return what stands in a section, such as "students.x18"; in "" everything, and None where there is nothing."""
    here: Any = tree
    for step in section.split(".", 1) if section else []:
        here = here.get(step) if isinstance(here, Mapping) else None
    return here


def _depth(tree: Any, path: Iterable[str]) -> int:
    count = 0
    for step in path:
        if not isinstance(tree, Mapping) or step not in tree:
            break
        tree, count = tree[step], count + 1
    return count


def _plain(value: Any, key: str) -> Any:
    """Return a copy without shared parts, or raise where it is not what JSON can say."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise RecipeError(f"{key or 'top level'}: expected keys that are text, found {name!r}; quote it")
        return {name: _plain(v, f"{key}.{name}" if key else name) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{key}.{i}") for i, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        found = "NaN" if math.isnan(value) else "infinity; where there is no bound, write null"
        raise RecipeError(f"{key}: expected a number, found {found}")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise RecipeError(f"{key}: expected text, a number, a list or a mapping, found a {type(value).__name__}; quote it")

"""A recipe as plain data: read from YAML, changed by flags, merged, and searched for where a value came from."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from limbeck.errors import RecipeError, nearest

Tree = dict[str, Any]
MOST = 50_000  # values of a recipe
LONGEST = 500_000  # bytes of a recipe
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
    tree = parse(_text(path), str(path))
    if not isinstance(tree, dict):
        found = "an empty file" if tree is None else f"a {type(tree).__name__}"
        raise RecipeError(f"{path}: expected a recipe, a mapping of sections, found {found}")
    return tree


def _text(path: Path) -> str:
    if path.is_dir():
        inside = ", ".join(sorted(f.name for f in path.iterdir() if f.suffix in (".yaml", ".yml"))[:5])
        raise RecipeError(f"{path}: expected a recipe, a YAML file, found a folder; name one in it: {inside or 'none'}")
    try:
        # Not to wait for ever for somebody who opens the other end of a pipe; where somebody has, to wait for the text.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        os.set_blocking(handle, True)
        with os.fdopen(handle, "rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise RecipeError(f"{path}: expected a recipe of at most {LONGEST:,} bytes, found more; is it one?")
        return content.decode("utf-8")
    except FileNotFoundError:
        beside = [file.name for file in path.parent.glob("*.y*ml")]
        raise RecipeError(f"{path}: no such recipe{nearest(path.name, beside)}") from None
    except UnicodeDecodeError as error:
        found = f"found other bytes ({error.reason})"
        raise RecipeError(f"{path}: expected a YAML recipe in UTF-8, {found}; save it in UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); give another, or the right to read it") from None


def parse(text: str, source: str) -> Any:
    """Return the plain data of a YAML text; `source` is what messages call it.

    Raises:
        RecipeError: It is no YAML, or holds what JSON cannot say, such as a date.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None and _expanded(node, {}) > MOST:
            raise RecipeError(
                f"{source}: expected at most {MOST:,} values, found more once every *alias is written out; aliases of"
                " lists of aliases multiply"
            )
        value = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError(f"{source}{line}: cannot be read as YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # a tag can lead to any of them
        raise RecipeError(f"{source}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RecipeError(f"{source}: nested too deep, or an anchor that contains itself; write it out") from None
    try:
        return _plain(value, "")
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None


def _expanded(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Return how many values a node holds once its aliases are written out; `known` holds those of nodes seen before.

    Raises:
        RecursionError: A node contains itself, or they are nested too deep.
    """
    if known.get(node) == 0:  # begun and not ended
        raise RecursionError
    if node not in known:
        known[node] = 0
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        children = chain.from_iterable(inner) if isinstance(node, yaml.MappingNode) else inner
        known[node] = 1 + sum(_expanded(child, known) for child in children)
    return known[node]


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

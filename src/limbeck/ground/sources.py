"""Which files somebody's code is made of: the file that is named, and what that imports of its owner's own.

What is learned and measured depends on this code, so arms and evaluations are known by its content. Python's standard
library, installed packages and Limbeck itself are not the owner's own: they have versions.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import NamedTuple

OURS = Path(__file__).resolve().parents[1]
INSTALLED = {"site-packages", "dist-packages"}  # folders that installers fill


_held: ContextVar[dict[Path, bytes] | None] = ContextVar("held", default=None)


@contextmanager
def one_reading() -> Iterator[None]:
    """Take every source, inside, as it was when it was first looked at: edits wait for the next run."""
    outer = _held.get()
    token = _held.set({} if outer is None else outer)
    try:
        yield
    finally:
        _held.reset(token)


def _read(file: Path) -> bytes:
    held = _held.get()
    if held is None:
        return file.read_bytes()
    if file not in held:
        held[file] = file.read_bytes()
    return held[file]


class _Wanted(NamedTuple):
    """An import statement: `from {level dots}{module} import names`."""

    level: int
    module: str
    names: tuple[str, ...]


def is_own(file: Path) -> bool:
    """Return whether a file is its user's own: neither installed, nor Python's, nor of Limbeck."""
    file = file.resolve()
    return file.is_file() and INSTALLED.isdisjoint(file.parts) and not any(map(file.is_relative_to, _others()))


@cache
def _others() -> tuple[Path, ...]:
    """Return the folders of Limbeck and of Python's standard library."""
    return OURS, *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def search_path(beside: Path | None = None) -> list[str]:
    """Return where modules are looked for; a folder beside comes before all that is installed, but after Python's own.

    Args:
        beside: The folder of a file that is run, whose neighbours it imports.
    """
    place = next((n for n, entry in enumerate(sys.path) if not INSTALLED.isdisjoint(Path(entry).parts)), len(sys.path))
    return [*sys.path[:place], *([] if beside is None else [str(beside)]), *sys.path[place:]]


def own_sources(file: Path, name: str, beside: Path | None = None) -> dict[str, Path]:
    """Return the files of a module and of all that it imports of its user's own, by the names of their modules.

    Imports inside functions count, and `import_module("name")`; a name that is computed cannot be known.

    Args:
        file: The module's file; nothing comes of one that is not the user's own.
        name: The module's name.
        beside: A folder whose modules it can import, too.
    """
    places = [Path(entry or ".").resolve() for entry in search_path(beside)]
    found: dict[str, Path] = {}
    waiting = [(name, file.resolve()), *_resolved(name, places)]  # with the packages around it
    while waiting:
        module, source = waiting.pop(0)
        if module not in found and is_own(source):
            found[module] = source
            waiting += _imported(module, source, places)
    return found


def fingerprint(sources: Mapping[str, Path]) -> str:
    """Return a SHA-256 of the names and contents of modules, wherever they lie."""
    digest = hashlib.sha256()
    for name, file in sorted(sources.items()):
        digest.update(f"{name} {hashlib.sha256(_read(file)).hexdigest()}\n".encode())
    return digest.hexdigest()


def code_of(module: str, file: Path | None = None) -> str:
    """Return what the code of a module is known by: its sources, or of an installed one its version and its file.

    It is "" where there is no file of that module.

    Args:
        module: Its name.
        file: Its file, which sees its neighbours; None to look for the module.
    """
    beside = None if file is None else file.resolve().parent
    file = file or place_of(module)
    if file is None or not file.is_file():
        return ""
    if is_own(file):
        return fingerprint(own_sources(file, module, beside))
    return f"{_version(module.partition('.')[0])} {hashlib.sha256(file.read_bytes()).hexdigest()}"


@cache
def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 (half the time of `limbeck --help`)

    try:
        return version(package)
    except PackageNotFoundError:  # a package whose distribution has another name; its file tells
        return ""


def place_of(module: str) -> Path | None:
    """Return the file of a module that is imported or can be."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        own: str | None = getattr(loaded, "__file__", None)
        return None if own is None else Path(own)
    return dict(_resolved(module, [Path(entry or ".").resolve() for entry in sys.path])).get(module)


def _imported(module: str, file: Path, places: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the modules that a file imports, installed ones among them, with the packages around them."""
    package = (module if file.name == "__init__.py" else module.rpartition(".")[0]).split(".")
    for wanted in _imports(_read(file)) if file.suffix == ".py" else ():
        leading = wanted.module.split(".") if wanted.module else []
        for parts in [leading, *([*leading, name] for name in wanted.names)]:
            if wanted.level:
                above = package[: len(package) + 1 - wanted.level]
                yield from _descend(".".join(above), file.parents[wanted.level - 1], parts)
            elif parts:
                yield from _resolved(".".join(parts), places)


def _resolved(path: str, places: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the module at a dotted path with the packages around it; nothing of the standard library."""
    head, *rest = path.split(".")
    if head in sys.stdlib_module_names:
        return
    place = next((place for place in places if _found(place, head) is not None), None)
    if place is not None:
        yield from _descend("", place, [head, *rest])
        return
    try:  # an editable installation may be known to a finder of its own
        spec = importlib.util.find_spec(head)
    except (ImportError, ValueError):
        return
    origin = None if spec is None else spec.origin
    if origin is not None and Path(origin).is_file():
        yield head, Path(origin)
        yield from _descend(head, Path(origin).parent, rest)


def _descend(package: str, folder: Path, parts: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield the modules on the way from a folder down a dotted path, as far as there are any."""
    name = package
    for part in parts:
        file = _found(folder, part)
        if file is None:
            return
        name, folder = f"{name}.{part}".lstrip("."), folder / part
        if file.is_file():
            yield name, file


def _found(folder: Path, name: str) -> Path | None:
    """Return the file of a module in a folder, or a package's folder where that has no file."""
    files = (folder / name / "__init__.py", *(folder / f"{name}{suffix}" for suffix in all_suffixes()))
    return next((place for place in files if place.is_file()), folder / name if (folder / name).is_dir() else None)


@cache
def _imports(source: bytes) -> tuple[_Wanted, ...]:
    """Return the imports anywhere in a file; none of one that cannot be parsed, which cannot be imported either."""
    try:
        return tuple(_statements(ast.parse(source)))
    except (SyntaxError, ValueError):
        return ()


def _statements(tree: ast.AST) -> Iterator[_Wanted]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (_Wanted(0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield _Wanted(node.level, node.module or "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))
            yield from (_Wanted(len(name) - len(name.lstrip(".")), name.lstrip("."), ()) for name in names)

"""Importing somebody's code, by the name of its module or by its file.

A module runs when it is imported. So what no recipe can mean, Python's own modules and programs, is refused before
that, and within `only_ours` everything but Limbeck and torch.nn. A file that changed, or a neighbour of it, is read
again, so that what runs is what arms are known by.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

from limbeck.errors import RecipeError, in_a_line
from limbeck.ground.sources import INSTALLED, fingerprint, is_own, own_sources, place_of, search_path

PLAIN = re.compile(r"(limbeck|torch\.nn|torch\.optim)(\.|$)")  # modules whose classes do no harm, whoever names them
_distrusts: ContextVar[bool] = ContextVar("distrusts", default=False)
_seen: dict[str, str] = {}  # the fingerprint of the sources of modules when they were imported


@contextmanager
def only_ours() -> Iterator[None]:
    """Refuse, inside, to import anything but Limbeck's own modules and torch.nn's: the recipe is somebody else's."""
    token = _distrusts.set(True)
    try:
        yield
    finally:
        _distrusts.reset(token)


def check_trusted(name: str) -> None:
    """Refuse code that is not trusted.

    Args:
        name: A module, a file or a library's model.

    Raises:
        RecipeError: It is outside Limbeck, within `only_ours`.
    """
    if _distrusts.get() and not PLAIN.match(name):
        raise RecipeError(
            "its code is neither Limbeck's nor torch.nn's, and would run; read it, and if you trust it give --trust"
        )


def see_working_folder() -> None:
    """Let modules in the working folder be imported, after Python's and installed ones; not within `only_ours`."""
    if "" not in sys.path and not _distrusts.get():
        sys.path.append("")


def module_named(path: str) -> ModuleType:
    """Return the module at a dotted path, read again if its sources changed since it was imported.

    Raises:
        RecipeError: It is not to be imported, or cannot be; without the path.
        ModuleNotFoundError: There is no such module.
    """
    parts = path.split(".")
    if parts[0] in sys.stdlib_module_names or "__main__" in parts[1:]:
        raise RecipeError("it is Python's own or a program, and holds no class that a recipe can name")
    check_trusted(path)
    file = place_of(path)
    _forget_changed({} if file is None else own_sources(file, path))
    with _importing(path) as absent:
        importlib.invalidate_caches()
        module = importlib.import_module(path)
    if absent:
        raise absent[0]
    file = place_of(path)
    _note({} if file is None else own_sources(file, path))
    return module


def module_in(file: Path) -> ModuleType:
    """Return the module in a file, which may import its neighbours; what did not change is run only once.

    Raises:
        RecipeError: It is not to be run, or cannot be; without the path.
    """
    check_trusted(str(file))
    if not is_own(file) and INSTALLED.isdisjoint(file.resolve().parts):
        raise RecipeError("it is Python's own or Limbeck's file; expected one of yours")
    file = file.resolve()
    sources = own_sources(file, file.stem, file.parent)
    name = f"limbeck_external_{file.stem}_{fingerprint({**sources, str(file): file})[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RecipeError("expected a Python file (.py)")
    neighbours = {each: place for each, place in sources.items() if place != file}
    _forget_changed(neighbours, file.parent)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _first_after_python(file.parent), _importing(str(file)) as absent:
            importlib.invalidate_caches()
            spec.loader.exec_module(module)
        if absent:
            raise RecipeError(f"importing it failed: {in_a_line(absent[0])}")
    except RecipeError:
        del sys.modules[name]
        raise
    _note(neighbours, file.parent)
    return module


@contextmanager
def as_a_program(name: str) -> Iterator[None]:
    """Run somebody's code as `python name` runs it: with an empty command line. What ends the program is refused.

    Raises:
        RecipeError: The code wants to end the program.
    """
    arguments, complaint = sys.argv, io.StringIO()
    sys.argv = [name]
    try:
        with redirect_stderr(complaint):
            yield
    except SystemExit as error:
        reason = complaint.getvalue().strip().rpartition("\n")[2] or f"sys.exit({error.code!r})"
        complaint = io.StringIO()
        raise RecipeError(
            f"it ends the program ({reason}), as a script does that parses its command line; put"
            ' that below `if __name__ == "__main__":`'
        ) from error
    finally:
        sys.argv = arguments
        sys.stderr.write(complaint.getvalue())


@contextmanager
def _importing(name: str) -> Iterator[list[ModuleNotFoundError]]:
    """Tell in one line what goes wrong while somebody's module runs; a module that is absent is put into the list.

    No bytecode is written: Python takes it for that of a source that changed within a second.
    """
    absent: list[ModuleNotFoundError] = []
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with as_a_program(name):
            yield absent
    except RecipeError:
        raise
    except ModuleNotFoundError as error:
        absent.append(error)
    except ImportError as error:
        hint = _relative(name) if "relative import" in str(error) else ""
        raise RecipeError(f"importing it failed: {in_a_line(error)}{hint}") from error
    except Exception as error:  # whatever the owner's module raises
        raise RecipeError(f"importing it failed: {in_a_line(error)}") from error
    finally:
        sys.dont_write_bytecode = writes


def _relative(name: str) -> str:
    """Return how a file with relative imports is to be named."""
    file = Path(name).resolve()
    top = file.parent
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    dotted = ".".join(file.relative_to(top.parent).with_suffix("").parts)
    return f"; it is part of a package: name it '{dotted}.Class', with {top.parent} on PYTHONPATH"


@contextmanager
def _first_after_python(folder: Path) -> Iterator[None]:
    """Look for modules in a folder before all that is installed, but after Python's own."""
    sys.path[:] = search_path(folder)
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _forget_changed(sources: Mapping[str, Path], beside: Path | None = None) -> None:
    """Let modules be imported anew whose sources changed, or in whose name another file was imported."""
    for name, file in sources.items():
        loaded = sys.modules.get(name)
        if loaded is None:
            continue
        same = Path(getattr(loaded, "__file__", None) or "").resolve() == file
        content = fingerprint(own_sources(file, name, beside))
        if same and _seen.setdefault(name, content) == content:
            continue
        del sys.modules[name]
        package, _, attribute = name.rpartition(".")
        if package in sys.modules and vars(sys.modules[package]).get(attribute) is loaded:
            delattr(sys.modules[package], attribute)  # `from package import module` would find the old one


def _note(sources: Mapping[str, Path], beside: Path | None = None) -> None:
    """Remember what the sources of modules were when they were imported."""
    for name, file in sources.items():
        if name in sys.modules:
            _seen[name] = fingerprint(own_sources(file, name, beside))

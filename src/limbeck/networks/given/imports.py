"""Building somebody else's network from its import path or library, with every mistake told in one line.

Nothing is called but what makes a network: a class of networks, a function of the user's own, or an installed one that
says that it returns a network.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from torch import nn

from limbeck.errors import RecipeError, in_a_line, nearest
from limbeck.ground.modules import as_a_program, check_trusted, module_in, module_named
from limbeck.ground.sources import is_own
from limbeck.networks.given.libraries import LIBRARIES, library_of
from limbeck.networks.handling.bare import bare


def build(target: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return `target(**arguments)`.

    Args:
        target: "package.module.Class", or "path/to/file.py:Class"; a function that returns a module will do. Or the
            name of a model in a library: "timm:NAME", "torchvision:NAME" or "transformers:NAME_OR_FOLDER".
        arguments: Keyword arguments.

    Raises:
        RecipeError: The target cannot be found, imported or built, or is not given the arguments that it takes.
        MissingExtra: The library is not installed.
    """
    library, model = library_of(target)
    if library is not None:
        with _told_of(target):
            check_trusted(target)
    factory = _find(target) if library is None else library.maker(model, arguments)
    _check_arguments(target, factory, arguments)
    try:
        with as_a_program(target) if library is None else nullcontext():
            module = factory(**arguments)
    except RecipeError as error:
        raise RecipeError(f"target {target!r}: cannot be built: {error}") from error
    except Exception as error:  # whatever the owner's constructor raises
        hint = "" if library is None else library.hint(model)
        raise RecipeError(f"target {target!r}: cannot be built: {in_a_line(error)}{hint}") from error
    if not isinstance(module, nn.Module):
        raise RecipeError(f"target {target!r}: expected a torch.nn.Module, found {type(module).__name__}")
    return bare(module)


def _find(target: str) -> Callable[..., Any]:
    """Return the class or function at `target`."""
    of_file = ":" in target
    where, _, name = target.rpartition(":" if of_file else ".")
    if not (where and name):
        libraries = ", ".join(f"'{name}:NAME'" for name in LIBRARIES)
        raise RecipeError(
            f"target: expected 'package.module.Class' or 'path/to/file.py:Class', found {target!r};"
            f" models of libraries are {libraries}"
        )
    module = _run_file(target, Path(where)) if of_file else _import(target, where)
    found: Any = getattr(module, name, None)  # not vars(): some packages make their classes when asked for them
    if not callable(found):
        known = [key for key in dir(module) if callable(getattr(module, key, None))]
        raise RecipeError(f"target {target!r}: no class {name!r} in {where}{nearest(name, known)}")
    if not _makes_networks(found):
        kind = "class" if inspect.isclass(found) else "function"
        raise RecipeError(
            f"target {target!r}: expected a class of networks (torch.nn.Module), or a function of yours that returns"
            f" one, found a {kind} that may do anything, which is not called; write a function that calls it"
        )
    factory: Callable[..., Any] = found
    return factory


def _makes_networks(found: Any) -> bool:
    """Return whether something can be meant to be called: no function of a library that says nothing of networks."""
    if inspect.isclass(found):
        return issubclass(found, nn.Module)
    while isinstance(found, functools.partial):
        found = found.func
    if inspect.isclass(found):
        return issubclass(found, nn.Module)
    function = inspect.unwrap(found)
    if not inspect.isfunction(function):
        return False
    return is_own(Path(function.__code__.co_filename)) or _returns_network(function)


def _returns_network(function: Callable[..., Any]) -> bool:
    """Return whether an installed function is annotated to return a network; torch's and ours do other things, too."""
    if function.__module__.partition(".")[0] in ("torch", "limbeck"):
        return False
    try:
        returned = get_type_hints(function).get("return")
    except Exception:  # annotations that cannot be read say nothing
        return False
    return inspect.isclass(returned) and issubclass(returned, nn.Module)


def _import(target: str, path: str) -> ModuleType:
    try:
        with _told_of(target):
            return module_named(path)
    except ModuleNotFoundError as error:
        absent = error.name or ""
        if path != absent and not path.startswith(f"{absent}."):  # the module is there, something it imports is not
            raise RecipeError(f"target {target!r}: importing it failed: {in_a_line(error)}") from error
        parent, _, name = absent.rpartition(".")
        folders = getattr(sys.modules[parent], "__path__", []) if parent else None
        known = [module.name for module in pkgutil.iter_modules(folders)]
        hint = nearest(name, known)
        raise RecipeError(
            f"target {target!r}: no module {absent!r}{hint}; is it installed or on PYTHONPATH?"
        ) from error


def _run_file(target: str, file: Path) -> ModuleType:
    """Return the module in `file`, which may import its neighbours."""
    if not file.is_file():
        beside = [*(path.name for path in file.parent.glob("*.py")), *LIBRARIES]
        raise RecipeError(f"target {target!r}: no file {file.absolute()}{nearest(file.name, beside)}")
    with _told_of(target):
        return module_in(file)


@contextmanager
def _told_of(target: str) -> Iterator[None]:
    """Name the target in what is said of its module."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"target {target!r}: {error}") from error


def _check_arguments(target: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Name the arguments that the target does not know, and those that it needs and does not get."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # a few builtins have no signature; then the call itself tells
        return
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        _refuse_unknown(target, arguments, named)
    missing = [name for name, p in named.items() if p.default is p.empty and name not in arguments]
    if missing:
        raise RecipeError(f"arguments: {target} also needs {', '.join(missing)}")


def _refuse_unknown(target: str, arguments: Iterable[str], known: Collection[str]) -> None:
    for name in arguments:
        if name not in known:
            there = f"{nearest(name, known)}; it has {', '.join(known)}"
            raise RecipeError(f"arguments.{name}: {target} has no such argument{there}")

"""Building somebody else's network from its import path or library, with every mistake told in one line."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from limbeck.errors import RecipeError, in_a_line, nearest
from limbeck.networks.given.libraries import LIBRARIES, library_of


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
    factory = _find(target) if library is None else library.maker(model, arguments)
    _check_arguments(target, factory, arguments)
    try:
        module = factory(**arguments)
    except Exception as error:  # whatever the owner's constructor raises
        hint = "" if library is None else library.hint(model)
        raise RecipeError(f"target {target!r}: cannot be built: {in_a_line(error)}{hint}") from error
    if not isinstance(module, nn.Module):
        raise RecipeError(f"target {target!r}: expected a torch.nn.Module, found {type(module).__name__}")
    return module


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
    factory: Callable[..., Any] = found
    return factory


def _import(target: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        absent = error.name or ""
        if path != absent and not path.startswith(f"{absent}."):  # the module is there, something it imports is not
            raise _failed(target, error) from error
        parent, _, name = absent.rpartition(".")
        folders = getattr(sys.modules[parent], "__path__", []) if parent else None
        known = [module.name for module in pkgutil.iter_modules(folders)]
        hint = nearest(name, known)
        raise RecipeError(
            f"target {target!r}: no module {absent!r}{hint}; is it installed or on PYTHONPATH?"
        ) from error
    except Exception as error:  # whatever the owner's module raises
        raise _failed(target, error) from error


def _run_file(target: str, file: Path) -> ModuleType:
    """Return the module in `file`, which may import its neighbours; the same content is run only once."""
    if not file.is_file():
        beside = [*(path.name for path in file.parent.glob("*.py")), *LIBRARIES]
        raise RecipeError(f"target {target!r}: no file {file.absolute()}{nearest(file.name, beside)}")
    file = file.resolve()
    digest = hashlib.sha256(str(file).encode() + file.read_bytes()).hexdigest()[:12]
    name = f"limbeck_external_{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RecipeError(f"target {target!r}: expected a Python file (.py), found {file}")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the owner's file raises
        del sys.modules[name]
        raise _failed(target, error) from error
    finally:
        sys.path.remove(str(file.parent))
    return module


def _failed(target: str, error: Exception) -> RecipeError:
    return RecipeError(f"target {target!r}: importing it failed: {in_a_line(error)}")


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

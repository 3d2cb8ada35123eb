"""What there is to build from: the classes of a room, found by importing it, and their arguments.

There is no registry: a class belongs to the catalogue because it is defined in a module of its room.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_type_hints

from docstring_parser import parse as parse_docstring
from torch import nn
from torch.optim import Optimizer

import limbeck
from limbeck.errors import MissingExtra, RecipeError, closest, nearest
from limbeck.ground.modules import module_named
from limbeck.recipe.words import classes_in, or_text, type_text

MACHINES = ("training", "recipe", "run", "report", "api")  # packages whose files are parts of one thing, no choice
MANY = 20  # names that a message lists
FEW = 5  # of more than that


@dataclass(frozen=True)
class Argument:
    """An argument of a constructor.

    Attributes:
        name: Its name.
        annotation: Its type.
        required: False when it has a default.
        default: The default, when there is one.
        doc: What its docstring says.
    """

    name: str
    annotation: Any
    required: bool
    default: Any = None
    doc: str = ""

    @property
    def type(self) -> str:
        """The type in words."""
        return type_text(self.annotation)


@dataclass(frozen=True)
class Entry:
    """A class as `limbeck list` shows it.

    Attributes:
        name: Its name.
        path: Its dotted import path.
        summary: The first line of its docstring.
        details: What the docstring says after that, up to the arguments.
        arguments: The constructor's arguments.
    """

    name: str
    path: str
    summary: str
    details: str
    arguments: tuple[Argument, ...]


def catalogue(base: type) -> list[type]:
    """Return the concrete classes that Limbeck itself offers for `base`, by name.

    `base` is the base class of a room (`Data`, `Method`...), a role (`Generator`...), a class of its own
    (`Robustness`), `nn.Module` for every network, or `Optimizer` for those of torch. Modules whose optional extra is
    not installed are left out.
    """
    found = {c for module in _room(base)[0] for c in _classes(module) if issubclass(c, base)}
    return sorted(found - {nn.Module, Optimizer}, key=lambda c: c.__name__)


def rooms() -> dict[str, type]:
    """Return what `limbeck list` shows: for each room's name the base of its classes, which states it as its `room`."""
    packages = [
        info.name for info in pkgutil.iter_modules(limbeck.__path__) if info.ispkg and info.name not in MACHINES
    ]
    modules = (module for package in packages for module in _modules(f"limbeck.{package}")[0])
    bases = {value for module in modules for value in vars(module).values() if "room" in getattr(value, "__dict__", ())}
    return {base.room: base for base in sorted(bases, key=lambda base: base.room)}


def resolve(base: type | tuple[type, ...], name: str) -> type:
    """Return the subclass of `base`, or of one of several, with that short name, or at that dotted import path.

    Args:
        base: What it has to be, or may be.
        name: Its name.

    Raises:
        RecipeError: There is none, several, or it is of another kind.
    """
    bases = base if isinstance(base, tuple) else (base,)
    if "." in name:
        return _at_path(bases, name)
    known = [cls for each in bases for cls in catalogue(each)]
    matches = [c for c in known if c.__name__ == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        paths = ", ".join(f"{c.__module__}.{name}" for c in matches)
        raise RecipeError(f"{name!r} is ambiguous; give one of {paths}")
    names = [c.__name__ for c in known]
    listed = ", ".join(names)
    if len(names) > MANY:
        listed = f"{len(names)}, the nearest {', '.join(closest(name, names, FEW, 0.0))} (`limbeck list` shows all)"
    missing = "".join(f"; not available: {reason}" for each in bases for reason in _room(each)[1])
    raise RecipeError(
        f"expected a {or_text(bases)}, found {name!r}{nearest(name, names)}; there are"
        f" {listed or 'none'}, and any class by its dotted import path{missing}"
    )


def _at_path(bases: tuple[type, ...], path: str) -> type:
    """Return the class at a dotted import path."""
    found = _imported(path, or_text(bases))
    if not (inspect.isclass(found) and issubclass(found, bases)):
        raise RecipeError(f"expected a {or_text(bases)}, found {path}, which is not one")
    if inspect.isabstract(found):
        raise RecipeError(f"expected a class that can be built, found {path}, which is abstract; name a subclass")
    return found


def describe(cls: type) -> Entry:
    """Return what there is to know of a class before it is chosen."""
    details = parse_docstring(inspect.cleandoc(cls.__doc__ or "")).long_description or ""
    path = f"{cls.__module__}.{cls.__qualname__}"
    return Entry(cls.__name__, path, summary(cls), details, tuple(arguments(cls).values()))


def summary(cls: type) -> str:
    """Return the first line of a class's docstring, or "" without one."""
    return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]


@cache
def arguments(cls: type) -> Mapping[str, Argument]:
    """Return the constructor's arguments by name, without `self`, `*args` and `**kwargs`.

    Those that it passes on by `**kwargs` follow, where the class says to which classes (`passes_on`); each of these
    classes takes some of them.
    """
    own = _own_arguments(cls)
    takers: dict[str, list[type]] = {}
    for taker in _passes_on(cls):
        for name in arguments(taker):
            takers.setdefault(name, []).append(taker)
    return own | {name: _shared(name, classes) for name, classes in takers.items() if name not in own}


def _shared(name: str, takers: Sequence[type]) -> Argument:
    """Return an argument that each of these classes takes, as the first describes it; of alternatives it says which."""
    first = arguments(takers[0])[name]
    alternatives = any("room" in vars(each) for each in takers[0].__mro__)
    whose = f" Of {', '.join(taker.__name__ for taker in takers)}." if alternatives else ""
    return replace(first, required=False, doc=f"{first.doc}{whose}")


def _own_arguments(cls: type) -> dict[str, Argument]:
    init = cls.__init__  # type: ignore[misc]
    if init in (object.__init__, nn.Module.__init__):
        return {}
    try:
        hints = get_type_hints(init)
    except (NameError, TypeError):  # somebody else's class with annotations that cannot be read: nothing is checked
        hints = {}
    author = next(each for each in cls.__mro__ if "__init__" in vars(each))  # a base, where that has the constructor
    written = [p for each in (cls, author) for p in parse_docstring(inspect.cleandoc(each.__doc__ or "")).params]
    docs = {p.arg_name: " ".join((p.description or "").split()) for p in reversed(written)}
    parameters = list(inspect.signature(init).parameters.values())[1:]
    return {
        p.name: Argument(
            p.name,
            hints.get(p.name, Any),
            p.default is p.empty,
            None if p.default is p.empty else p.default,
            docs.get(p.name, ""),
        )
        for p in parameters
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def open_ended(cls: type) -> bool:
    """Return whether the constructor takes keywords that neither its signature nor what it passes them on to names."""
    return _takes_any(cls) and not _passes_on(cls)


def _takes_any(cls: type) -> bool:
    init = cls.__init__  # type: ignore[misc]
    if init in (object.__init__, nn.Module.__init__):
        return False
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(init).parameters.values())


def _passes_on(cls: type) -> list[type]:
    """Return the classes that get the keywords which the signature of `cls` does not name; of a base, all below it."""
    named: tuple[type, ...] = getattr(cls, "passes_on", ()) if _takes_any(cls) else ()
    return [taker for each in named for taker in (catalogue(each) if inspect.isabstract(each) else [each])]


def network_arguments(cls: type) -> dict[str, Argument]:
    """Return the arguments of a method that are networks: `student`, `teacher`, `discriminator`..."""
    return {name: a for name, a in arguments(cls).items() if any(_is_network(c) for c in classes_in(a.annotation))}


def _is_network(cls: type) -> bool:
    """Return whether a class is a network rather than a module of another room of ours, such as a loss."""
    ours = cls.__module__.startswith("limbeck.")
    return issubclass(cls, nn.Module) and (
        not ours or cls.__module__.startswith(("limbeck.networks.", "limbeck.baselines."))
    )


def _room(base: type) -> tuple[list[types.ModuleType], list[str]]:
    """Return the modules in which `base` has its subclasses, and why others could not be imported."""
    if issubclass(base, Optimizer):
        return _modules("torch.optim")
    room = "networks" if base is nn.Module else base.__module__.split(".")[1]
    found = [_modules(f"limbeck.{each}") for each in (("networks", "baselines") if room == "networks" else (room,))]
    return [module for modules, _ in found for module in modules], [reason for _, out in found for reason in out]


def _modules(package: str) -> tuple[list[types.ModuleType], list[str]]:
    """Return the modules of a package and its corners, and why others could not be imported."""
    modules, missing = [], []
    for name in _names(package):
        try:
            modules.append(importlib.import_module(name))
        except MissingExtra as error:
            missing.append(f"{name} {error}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] == "limbeck":
                raise
            missing.append(f"{name} needs {error.name}, which is not installed")
    return modules, missing


@cache
def _names(package: str) -> tuple[str, ...]:
    """Return the names of the modules of a package and its corners."""
    walk = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    return tuple(info.name for info in walk if not info.ispkg and "._" not in info.name)


@cache
def _classes(module: types.ModuleType) -> tuple[type, ...]:
    """Return the public classes of a module that can be built."""
    own = (c for name, c in vars(module).items() if inspect.isclass(c) and not name.startswith("_"))
    return tuple(c for c in own if c.__module__ == module.__name__ and not inspect.isabstract(c))


def _imported(path: str, wanted: str) -> Any:
    module_name, _, name = path.rpartition(".")
    if not all(path.split(".")):
        raise RecipeError(f"expected a dotted import path such as package.module.Class, found {path!r}")
    try:
        module = module_named(module_name)
    except RecipeError as error:
        raise RecipeError(f"expected a {wanted}, found {path}: {error}") from error
    except ModuleNotFoundError as error:
        moved = [c for c in catalogue(nn.Module) if c.__name__ == name] if path.startswith("limbeck.") else []
        hint = f"it is now {moved[0].__module__}.{name}" if moved else "is it installed, or its folder on PYTHONPATH?"
        raise RecipeError(f"{path}: cannot import {module_name!r} ({error}); {hint}") from error
    if not hasattr(module, name):
        raise RecipeError(f"{path}: {module_name} has no {name!r}{nearest(name, vars(module))}")
    return getattr(module, name)

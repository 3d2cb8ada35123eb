"""Copies of networks, also of those that keep something which Python cannot copy, or functions that know them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from threading import Lock, RLock
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar
from weakref import ref

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, in_a_line

T = TypeVar("T")
LOCKS = {type(Lock()): Lock, type(RLock()): RLock}


def copied(network: T) -> T:
    """Return a copy of a network, or of something with networks in it, that shares nothing with it.

    Tensors of a computation that it keeps, such as `self.features = x` in `forward`, or the weight of an old
    `weight_norm`, come as values without their history; locks are new ones. Hooks and other functions that refer to
    the network, which Python leaves as they are, refer to the copy.

    Raises:
        RecipeError: It keeps something else that has no copy.
    """
    memo: dict[int, Any] = {}
    for held in _reached(network):
        if isinstance(held, Tensor) and not held.is_leaf:
            memo[id(held)] = held.detach().clone()
        elif isinstance(held, torch.Generator):
            memo[id(held)] = held.clone_state()
        elif type(held) in LOCKS:
            memo[id(held)] = LOCKS[type(held)]()
    try:
        twin = deepcopy(network, memo)
        _Rebinding(memo).inside(twin)
    except Exception as error:  # whatever an object of its owner raises
        raise RecipeError(
            f"{type(network).__name__}: expected a network that can be copied, found that it keeps what cannot:"
            f" {_uncopied(network, memo)}{in_a_line(error)}; keep it outside the network, or give its class a"
            " __deepcopy__"
        ) from error
    return twin


def _uncopied(network: Any, memo: dict[int, Any]) -> str:
    """Return "blocks.0.stream: " for the first attribute of a module that has no copy, or "" where it is elsewhere."""
    for path, module in network.named_modules() if isinstance(network, nn.Module) else ():
        for name, value in vars(module).items():
            try:
                deepcopy(value, dict(memo))
            except Exception:  # as above
                if name != "_modules":  # whose own attributes are looked at by themselves
                    return f"{path}.{name}: ".lstrip(".")
    return ""


class _Rebinding:
    """Has what refers to parts of a network refer to those of its copy.

    Args:
        memo: The copies by the identity of what was copied, as `deepcopy` notes them.
    """

    def __init__(self, memo: dict[int, Any]) -> None:
        self.memo = memo
        self.cells: dict[int, CellType] = {}  # functions can share one
        self.functions: dict[int, FunctionType] = {}  # and refer to themselves

    def inside(self, twin: Any) -> None:
        """Replace such functions wherever the copy holds them."""
        for holder in list(_reached(twin, bound=False)):
            if not isinstance(holder, type | ModuleType):
                self._in_place(holder)
                self._in_place(getattr(holder, "__dict__", None))

    def _in_place(self, place: Any) -> None:
        if isinstance(place, dict | list):
            for key, value in list(place.items() if isinstance(place, dict) else enumerate(place)):
                if (new := self.of(value)) is not value:
                    place[key] = new

    def of(self, value: Any) -> Any:
        """Return a function or reference that knows the copy where `value` knows the network, else `value`."""
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            function = self.of(value.__func__)  # can be anything that is callable
            return value if function is value.__func__ else MethodType(function, value.__self__)
        if isinstance(value, partial):
            function = self.of(value.func)
            return value if function is value.func else partial(function, *value.args, **value.keywords)
        if isinstance(value, BuiltinMethodType) and id(value.__self__) in self.memo:  # such as a list's append
            return getattr(self.memo[id(value.__self__)], value.__name__)
        if type(value) is ref and id(value()) in self.memo:
            return ref(self.memo[id(value())])
        return value

    def _function(self, function: FunctionType) -> FunctionType:
        if id(function) not in self.functions:
            self.functions[id(function)] = function
            if self._knows(function):
                self._make(function)
        return self.functions[id(function)]

    def _make(self, old: FunctionType) -> None:
        """Note the same function around cells and defaults of its own."""
        cells = [self.cells.setdefault(id(cell), CellType()) for cell in old.__closure__ or ()]
        new = FunctionType(old.__code__, old.__globals__, old.__name__, None, tuple(cells) or None)
        self.functions[id(old)] = new
        new.__dict__.update(old.__dict__)
        new.__defaults__ = None if old.__defaults__ is None else tuple(map(self._copy, old.__defaults__))
        new.__kwdefaults__ = {name: self._copy(value) for name, value in (old.__kwdefaults__ or {}).items()}
        for cell, given in zip(cells, old.__closure__ or (), strict=True):
            for content in _contents(given):
                cell.cell_contents = self._copy(content)

    def _copy(self, value: Any) -> Any:
        """Return the copy of what a function refers to, or the same thing where that has nothing to do with it."""
        if isinstance(value, FunctionType | ref | BuiltinMethodType):
            return self.of(value)
        return deepcopy(value, self.memo) if self._knows(value) else value

    def _knows(self, value: Any) -> bool:
        return any(id(each) in self.memo for each in _reached(value))


def _reached(start: Any, *, bound: bool = True) -> Iterator[Any]:
    """Yield an object and all that it leads to, each once; through functions only if `bound`."""
    seen: dict[int, Any] = {}
    waiting = [start]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen[id(each)] = each
            yield each
            waiting += _bound(each) if isinstance(each, _FUNCTIONS) and bound else _inside(each)


_FUNCTIONS = (FunctionType, MethodType, partial, BuiltinMethodType, ref)


def _inside(value: Any) -> list[Any]:
    """Return the items and attributes of an object; a tensor, a class and a file of code are not looked into."""
    if isinstance(value, (type, ModuleType, Tensor, *_FUNCTIONS)):
        return []
    found: list[Any] = []
    if isinstance(value, dict):
        found += [*value, *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        found += value
    own = getattr(value, "__dict__", {})
    return found + [held for name, held in own.items() if name != "_compiled_call_impl"]  # which no copy takes over


def _bound(value: Any) -> list[Any]:
    """Return what a function refers to, apart from the global names of its file."""
    if isinstance(value, FunctionType):
        cells = [content for cell in value.__closure__ or () for content in _contents(cell)]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, ref):
        return [target] if isinstance(target := value(), nn.Module) else []
    return [value.__self__, *([value.__func__] if isinstance(value, MethodType) else [])]


def _contents(cell: CellType) -> list[Any]:
    """Return what a cell holds, in a list; none where its name is not bound yet."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []

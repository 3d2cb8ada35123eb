"""Types in the words of a recipe."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from torch import Tensor

_SIMPLE = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Path: "path",
    Any: "anything",
}


def classes_in(annotation: Any) -> list[type]:
    """Return the plain classes in an annotation such as `Generator | None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [c for option in get_args(annotation) for c in classes_in(option)]
    return [annotation] if inspect.isclass(annotation) and get_origin(annotation) is None else []


def type_text(annotation: Any) -> str:
    """Return a type in the words of a recipe, e.g. "number or null" or "list of whole number"."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(option) for option in inner if option is not Tensor)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in inner)
    if origin is tuple and not (len(inner) == 2 and inner[1] is Ellipsis):
        return f"list of {len(inner)} ({', '.join(type_text(i) for i in inner)})"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"mapping of {type_text(inner[0])} to {_in_brackets(inner[1])}"
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return f"list of {_in_brackets(inner[0])}"
    return _SIMPLE.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _in_brackets(annotation: Any) -> str:
    """Return the text of a type inside another one, in brackets where it is a choice: "list of (number or null)"."""
    text = type_text(annotation)
    return f"({text})" if get_origin(annotation) in (Union, types.UnionType, Literal) and " or " in text else text


def or_text(bases: Iterable[type]) -> str:
    """Return the names of several classes, e.g. "Term or LogitLoss"."""
    return " or ".join(base.__name__ for base in bases)

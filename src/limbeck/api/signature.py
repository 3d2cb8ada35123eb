"""The signature of a function that takes the fields of a dataclass as keywords, as help and completion show it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def with_options_of(kind: type, **usual: Any) -> Callable[[F], F]:
    """Return a decorator that shows the fields of `kind` in a signature, in front of its other keywords.

    Args:
        kind: The dataclass.
        usual: Defaults that are others for this function.
    """

    def shown(function: F) -> F:
        *own, others = inspect.signature(function).parameters.values()
        taken = {parameter.name for parameter in own}
        further = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=usual.get(field.name, None if field.default is MISSING else field.default),
                annotation=field.type,
            )
            for field in fields(kind)
            if field.name not in taken
        ]
        shape = inspect.signature(function).replace(parameters=[*own, *further, others])
        vars(function)["__signature__"] = shape
        return function

    return shown

"""Arguments of `distill`, read as the arguments of a recipe are: by the type that is wanted, told in the same words."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import TypeAdapter
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.recipe.marks import shown
from limbeck.recipe.parts import Mistakes
from limbeck.recipe.signatures import Draft, argument
from limbeck.recipe.words import classes_in, or_text


def read(name: str, annotation: Any, value: Any) -> Any:
    """Return a value as its type wants it: 3 of `numpy.int64(3)`, a tuple of a list. Networks and tensors stay.

    Args:
        name: The argument.
        annotation: Its type.
        value: What is given.

    Raises:
        RecipeError: It is something else.
    """
    ours = tuple(kind for kind in classes_in(annotation) if kind.__module__.startswith("limbeck."))
    if isinstance(value, (nn.Module, *ours)) or (isinstance(value, Tensor) and value.ndim):
        return value
    mistakes = Mistakes()
    found = mistakes.read(TypeAdapter(argument(annotation)), _plain(value), f"distill: {name}")
    if ours and (mistakes.lines or isinstance(found, Draft)):
        raise RecipeError(f"distill: {name}: expected a {or_text(ours)} that is made, found {shown(value)}")
    if mistakes.lines:
        raise RecipeError(f"{mistakes.lines[0]}{_as_whole(value) if 'whole number' in mistakes.lines[0] else ''}")
    return found


def _as_whole(value: Any) -> str:
    """Return how a number such as 3e3 is written as a whole one, or ""."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return f"; write {int(value)}" if whole else ""


def _plain(value: Any) -> Any:
    """Return numbers of numpy and torch as those of Python, also in a list."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) or (isinstance(value, Tensor) and not value.ndim) else value

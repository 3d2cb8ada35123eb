"""The exceptions that a user can meet. Each message says what was expected, what was found, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from textwrap import shorten


class LimbeckError(Exception):
    """Anything that is the input's fault rather than ours: shown as one line, exit status 2."""


class RecipeError(LimbeckError):
    """A recipe, a flag or an argument that cannot be used."""


class DataError(LimbeckError):
    """Data that is missing, empty or cannot be read."""


class WeightsError(LimbeckError):
    """A weight file that is missing, unsafe, or made for another network."""


class CheckpointError(LimbeckError):
    """A checkpoint that is truncated, altered, or belongs to another run."""


class TrainingError(LimbeckError):
    """A training that cannot go on, such as one whose loss is no longer finite."""


class MissingExtra(LimbeckError):
    """A feature whose optional package is not installed.

    Args:
        package: The package that could not be imported.
        extra: The extra of Limbeck that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'needs {package}, which is not installed: pip install "limbeck[{extra}]"')


def require(key: str, holds: bool, expected: str, found: object, hint: str = "") -> None:
    """Refuse an argument for which `holds` is False.

    Args:
        key: Where the user wrote it, such as "Pgd.steps".
        holds: Whether it can be used.
        expected: What was expected.
        found: What was found.
        hint: How to mend it, after that.

    Raises:
        RecipeError: It cannot be used.
    """
    if not holds:
        raise RecipeError(f"{key}: expected {expected}, found {found!r}{hint}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the name closest to `name`, or "" when none is close."""
    close = closest(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def closest(name: str, known: Iterable[str], count: int, likeness: float = 0.6) -> list[str]:
    """Return at most `count` names that are at least so much like `name` (from 0 to 1), whatever their capitals."""
    spelt: dict[str, list[str]] = {}
    for each in known:
        spelt.setdefault(each.lower(), []).append(each)
    found = get_close_matches(name.lower(), list(spelt), n=count, cutoff=likeness)
    return [each for lower in found for each in spelt[lower]][:count]


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)", or where none is close "; there are x, y"."""
    known = list(known)
    return nearest(name, known) or f"; there are {', '.join(known)}"


def in_a_line(error: Exception) -> str:
    """Return the kind and the text of somebody else's exception as one line, which is cut when it is long."""
    return shorten(f"{type(error).__name__}: {error}", 250, placeholder=" ...")

"""Things that are known by a hash of their content, which each of them computes once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any

KNOWN = "_fingerprints"  # the attribute that holds what was computed


class Fingerprinted(ABC):
    """Remembers its fingerprint, as every class below defines it: its content does not change. Copies start anew."""

    def __init_subclass__(cls) -> None:
        """Wrap the fingerprint that the class defines."""
        super().__init_subclass__()
        if "fingerprint" in vars(cls):
            cls.fingerprint = _once(cls, cls.fingerprint)  # type: ignore[method-assign, assignment]

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes that a copy takes, which may be given other content then."""
        return {name: value for name, value in vars(self).items() if name != KNOWN}

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short hash of the content."""


def _once(cls: type, compute: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a fingerprint that every object computes when it is first asked for it."""

    @wraps(compute)
    def fingerprint(self: Any) -> str:
        known: dict[type, str] = vars(self).setdefault(KNOWN, {})  # by class: one may build on that of its base
        if cls not in known:
            known[cls] = compute(self)
        return known[cls]

    return fingerprint

"""For methods whose losses are not terms yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from torch import nn

from limbeck.methods.base import Method
from limbeck.types import Draw


class Legacy(Method):
    """A method whose losses stand in it."""

    weights: ClassVar[Mapping[str, float]]
    defaults = {}  # noqa: RUF012
    differentiates: Literal["once", "twice", "forward"] = "once"

    @classmethod
    def losses(cls, given: Iterable[str] = ()) -> dict[str, float]:
        """Return the default weights."""
        return dict(cls.weights)

    def draws(self) -> Mapping[str, Draw]:
        """Return nothing."""
        return {}

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student."""
        return {"student": self.student}

    def moved(self, player: str, step: int) -> None:
        """Do nothing."""

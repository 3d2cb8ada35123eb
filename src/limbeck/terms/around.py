"""Terms around a term: they ask it in their own way, at the worst inputs or of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from limbeck.terms.base import Cast, SampleTerm, Term, join
from limbeck.terms.scene import Scene
from limbeck.types import Draw


class Around(Term):
    """A term that asks another one; unless a subclass says otherwise it needs and does what that one does.

    Args:
        term: The other one.
    """

    def __init__(self, term: Term) -> None:
        super().__init__()
        self.term = term
        self.couples, self.differentiates = term.couples, term.differentiates
        self.scene = term.scene  # type: ignore[misc]

    @property
    def wants(self) -> Sequence[str]:  # type: ignore[override]
        """What the term wants."""
        return self.term.wants

    @property
    def needs(self) -> Sequence[str]:  # type: ignore[override]
        """What the term needs."""
        return self.term.needs

    def paths(self) -> Mapping[str, Sequence[str]]:
        """Return the term's paths."""
        return self.term.paths()

    def join(self, cast: Cast) -> None:
        """Let the term join.

        Raises:
            RecipeError: It cannot work here.
        """
        join(self.term, self.who, cast)

    def draws(self) -> Mapping[str, Draw]:
        """Return what the term draws."""
        return self.term.draws()

    def due(self, scene: Scene) -> bool:
        """Return whether the term has anything to say."""
        return self.term.due(scene)

    def moved(self, step: int) -> None:
        """Tell the term."""
        self.term.moved(step)


class AroundSamples(Around, SampleTerm):
    """The same of a term that is the mean of one number a sample, as it is one itself.

    Args:
        term: The other one.
    """

    term: SampleTerm

    def __init__(self, term: SampleTerm) -> None:
        super().__init__(term)

    def attacked(self, cast: Cast) -> tuple[str, tuple[int, ...]]:
        """Return what an attack on the term changes."""
        return self.term.attacked(cast)

    def start(self, scene: Scene, field: str) -> Tensor:
        """Return what an attack on the term starts from."""
        return self.term.start(scene, field)

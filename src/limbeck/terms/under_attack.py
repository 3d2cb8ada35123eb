"""Any term of a student that is attacked while it learns, as long as its teacher is left in peace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

from torch import Tensor

from limbeck.terms.attacked import AttackedScene
from limbeck.terms.base import Cast, Term, join
from limbeck.terms.scene import Ran, Scene
from limbeck.types import Draw


@final
class UnderAttack(Term):
    """A term at x', the images as the method's attack changed them, with what the teacher says to x, undisturbed.

    Around a cross-entropy it is adversarial training (Madry et al. 2018, arXiv:1706.06083, eq. 2.1), around a
    `FollowLogits` the robust distillation of Goldblum et al. 2020, arXiv:1905.09747, eq. 3.

    Args:
        term: The term.
    """

    scene: ClassVar[type[Scene]] = AttackedScene

    def __init__(self, term: Term) -> None:
        super().__init__()
        self.term = term
        self.couples, self.differentiates = term.couples, term.differentiates

    @property
    def wants(self) -> Sequence[str]:  # type: ignore[override]
        """What the term wants."""
        return self.term.wants

    def paths(self) -> Mapping[str, Sequence[str]]:
        """Return the term's paths."""
        return self.term.paths()

    def join(self, cast: Cast) -> None:
        """Let the term join.

        Raises:
            RecipeError: The term cannot work here.
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

    def forward(self, scene: Scene) -> Tensor:
        """Return the term at x'."""
        assert isinstance(scene, AttackedScene)  # as `scene` says
        value: Tensor = self.term(_Undisturbed(scene))
        return value


class _Undisturbed(Scene):
    """The step at x', in which a teacher says what it says to x."""

    def __init__(self, clean: AttackedScene) -> None:
        super().__init__(clean.stage, clean.there.batch, clean.step, clean.learners)
        self.clean, self.drawn = clean, clean.drawn

    def elsewhere(self, **inputs: Tensor) -> Scene:
        """Return the same step at other inputs, for all networks."""
        return self.clean.there.elsewhere(**inputs)

    def _ran(self, who: str) -> Ran:
        return (self.clean if who.startswith("teacher") else self.clean.there)._ran(who)

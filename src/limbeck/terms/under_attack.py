"""Any term of a student that is attacked while it learns, as long as its teacher is left in peace."""

from __future__ import annotations

from typing import final

from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.terms.around import Around
from limbeck.terms.attacked import AttackedScene
from limbeck.terms.base import Cast, Term
from limbeck.terms.scene import Ran, Scene


@final
class UnderAttack(Around):
    """A term at x', the images as the method's attack changed them, with what the teacher says to x, undisturbed.

    Around a cross-entropy it is adversarial training (Madry et al. 2018, arXiv:1706.06083, eq. 2.1), around a
    `FollowLogits` the robust distillation of Goldblum et al. 2020, arXiv:1905.09747, eq. 3.

    Args:
        term: The term; a loss of logits or features stands in a `FollowLogits` or `FollowFeatures`.
    """

    def __init__(self, term: Term) -> None:
        super().__init__(term)
        self.scene = AttackedScene  # type: ignore[misc]

    def join(self, cast: Cast) -> None:
        """Let the term join.

        Raises:
            RecipeError: It cannot work here, or looks at x' itself.
        """
        if not issubclass(Scene, self.term.scene):
            kind, seen = type(self.term).__name__, self.term.scene.__name__
            raise RecipeError(f"expected a term of any scene, found {kind}, which looks at an {seen} itself")
        super().join(cast)

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

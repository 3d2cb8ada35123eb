"""Any term at its worst: where an attack finds student and teacher furthest apart (Madry et al. 2018, eq. 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from limbeck.attacks.base import Attack
from limbeck.attacks.latent import on_shell
from limbeck.attacks.strength import Strength
from limbeck.errors import RecipeError
from limbeck.losses.gather import gathered
from limbeck.networks.handling.modes import evaluating
from limbeck.terms.base import Cast, SampleTerm
from limbeck.terms.scene import Scene
from limbeck.types import Draw


@final
class Worst(SampleTerm):
    """max over ‖δ‖ ≤ ε of a term at x + δ: adversarial training inside distillation.

    x is what the networks are called with: images, or latents, which an attack changes and which are then brought back
    to the length they had (see docs/decisions/0009). While the attack searches, the student is in evaluation mode.

    Args:
        term: The term.
        attack: What changes the input; of latents a PGD with `low: null, high: null`.
        strength: Replaces the attack's own radius in every step: fixed, scheduled, or steered by the term before and
            after the attack.
    """

    def __init__(self, term: SampleTerm, attack: Attack, strength: Strength | None = None) -> None:
        super().__init__()
        self.term, self.attack, self.strength = term, attack, strength
        self.couples, self.differentiates = term.couples, term.differentiates
        self.field = ""
        self.shape: tuple[int, ...] = ()

    @property
    def wants(self) -> Sequence[str]:  # type: ignore[override]
        """What the term wants."""
        return self.term.wants

    def paths(self) -> Mapping[str, Sequence[str]]:
        """Return the term's paths."""
        return self.term.paths()

    def join(self, cast: Cast) -> None:
        """Let the term join, and learn what is attacked.

        Raises:
            RecipeError: The term cannot work here, or no network states the shape of its input.
        """
        if cast.answers not in self.term.about:
            kind = type(self.term).__name__
            raise RecipeError(f"{kind} is about {' or '.join(self.term.about)}, and this student says {cast.answers}")
        self.term.join(cast)
        self.field, self.shape = cast.input()

    def draws(self) -> Mapping[str, Draw]:
        """Return what the term and the attack draw."""
        return {**self.term.draws(), **self.attack.draws(self.shape)}

    def due(self, scene: Scene) -> bool:
        """Return whether the term has anything to say."""
        return self.term.due(scene)

    def moved(self, step: int) -> None:
        """Tell the term."""
        self.term.moved(step)

    def each(self, scene: Scene) -> Tensor:
        """Return the term at the worst input of each sample (N,)."""
        start = scene.batch.need(self.field, "Worst")

        def at(value: Tensor) -> Tensor:
            return self.term.each(scene.elsewhere(**{self.field: self._plausible(value, start)}))

        strength = None if self.strength is None else self.strength.value(scene.step)
        with evaluating(scene.stage.network("student")):
            worst = self.attack(at, start, scene.drawn, strength)
        found = at(worst)
        if self.strength is not None:
            before = self.term.each(scene).detach()
            self.strength.observe(gathered(before).mean(), gathered(found.detach()).mean())
        return found

    def _plausible(self, value: Tensor, start: Tensor) -> Tensor:
        return on_shell(value, start) if self.field == "latent" else value

"""Any term at its worst: where an attack finds student and teacher furthest apart (Madry et al. 2018, eq. 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import final

from torch import Tensor

from limbeck.attacks.base import Attack, Bounds
from limbeck.attacks.latent import on_shell
from limbeck.attacks.strength import Strength
from limbeck.errors import require
from limbeck.losses.gather import gathered
from limbeck.networks.handling.modes import evaluating
from limbeck.terms.around import AroundSamples
from limbeck.terms.base import Cast, SampleTerm
from limbeck.terms.scene import Scene
from limbeck.types import Draw


@final
class Worst(AroundSamples):
    """max over ‖δ‖ ≤ ε of a term at x + δ: adversarial training inside distillation.

    x is what the networks are called with: images, or latents, which an attack changes and which are then brought back
    to the length they had (see docs/decisions/0009). While the attack searches, the student is in evaluation mode.

    Args:
        term: The term.
        attack: What changes the input; of latents a PGD with `low: null, high: null`.
        strength: Replaces the attack's own radius in every step: fixed, scheduled, or steered by the term before and
            after the attack.

    Raises:
        RecipeError: The term is not the mean of one number a sample, or the strength is no change of an image.
    """

    def __init__(self, term: SampleTerm, attack: Attack, strength: Strength | None = None) -> None:
        kind = type(term).__name__
        require(
            "Worst.term",
            isinstance(term, SampleTerm),
            "a term that is the mean of one number per sample, such as OutputDistance",
            kind,
        )
        super().__init__(term)
        self.attack, self.strength = attack, strength
        if strength is not None:
            attack.check_strength(strength.most)
        self.field = ""
        self.shape: tuple[int, ...] = ()

    def join(self, cast: Cast) -> None:
        """Let the term join, and learn what is attacked.

        Raises:
            RecipeError: The term cannot work here, or no network states the shape of its input.
        """
        super().join(cast)
        self.field, self.shape = self.term.attacked(cast)
        bounds: Bounds | None = getattr(self.attack, "bounds", None)
        bounded = bounds is not None and (bounds.low, bounds.high) != (None, None)
        require(
            f"{type(self.attack).__name__}.low, high",
            not (bounded and self.field == "latent"),
            "null and null, as latents have no bounds",
            None if bounds is None else [bounds.low, bounds.high],
        )

    def draws(self) -> Mapping[str, Draw]:
        """Return what the term and the attack draw."""
        return {**self.term.draws(), **self.attack.draws(self.shape)}

    def each(self, scene: Scene) -> Tensor:
        """Return the term at the worst input of each sample (N,)."""
        start = self.term.start(scene, self.field)
        shape, drawn = tuple(start.shape[1:]), self.attack.draws(self.shape)
        stated = f"{self.field}s of the shape {self.shape} that the student, or the `size` of the method, states"
        require("Worst", shape == self.shape or not drawn, stated, shape)

        def at(value: Tensor) -> Tensor:
            return self.term.each(scene.elsewhere(**{self.field: self._plausible(value, start)}))

        strength = None if self.strength is None else self.strength.value(scene.step)
        with ExitStack() as still:
            for who in dict.fromkeys(("student", *self.wants)):
                still.enter_context(evaluating(scene.stage.network(who)))
            worst = self.attack(at, start, scene.drawn, strength)
        found = at(worst)
        if self.strength is not None:
            before = self.term.each(scene).detach()
            self.strength.observe(gathered(before).mean(), gathered(found.detach()).mean())
        return found

    def _plausible(self, value: Tensor, start: Tensor) -> Tensor:
        return on_shell(value, start) if self.field == "latent" else value

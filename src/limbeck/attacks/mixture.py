"""One of several attacks, drawn for each batch or each sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal, final, get_args

import torch
from torch import Tensor

from limbeck.attacks.base import Attack, Loss, per_sample
from limbeck.errors import require
from limbeck.types import Draw

Each = Literal["batch", "sample"]


@final
class AttackMixture(Attack):
    """Draws which attack is used.

    Drawn for each batch, a step costs what its one attack costs. Drawn for each sample, every attack that some sample
    drew runs on the whole batch, since the loss knows its labels only for all of it: a step costs the sum of them.

    A strength replaces that of whichever attack is used, so where it is controlled all should measure it alike.

    Args:
        attacks: At least one; what they draw must have different names.
        probabilities: How often each is used, summing to 1; null for equally often.
        each: What it is drawn for: "batch" (the same in all processes) or "sample".
        name: Prefix of what is drawn, different for each attack of a mixture.

    Raises:
        RecipeError: No attacks, probabilities that are none, or names used twice.
    """

    def __init__(
        self,
        attacks: Sequence[Attack],
        probabilities: Sequence[float] | None = None,
        each: Each = "batch",
        *,
        name: str = "mixture",
    ) -> None:
        self.attacks, self.each, self.name = list(attacks), each, name
        require("AttackMixture.attacks", bool(self.attacks), "at least one", self.attacks)
        require("AttackMixture.each", each in get_args(Each), "'batch' or 'sample'", each)
        shares = [1 / len(attacks)] * len(attacks) if probabilities is None else list(probabilities)
        require(
            "AttackMixture.probabilities", len(shares) == len(attacks), f"{len(attacks)}, one for each attack", shares
        )
        right = all(share >= 0 for share in shares) and math.isclose(sum(shares), 1, abs_tol=1e-6)
        require("AttackMixture.probabilities", right, "numbers of at least 0 that sum to 1", shares)
        self.edges = list(accumulate(shares))[:-1]
        names = [draw for attack in attacks for draw in attack.draws((1,))] + [f"{name}.choice"]
        twice = sorted({draw for draw in names if names.count(draw) > 1})
        require("AttackMixture.attacks", not twice, "different names (give one of them another `name`)", twice)

    def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
        """Return the choice, and what all of the attacks draw."""
        choice = {f"{self.name}.choice": Draw((), "uniform", once=self.each == "batch")}
        return choice | {name: draw for attack in self.attacks for name, draw in attack.draws(shape).items()}

    def check_strength(self, most: float) -> None:
        """Refuse what one of the attacks refuses."""
        for attack in self.attacks:
            attack.check_strength(most)

    def __call__(self, loss: Loss, input: Tensor, drawn: Mapping[str, Tensor], strength: float | None = None) -> Tensor:
        """Return the input as the drawn attack changes it."""
        choice = drawn[f"{self.name}.choice"]
        chosen = torch.bucketize(choice, choice.new_tensor(self.edges), right=True)
        result = input.detach()
        for number in sorted(set(chosen.tolist())):
            changed = self.attacks[number](loss, input, drawn, strength)
            result = torch.where(per_sample(chosen == number, input), changed, result)
        return result

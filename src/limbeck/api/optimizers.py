"""The optimisers of a training that is described in Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from limbeck.errors import LimbeckError, RecipeError, in_a_line, require
from limbeck.recipe.catalogue import resolve
from limbeck.training.options import OptimizerFactory

GivenOptimizer = str | OptimizerFactory
IN_A_GAME = partial(torch.optim.Adam, betas=(0.0, 0.99))  # momentum would chase where the other has been


@dataclass(frozen=True)
class Optimizers:
    """What the user says of how players move.

    Attributes:
        lr: The learning rate of every player; None leaves each optimiser its own.
        one: The optimiser of every player: its class, its name, or what makes it of parameters; None for the usual.
        each: The optimisers of some players, likewise.
    """

    lr: float | None = None
    one: Any = None
    each: Mapping[str, Any] | None = None

    def of(self, players: Collection[str]) -> dict[str, OptimizerFactory]:
        """Return what makes the optimiser of each player: Adam with a usual rate where nothing is said.

        Raises:
            RecipeError: There is no such player, or it is no optimiser that could be made.
        """
        expected = f"optimisers by player, {', '.join(sorted(players))}; one for all is `optimizer`"
        each = self.each or {}
        require("distill: optimizers", isinstance(each, Mapping), expected, each)
        for name in each:
            require("distill: optimizers", name in players, f"players {', '.join(sorted(players))}", name)
        usual = IN_A_GAME if "discriminator" in players else torch.optim.Adam
        keys = {name: f"optimizers: {name}" if name in each else "optimizer" for name in players}
        return {name: self._of(key, each.get(name) or self.one or usual) for name, key in keys.items()}

    def _of(self, key: str, given: Any) -> OptimizerFactory:
        """Return what makes an optimiser with the rate, tried on a parameter."""
        if isinstance(given, str):
            try:
                given = resolve(Optimizer, given)
            except LimbeckError as error:
                raise RecipeError(f"distill: {key}: {error}") from error
        hint = "; give its class and its rate as lr, as a copy of your network is trained"
        expected = "the class of an optimiser, its name, or a function that makes it of parameters"
        require(f"distill: {key}", callable(given), expected, type(given).__name__, hint)
        if self.lr is not None:
            own = isinstance(given, partial) and "lr" in given.keywords
            require("distill: lr", not own, f"none, as {key} has one", self.lr)
            given = partial(given, lr=self.lr)
        try:
            made = given([Parameter(torch.zeros(2, 2))])
            made.step()
        except Exception as error:  # whatever the owner's function raises
            raise RecipeError(f"distill: {key}: cannot be made: {in_a_line(error)}") from error
        require(f"distill: {key}", isinstance(made, Optimizer), expected, type(made).__name__)
        factory: OptimizerFactory = given
        return factory


def described(factory: OptimizerFactory) -> dict[str, Any]:
    """Return what an optimiser is known by: its class, and all that it does with parameters."""
    optimizer = factory([Parameter(torch.zeros(2, 2))])
    (group,) = optimizer.param_groups
    kind = type(optimizer)
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}"} | {n: v for n, v in group.items() if n != "params"}

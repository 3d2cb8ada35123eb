"""The optimisers of players: what they train, and their state as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from limbeck.errors import RecipeError
from limbeck.training.options import OptimizerFactory


def optimizer_of(
    factory: OptimizerFactory, groups: Mapping[float, Sequence[Parameter]], weighing: Sequence[Parameter] = ()
) -> Optimizer:
    """Return the optimiser of a player.

    Args:
        factory: Makes it.
        groups: The player's parameters by the factor of their learning rate.
        weighing: What the weighting learns with this player: at the player's own rate, without weight decay.
    """
    if list(groups) == [1.0] and not weighing:
        return factory(groups[1.0])
    optimizer = factory([{"params": list(parameters)} for parameters in groups.values()])
    for group, factor in zip(optimizer.param_groups, groups, strict=True):
        group["lr"] *= factor
    if weighing:
        optimizer.add_param_group({"params": list(weighing), "weight_decay": 0.0})
    return optimizer


def refuse_untrained(parts: Sequence[nn.Module], players: Mapping[str, Sequence[Parameter]]) -> None:
    """Refuse a parameter that no player trains: it would keep its first value, and nobody would know.

    Args:
        parts: All that a training consists of.
        players: The parameters that each player trains.

    Raises:
        RecipeError: There is such a parameter.
    """
    trained = {id(parameter) for parameters in players.values() for parameter in parameters}
    for part in parts:
        for name, parameter in part.named_parameters():
            if parameter.requires_grad and id(parameter) not in trained:
                raise RecipeError(
                    f"{type(part).__name__}: expected every parameter to be trained by a player, found that none of"
                    f" {', '.join(players)} trains {name}; let its player own it, or freeze it"
                )


def refuse_idle(players: Mapping[str, Sequence[Parameter]]) -> None:
    """Refuse a player that has nothing to train.

    Args:
        players: The parameters that each player trains.

    Raises:
        RecipeError: There is such a player.
    """
    for name, parameters in players.items():
        if not parameters:
            raise RecipeError(
                f"{name}: expected parameters to train, found none, or none that requires a gradient; unfreeze some of"
                " the network (requires_grad_), or leave out its `training`"
            )


def state_of(optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimiser's state with the numbers of its parameters as text, as a checkpoint needs."""
    state = optimizer.state_dict()
    return {**state, "state": {str(number): values for number, values in state["state"].items()}}


def load_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Take up a state that `state_of` returned."""
    optimizer.load_state_dict({**state, "state": {int(number): values for number, values in state["state"].items()}})
    for group in optimizer.param_groups:
        for key, value in group.items():
            if isinstance(value, list) and key != "params":  # JSON has no tuples, and Adam's betas are one
                group[key] = tuple(value)
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:  # the memory format of the parameter
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

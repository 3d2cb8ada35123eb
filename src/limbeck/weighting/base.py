"""The contract of a weighting: how the named losses of one update become one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import Parameter

from limbeck.errors import RecipeError, nearest_or_all
from limbeck.weighting.schedule import Schedule


class Weighting(nn.Module, ABC):
    """Weighs losses by what the recipe says of them, and by what it learns.

    What it owns is in its `state_dict` and so in the checkpoint; what of that trains, it tells by `parameters_of`.

    Args:
        weights: Weights by "player.loss".
        defaults: Every loss that the method may yield with its default weight (`Method.losses`): a loss not named
            in `weights` takes it.

    Raises:
        RecipeError: A name in `weights` that is not in `defaults`, or a weight below 0.
    """

    room: ClassVar[str] = "weightings"

    def __init__(self, weights: Mapping[str, float | Schedule], defaults: Mapping[str, float]) -> None:
        super().__init__()
        for name in weights:
            if name not in defaults:
                raise RecipeError(f"{name}: no such loss{nearest_or_all(name, defaults)}")
        self._schedules: dict[str, Schedule] = {}
        for name, weight in {**defaults, **weights}.items():
            try:
                self._schedules[name] = weight if isinstance(weight, Schedule) else Schedule(weight)
            except RecipeError as error:
                raise RecipeError(f"{name}: {error}") from None

    def weight(self, loss: str, progress: float) -> float:
        """Return what the recipe weighs `loss` ("player.loss") with at `progress` in [0, 1]; at 0 it is not computed.

        Raises:
            RecipeError: The loss has neither a weight nor a default.
        """
        if loss not in self._schedules:
            raise RecipeError(f"{loss}: a loss without a weight; there are {', '.join(self._schedules)}")
        return self._schedules[loss].at(progress)

    def parameters_of(self, player: str) -> list[Parameter]:
        """Return those of its own parameters that train with `player`, at the player's rate, without weight decay."""
        return []

    @abstractmethod
    def combine(self, losses: Mapping[str, Tensor], progress: float, shared: Sequence[Parameter]) -> Tensor:
        """Return the scalar () to differentiate.

        Args:
            losses: Scalars by "player.loss": those of one player's update whose weight is not zero.
            progress: The part of the training that is done, in [0, 1].
            shared: The player's own parameters that train, for whoever balances gradients.
        """

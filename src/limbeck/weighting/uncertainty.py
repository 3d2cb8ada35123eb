"""Weights learned from the uncertainty of every loss (Kendall et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter, ParameterDict

from limbeck.errors import TrainingError
from limbeck.weighting.base import Weighting
from limbeck.weighting.schedule import Schedule


class Uncertainty(Weighting):
    """Divides every loss by the variance of what it measures, which is learned with the player that it trains.

    Kendall et al. 2018 (*Multi-task learning using uncertainty to weigh losses for scene geometry and semantics*,
    arXiv:1705.07115) take a loss L as the negative logarithm of a likelihood with an unknown scale σ. Maximising that
    gives L / (2σ²) + log σ for a squared error (eq. 7) and L / σ² + log σ for a cross-entropy (eq. 10), with
    s = log σ² as the parameter, so that nothing is divided by zero (section 3.2). The sum here is

        Σ w (exp(-s) L + s / 2)

    with one s for each loss, 0 at first, and w the weight of the recipe:

    * This is the paper's form for a cross-entropy. The one for a squared error is the same with L / 2 in place of L,
      which moves every s by log 2 and nothing else: a weighting need not know what kind of loss it weighs.
    * At first it equals `Scheduled`, and its gradient with respect to the networks too.
    * w counts the whole likelihood w times. Were it within, as exp(-s) w L + s / 2, then s would undo it: at the
      optimum the loss would count exp(-s) w = 1 / (2L), whatever the recipe says, and a ramp would be levelled out.
      As it is, s = log(2L) there, and the loss counts w / (2L): weights say how much balanced losses count.

    A loss that is switched off does not count, and its s stays.

    Args:
        weights: Weights by "player.loss".
        defaults: Every loss that the method may yield with its default weight (`Method.losses`).

    Raises:
        RecipeError: A name in `weights` that is not in `defaults`, or a weight below 0.
    """

    def __init__(self, weights: Mapping[str, float | Schedule], defaults: Mapping[str, float]) -> None:
        super().__init__(weights, defaults)
        self.log_variances = ParameterDict({_key(name): Parameter(torch.zeros(())) for name in defaults})

    def parameters_of(self, player: str) -> list[Parameter]:
        """Return the logarithms of the variances of this player's losses."""
        return [s for name, s in self.log_variances.items() if name.startswith(f"{player}:")]

    def combine(self, losses: Mapping[str, Tensor], progress: float, shared: Sequence[Parameter]) -> Tensor:
        """Return Σ w (exp(-s) L + s / 2).

        Raises:
            TrainingError: A loss is below 0: no likelihood has it, and its variance would shrink without end.
        """
        values = torch.stack(list(losses.values()))
        if (values < 0).any():
            name = next(name for name, loss in losses.items() if loss < 0)
            raise TrainingError(
                f"weighting: Uncertainty expects losses of at least 0, found {name} = {losses[name].item():.3g}; take"
                " Scheduled, or another form of this loss"
            )
        weights = values.new_tensor([self.weight(name, progress) for name in losses])
        s = torch.stack([self.log_variances[_key(name)] for name in losses])
        return (weights * (torch.exp(-s) * values + s / 2)).sum()


def _key(loss: str) -> str:
    """Return a name for the parameter of "player.loss": a module allows no dot in one."""
    return loss.replace(".", ":")

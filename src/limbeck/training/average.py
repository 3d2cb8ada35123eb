"""The exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.networks.handling.copying import copied


class Average:
    """Follows a network: average <- decay * average + (1 - decay) * weights, after every update.

    The decay rises as (1 + n) / (10 + n) until it reaches its value, so that early averages are not held back by
    the initial weights (n is the number of updates so far; the form of Tarvainen & Valpola 2017's implementation).
    Buffers with real values (batch-norm statistics) are averaged too; others, such as counters, are copied, and so
    are masks that hold -inf, whose mean with themselves would be NaN.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = [t.detach() for t in network.state_dict(keep_vars=True).values()]
        self._names = list(network.state_dict())
        self.values = [t.clone() for t in self._live]
        follows = [t.is_floating_point() and not bool(t.isinf().any()) for t in self._live]
        pairs = list(zip(self.values, self._live, strict=True))
        followed = [pair for pair, f in zip(pairs, follows, strict=True) if f]
        self._followed = [average for average, _ in followed], [live for _, live in followed]
        self._copied = [pair for pair, f in zip(pairs, follows, strict=True) if not f]

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Take in the weights after update number `count` (from 0)."""
        weight = 1 - min(self.decay, (1 + count) / (10 + count))
        if self._followed[0]:
            torch._foreach_lerp_(*self._followed, weight)  # one call: on a GPU each would be a kernel of its own
        for average, live in self._copied:
            average.copy_(live)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights, under the network's own names."""
        return dict(zip(self._names, self.values, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up the averaged weights of a checkpoint."""
        for name, value in zip(self._names, self.values, strict=True):
            value.copy_(state[name])


def averaged(network: nn.Module, average: Average | None) -> nn.Module:
    """Return a copy of `network` in evaluation mode, with the averaged weights where there is an average."""
    copy = copied(network)
    if average is not None:
        copy.load_state_dict(average.state_dict())
    return copy.eval()

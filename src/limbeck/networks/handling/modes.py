"""Running a network in evaluation mode in the middle of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Hold `network` in evaluation mode: no dropout, and batch norm uses its statistics and leaves them as they are.

    Afterwards each of its modules has its own mode again, as parts of a network may be frozen in evaluation mode.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

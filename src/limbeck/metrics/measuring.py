"""How a network is measured: in evaluation mode, without gradients, on inputs that begin with a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import DataError

Inputs = tuple[Any, ...]
"""The positional arguments of a network's forward; at least one is a tensor whose first axis is the batch."""


@contextmanager
def measuring(module: nn.Module) -> Iterator[None]:
    """Have `module` in evaluation mode, without gradients; every part's own mode is restored afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def first_tensor(inputs: Inputs) -> Tensor:
    """Return the first tensor of some inputs: it tells their device and how many samples there are.

    Raises:
        DataError: There is none.
    """
    for value in inputs:
        if isinstance(value, Tensor):
            return value
    raise DataError(f"inputs to measure: expected at least one tensor, found {[type(v).__name__ for v in inputs]}")

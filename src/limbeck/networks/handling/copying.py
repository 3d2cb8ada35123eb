"""Copies of networks, also of those that keep something which Python cannot copy."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from threading import Lock, RLock
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, in_a_line

M = TypeVar("M", bound=nn.Module)
LOCKS = {type(Lock()): Lock, type(RLock()): RLock}


def copied(network: M) -> M:
    """Return a copy of a network that shares nothing with it.

    Tensors of a computation that it keeps, such as `self.features = x` in `forward`, or the weight of an old
    `weight_norm`, come as values without their history; locks are new ones.

    Raises:
        RecipeError: It keeps something else that has no copy.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        for kept in _held(vars(module)):
            if isinstance(kept, Tensor) and not kept.is_leaf:
                memo[id(kept)] = kept.detach().clone()
            elif isinstance(kept, torch.Generator):
                memo[id(kept)] = kept.clone_state()
            elif type(kept) in LOCKS:
                memo[id(kept)] = LOCKS[type(kept)]()
    try:
        return deepcopy(network, memo)
    except Exception as error:  # whatever an object of its owner raises
        raise RecipeError(
            f"{type(network).__name__}: expected a network that can be copied, found that it keeps what cannot:"
            f" {in_a_line(error)}; keep it outside the network, or give its class a __deepcopy__"
        ) from error


def _held(value: Any) -> Iterator[Any]:
    """Yield what attributes hold, also in plain containers; modules are visited by themselves."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _held(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _held(each)
    elif not isinstance(value, nn.Module):
        yield value

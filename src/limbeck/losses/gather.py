"""Losses over the global batch: the samples of all processes, with a gradient that comes back to each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from limbeck.losses.tensors import same_shape


def gathered(tensor: Tensor) -> Tensor:
    """Return the samples of all processes (N, ...), in the order of the global batch, with gradient.

    The gradient of a process comes back from the losses of all of them, so that its mean over the processes is that
    of one process with the whole batch. One process gets `tensor` itself.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return tensor
    found: Tensor = _Gather.apply(tensor.contiguous())  # type: ignore[no-untyped-call]
    return found


class _Gather(torch.autograd.Function):
    """The samples of all processes. torch's own functions for it leave threads that hang or abort at the exit."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[own_part(len(total) // distributed.get_world_size())]


def processes() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def own_part(count: int) -> slice:
    """Return where the `count` samples of this process stand in what `gathered` returns."""
    rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
    return slice(rank * count, (rank + 1) * count)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask` is true, over the samples of all processes; 0 where there are none.

    A process has only its own part of the sum, so it is scaled such that the mean of what all of them return, by which
    the engine averages gradients, is the mean over the pixels of the global batch.

    Args:
        values: Any shape.
        mask: The same shape, bool.
    """
    same_shape(values, mask, "masked_mean")
    count = mask.sum().to(values.dtype)
    total = values.where(mask, 0).sum()  # what is not finite outside the mask stays outside
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        distributed.all_reduce(count)
        total = total * distributed.get_world_size()
    return total / count.clamp(min=1)

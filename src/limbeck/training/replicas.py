"""The devices on which a method trains: one, or several that each hold a copy of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter

if TYPE_CHECKING:  # it takes seconds to import, and a single device does without it
    from lightning_fabric import Fabric

M = TypeVar("M", bound=nn.Module)

PATIENCE = 3.0  # seconds
BUCKET = 32 * 2**20  # bytes of gradients that are averaged together: much at once, but not all of them twice


class Replicas(Protocol):
    """What the engine wants of the devices, of which this process has one.

    Every process calls the same methods in the same order, apart from `place`.

    Attributes:
        device: This process's device.
        rank: The number of this process, from 0.
        count: The number of processes.
    """

    device: torch.device
    rank: int
    count: int

    def place(self, module: M) -> M:
        """Return the module on this process's device."""

    def mean_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Give each parameter the mean of its gradients over processes; those without one stay without."""

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over processes; what is given may change."""

    def mean_values(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the mean of each number over processes."""

    def average_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Give each buffer with real values its mean over processes, such as batch-norm statistics."""

    def agree(self, asked: bool) -> bool:
        """Return whether any process was asked."""

    def wait(self) -> None:
        """Return once all processes have called this."""


class One:
    """A single device.

    Args:
        device: The device.
    """

    rank = 0
    count = 1

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)

    def place(self, module: M) -> M:
        """Return the module on the device."""
        return module.to(self.device)

    def mean_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Leave them."""

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the tensor."""
        return tensor

    def mean_values(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the numbers."""
        return dict(values)

    def average_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Leave them."""

    def agree(self, asked: bool) -> bool:
        """Return what was asked."""
        return asked

    def wait(self) -> None:
        """Return."""


class Copies:
    """A copy of the method on each device; gradients are averaged by an explicit all-reduce.

    So any order of players is right, and no network is wrapped (the way of StyleGAN3's loop).

    Args:
        fabric: The processes, already launched.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.device, self.rank, self.count = fabric.device, fabric.global_rank, fabric.world_size

    def place(self, module: M) -> M:
        """Return the module on this process's device."""
        return module.to(self.device)

    @torch.no_grad()
    def mean_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Give each parameter the mean of its gradients over processes; those without one stay without."""
        for bucket in buckets([p.grad for p in parameters if p.grad is not None], BUCKET):
            mean = self.mean(torch.cat([g.reshape(-1) for g in bucket]))
            for gradient, part in zip(bucket, torch.split(mean, [g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over processes; what is given may change."""
        with _patiently():
            mean = self.fabric.all_reduce(tensor, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    def mean_values(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the mean of each number over processes."""
        means = self.mean(torch.tensor(list(values.values()), device=self.device))
        return dict(zip(values, means.tolist(), strict=True))

    @torch.no_grad()
    def average_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Give each buffer with real values its mean over processes."""
        for buffer in buffers:
            if buffer.is_floating_point():
                buffer.copy_(self.mean(buffer.clone()))

    def agree(self, asked: bool) -> bool:
        """Return whether any process was asked."""
        return bool(self.mean(torch.tensor(float(asked), device=self.device)) > 0)

    def wait(self) -> None:
        """Return once all processes have called this."""
        with _patiently():
            self.fabric.barrier()


@contextmanager
def _patiently() -> Iterator[None]:
    """Wait a little before an error of the group goes on: the process that died of its own accord is to be heard first.

    The process that started all of them sees it, ends the others, and says who died.
    """
    try:
        yield
    except RuntimeError:
        time.sleep(PATIENCE)
        raise


def buckets(tensors: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Yield the tensors in order, in lists of at most `size` bytes; a larger tensor is alone in its list."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and held + tensor.nbytes > size:
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.nbytes
    if bucket:
        yield bucket

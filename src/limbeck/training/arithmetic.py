"""In which precision and in which memory layout the forward passes of a training compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from limbeck.methods.base import Method
from limbeck.training.options import Training
from limbeck.types import Batch

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Arithmetic:
    """How forward passes compute.

    Attributes:
        bf16: Whether autocast computes in bfloat16 what it may.
        channels_last: Whether images and weights of convolutions lie so in memory.
        forward_mode: Whether the method differentiates in forward mode: then attention is written out.
    """

    bf16: bool = False
    channels_last: bool = False
    forward_mode: bool = False

    @classmethod
    def of(cls, training: Training, method: Method) -> Arithmetic:
        """Return how a method's steps compute with these options; in forward mode there is no autocast."""
        forward = method.differentiates == "forward"
        return cls(training.precision == "bf16" and not forward, training.channels_last, forward)

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Compute so on a device.

        Leaving the context empties autocast's cache of cast weights, which an optimiser step has made stale.
        """
        attention = sdpa_kernel(SDPBackend.MATH) if self.forward_mode else nullcontext()  # fused kernels know no such
        with attention, torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            yield

    def network(self, module: M) -> M:
        """Return the module with its weights laid out so."""
        if self.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return module

    def batch(self, batch: Batch) -> Batch:
        """Return the batch with its images laid out so."""
        if self.channels_last:
            return batch.map(lambda t: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t)
        return batch

"""In which precision and in which memory layout the forward passes of a training compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from limbeck.ground.hardware import native_bf16
from limbeck.methods.base import Method
from limbeck.training.options import Training
from limbeck.types import Batch

M = TypeVar("M", bound=nn.Module)
AS_IT_IS = nullcontext()


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
    def of(cls, training: Training, method: Method, device: str) -> Arithmetic:
        """Return how a method's steps compute with these options on a kind of device, such as "cpu".

        In forward mode there is no autocast.
        """
        forward, fast = method.differentiates == "forward", training.precision == "auto"
        bf16 = training.precision == "bf16" or (fast and native_bf16(device))
        return cls(bf16 and not forward, training.channels_last or fast, forward)

    def running(self, device: str) -> AbstractContextManager[Any]:
        """Compute so on a kind of device, such as "cpu"; it is entered at every update of a step.

        Leaving the context empties autocast's cache of cast weights, which an optimiser step has made stale.
        """
        if self.forward_mode:
            return sdpa_kernel(SDPBackend.MATH)  # fused kernels know no such derivative
        return torch.autocast(device, torch.bfloat16) if self.bf16 else AS_IT_IS

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

"""The work of a network: the multiply-accumulates of one forward, and the operations that they leave out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from limbeck.metrics.measuring import Inputs, measuring

# Operations that only make, copy or rearrange tensors. Views and elementwise ones are known by their tags.
MOVES = re.compile(
    "_?(arange|cat|clone|constant_pad_nd|copy_?|embedding|empty|empty_strided|eye|flip|full|gather|index|index_select"
    "|lift_fresh|local_scalar_dense|new_empty|new_full|new_ones|new_zeros|ones|pixel_shuffle|pixel_unshuffle"
    "|reflection_pad.d|repeat|replication_pad.d|reshape_alias|resize_|roll|scalar_tensor|stack|to_copy"
    "|unsafe_index|unsafe_view|zeros)(_like)?"
)


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulate operations.

    Attributes:
        count: Their number, for the given inputs.
        uncounted: Operations that ran, do arithmetic beyond elementwise, and are not in `count`, such as
            "aten.native_batch_norm".
    """

    count: int
    uncounted: tuple[str, ...]


def macs(module: nn.Module, inputs: Inputs) -> Macs:
    """Return the multiply-accumulates of one forward: half of the FLOPs that torch's counter knows a formula for.

    The counter covers matrix products, convolutions and attention, without their biases. Attention is made to run
    as matrix products, so that the count is the same on every device.

    Args:
        module: The network.
        inputs: Its inputs; a batch of 1 by convention.
    """
    counter = FlopCounterMode(display=False)
    # The counter is the inner mode: what it passes on has been decomposed as far as it can be.
    with measuring(module), _plain_attention(), _Uncounted(counter) as rest, counter:
        module(*inputs)
    return Macs(counter.get_total_flops() // 2, tuple(sorted(rest.operations)))


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products: fused kernels differ by device, and the counter does not know all of them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Uncounted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operations that `counter` has no formula for and that do more than move or map elements."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter = counter
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        trivial = func.is_view or torch.Tag.pointwise in func.tags or MOVES.fullmatch(packet.__name__)
        if packet not in self.counter.flop_registry and not trivial:
            self.operations.add(str(packet))
        return func(*args, **(kwargs or {}))

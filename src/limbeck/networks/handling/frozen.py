"""A network that is used but never trained, moved or saved with its holder's state: a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn


class Frozen(nn.Module):
    """Holds `network` in evaluation mode, without gradients to its parameters.

    Gradients still flow through it to its input. It follows its holder to another device, but it is in neither
    the holder's parameters nor its `state_dict`: a teacher does not change, so a checkpoint need not carry it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._held = (network.eval().requires_grad_(False),)  # a tuple hides it from nn.Module's registry

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self._held[0]

    def forward(self, *inputs: Any, **keywords: Any) -> Tensor:
        """Call the network."""
        output: Tensor = self.network(*inputs, **keywords)
        return output

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

"""The contract of a weighting: how the named losses of one update become one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn


class Weighting(nn.Module, ABC):
    """Weighs losses. What it owns is in its `state_dict` and so in the checkpoint."""

    room: ClassVar[str] = "weightings"

    @abstractmethod
    def weight(self, loss: str, progress: float) -> float:
        """Return the weight of `loss` ("player.loss") at `progress` in [0, 1]; at 0 it is not even computed."""

    def combine(self, losses: Mapping[str, Tensor], progress: float) -> Tensor:
        """Return the scalar to differentiate, from the losses ("player.loss") whose weight is not zero."""
        return torch.stack([self.weight(name, progress) * loss for name, loss in losses.items()]).sum()

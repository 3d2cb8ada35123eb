"""Somebody else's restorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor, nn

from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.given.called_as.base import CalledAs


@final
class AsRestorer(CalledAs):
    """Degraded images in, restored ones out; see `roles.Restorer`.

    Args:
        image_range: (low, high) of the images that the module takes and makes.
        image_shape: (C, H, W) of one image of the data; a flat output is viewed so. Null for any.
        channels: Channels C of what it makes.
        inputs: Channels of what it takes, in `image_range` with the mask of holes; null for `channels`.
        scale: How many times higher and wider its output is.

    Raises:
        RecipeError: An argument cannot be used.
    """

    role = "restorer"

    def __init__(
        self,
        image_range: Sequence[float] = (-1.0, 1.0),
        image_shape: Sequence[int] | None = None,
        *,
        channels: int = 3,
        inputs: int | None = None,
        scale: int = 1,
    ) -> None:
        super().__init__(image_range, image_shape)
        self.channels, self.inputs, self.scale = channels, channels if inputs is None else inputs, scale
        check_sizes(self, channels=self.channels, inputs=self.inputs, scale=self.scale)

    def states(self) -> dict[str, Any]:
        """Return what every network states, and its `channels`, `inputs` and `scale`."""
        return {**super().states(), "channels": self.channels, "inputs": self.inputs, "scale": self.scale}

    def __call__(self, module: nn.Module, value: Tensor, label: Tensor | None) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, inputs, H, W) in [-1, 1]."""
        return self.to_ours(module, self.tensor(module, module(self.to_theirs(value))))

"""Somebody else's restorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.given.answers import Answer
from limbeck.networks.given.called_as.base import CalledAs, name_of


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

    def check_answer(self, module: nn.Module, answer: Answer) -> None:
        """Refuse images of another scale or of other channels than were said, or that are not in the module's range."""
        (height, width), made = answer.given.shape[2:], tuple(answer.made.shape[1:])
        expected = (self.channels, self.scale * height, self.scale * width)
        if made != expected:
            raise RecipeError(
                f"{name_of(module)}: expected images {expected} (C, H, W) of images {tuple(answer.given.shape[1:])},"
                f" as it has channels: {self.channels} and scale: {self.scale}, found {made}"
                f"{self._mended(made, height, width)}"
            )
        self.check_images(module, answer)

    def _mended(self, made: tuple[int, ...], height: int, width: int) -> str:
        """Return what to say of a module that makes images of this shape (C, H, W)."""
        channels, *size = made
        scale, rest = divmod(size[0], height)
        if rest or size != [scale * height, scale * width]:
            return "; a restorer's images are a whole number of times as large as what it is given"
        says = [f"channels: {channels}"] if channels != self.channels else []
        return f"; say {' and '.join([*says, *([f'scale: {scale}'] if scale != self.scale else [])])}"

    def __call__(self, module: nn.Module, value: Tensor, label: Tensor | None) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, inputs, H, W) in [-1, 1]."""
        return self.to_ours(module, self.tensor(module, module(self.to_theirs(value))))

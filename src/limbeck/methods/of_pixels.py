"""What the methods share whose student tells the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from limbeck.errors import require
from limbeck.methods.base import Method
from limbeck.networks.roles import channels_of
from limbeck.terms.base import Answers, blank
from limbeck.types import Batch


class OfPixels(Method):
    """Student and teacher see images and give logits (N, K, H, W); what is true of them are masks.

    Attributes:
        size: Height and width of the images that networks are shown to learn the shapes of their features.
    """

    answers: ClassVar[Answers] = "logits of pixels"
    needs: ClassVar[tuple[str, ...]] = ("image", "mask")
    size: tuple[int, int]

    def shown_at(self, size: int | tuple[int, int]) -> None:
        """Take note of the size, before the terms join.

        Args:
            size: Height and width; one number for squares.

        Raises:
            RecipeError: It is below 1.
        """
        self.size = (size, size) if isinstance(size, int) else size
        require(f"{type(self).__name__}.size", min(self.size) >= 1, "pixels of at least 1", size)

    def teacher_paths(self) -> Sequence[str]:
        """Return the teacher's logits and the features that are compared: it sees nothing but the images."""
        return ["", *self.taps("teacher")] if self.has("teacher") else []

    def truth(self, batch: Batch) -> Tensor:
        """Return the class of each pixel (N, H, W)."""
        return batch.need("mask", type(self).__name__)

    def example(self, network: nn.Module) -> Batch:
        """Return two images of that size."""
        return Batch(image=blank((channels_of(network, type(self).__name__), *self.size), network))

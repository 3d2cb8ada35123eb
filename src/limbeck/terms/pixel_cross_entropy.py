"""How far the student's classes of pixels are from the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.segmentation import pixel_cross_entropy
from limbeck.terms.base import Answers, Term
from limbeck.terms.scene import Scene


@final
class PixelCrossEntropy(Term):
    """Cross-entropy with the class of each pixel that is not void, in nats.

    Args:
        class_weights: How much the pixels of each class count, at least 0, so that rare ones are not lost; null for
            all alike.

    Raises:
        RecipeError: A weight is negative.
    """

    player: ClassVar[str | None] = None
    about: ClassVar[Sequence[Answers]] = ("logits of pixels",)
    couples = True
    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weighed = class_weights is None or min(class_weights, default=-1.0) >= 0
        require("PixelCrossEntropy.class_weights", weighed, "numbers of at least 0", class_weights)
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean over the pixels of the global batch."""
        assert scene.truth is not None
        return pixel_cross_entropy(scene.output(self.who), scene.truth, self.class_weights)

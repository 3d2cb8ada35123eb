"""The hard label: cross-entropy with the class of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.tensors import precise
from limbeck.terms.base import Answers, SampleTerm
from limbeck.terms.scene import Scene


@final
class CrossEntropy(SampleTerm):
    """Cross-entropy with the label, in nats.

    Args:
        label_smoothing: ε in [0, 1): the label is 1 - ε + ε/K for the true class and ε/K for the others (Szegedy et
            al. 2016, section 7).

    Raises:
        RecipeError: `label_smoothing` is out of its range.
    """

    player: ClassVar[str | None] = None
    about: ClassVar[Sequence[Answers]] = ("logits",)
    needs = ("label",)

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        require("CrossEntropy.label_smoothing", 0 <= label_smoothing < 1, "a number in [0, 1)", label_smoothing)
        self.label_smoothing = label_smoothing

    def each(self, scene: Scene) -> Tensor:
        """Return the cross-entropy of each image (N,)."""
        logits, label = precise(scene.output(self.who)), scene.batch.need("label", "CrossEntropy")
        return F.cross_entropy(logits, label, label_smoothing=self.label_smoothing, reduction="none")

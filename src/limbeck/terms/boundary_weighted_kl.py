"""How the student's logits follow the teacher's where one class ends and another begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from torch import Tensor

from limbeck.errors import require
from limbeck.losses.segmentation import boundary_weights, weighted_kl
from limbeck.terms.base import Answers, SampleTerm
from limbeck.terms.scene import Scene


@final
class BoundaryWeightedKl(SampleTerm):
    """T² KL(teacher ‖ student) of pixels, those near the border of two true classes counting more than others.

    The teacher's probabilities get no gradient: what attacks this (`Worst`) moves the student alone uphill.

    Args:
        temperature: T > 0.
        width: Pixels to either side of a border that count more, at least 1.
        gain: How much more, at least 0.

    Raises:
        RecipeError: An argument is out of its range.
    """

    about: ClassVar[Sequence[Answers]] = ("logits of pixels",)
    wants = ("teacher",)

    def __init__(self, temperature: float = 1.0, width: int = 2, gain: float = 4.0) -> None:
        super().__init__()
        require("BoundaryWeightedKl.temperature", temperature > 0, "a number above 0", temperature)
        require("BoundaryWeightedKl.width", width >= 1, "a whole number of at least 1", width)
        require("BoundaryWeightedKl.gain", gain >= 0, "a number of at least 0", gain)
        self.temperature, self.width, self.gain = temperature, width, gain

    def each(self, scene: Scene) -> Tensor:
        """Return the divergence of each image (N,)."""
        assert scene.truth is not None
        weight = boundary_weights(scene.truth, self.width, self.gain)
        return weighted_kl(scene.student_output, scene.teacher_output, weight, self.temperature)

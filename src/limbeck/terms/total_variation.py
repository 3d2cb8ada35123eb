"""How much neighbouring pixels of what a student makes differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from torch import Tensor

from limbeck.losses.style import total_variation
from limbeck.terms.base import Answers, SampleTerm
from limbeck.terms.scene import Scene


@final
class TotalVariation(SampleTerm):
    """mean|∂x| + mean|∂y| of the student's image, in [0, 4] (Johnson et al. 2016, arXiv:1603.08155, section 3.2)."""

    about: ClassVar[Sequence[Answers]] = ("images",)

    def each(self, scene: Scene) -> Tensor:
        """Return the total variation of each image (N,)."""
        return total_variation(scene.student_output)

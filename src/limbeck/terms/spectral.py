"""How far what a student makes is from an image in the frequency domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from torch import Tensor

from limbeck.losses.restoration import spectral
from limbeck.terms.base import Answers, SampleTerm
from limbeck.terms.goal import Goal, check_goal, goal_image, has_goal
from limbeck.terms.scene import Scene


@final
class Spectral(SampleTerm):
    """L1 distance of the Fourier transforms of the student's image and of another one, see `losses.restoration`.

    Cho et al. 2021 (arXiv:2108.05054), eq. 5, there to the target.

    Args:
        to: Whose image: the "teacher"'s on the same input, or the batch's "target" or "image".

    Raises:
        RecipeError: None of these.
    """

    about: ClassVar[Sequence[Answers]] = ("images",)

    def __init__(self, to: Goal = "teacher") -> None:
        super().__init__()
        self.goal = check_goal("Spectral", to)
        self.wants = ("teacher",) if to == "teacher" else ()

    def due(self, scene: Scene) -> bool:
        """Return whether there is an image to compare with."""
        return has_goal(scene, self.goal)

    def each(self, scene: Scene) -> Tensor:
        """Return the distance of each image (N,)."""
        return spectral(scene.student_output, goal_image(scene, self.goal))

"""How far what a student makes is from an image: the teacher's, or the one that it should have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, final

from torch import Tensor

from limbeck.errors import require
from limbeck.losses.features import DISTANCES
from limbeck.terms.base import Answers, SampleTerm
from limbeck.terms.goal import Goal, check_goal, goal_image, has_goal
from limbeck.terms.scene import Scene


@final
class OutputDistance(SampleTerm):
    """Distance of the student's image from another one (Aguinaldo et al. 2019, section 3, for the teacher's).

    It is in [0, 2] for images in [-1, 1] and "l1", in [0, 4] for "l2".

    Args:
        to: Whose image: the "teacher"'s on the same input, or the batch's "target" or "image".
        distance: "l1", "l2" or "charbonnier", the mean over an image.

    Raises:
        RecipeError: A word that is none of these.
    """

    about: ClassVar[Sequence[Answers]] = ("images",)

    def __init__(self, to: Goal = "teacher", distance: Literal["l1", "l2", "charbonnier"] = "l1") -> None:
        super().__init__()
        require("OutputDistance.distance", distance in DISTANCES, f"one of {', '.join(DISTANCES)}", distance)
        self.goal = check_goal("OutputDistance", to)
        self.distance = distance
        self.wants = ("teacher",) if to == "teacher" else ()

    def due(self, scene: Scene) -> bool:
        """Return whether there is an image to compare with."""
        return has_goal(scene, self.goal)

    def each(self, scene: Scene) -> Tensor:
        """Return the distance of each image (N,)."""
        return DISTANCES[self.distance](scene.student_output, goal_image(scene, self.goal))

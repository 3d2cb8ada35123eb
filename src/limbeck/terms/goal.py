"""The images that a student's are compared with."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from limbeck.errors import require
from limbeck.terms.scene import Scene

Goal = Literal["teacher", "target", "image"]


def goal_image(scene: Scene, to: Goal) -> Tensor:
    """Return the images (N, C, H, W) to compare with: the teacher's, or a field of the batch."""
    return scene.teacher_output if to == "teacher" else scene.batch.need(to, "a term that compares images with it")


def check_goal(term: str, to: Goal) -> Goal:
    """Return whose image a term compares with.

    Raises:
        RecipeError: It is none of these.
    """
    require(f"{term}.to", to in ("teacher", "target", "image"), "teacher, target or image", to)
    return to


def has_goal(scene: Scene, to: Goal) -> bool:
    """Return whether there are images to compare with: a teacher can be followed where nobody has the target."""
    return to == "teacher" or getattr(scene.batch, to) is not None

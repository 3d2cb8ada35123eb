"""The images that a student's are compared with."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from limbeck.terms.scene import Scene

Goal = Literal["teacher", "target", "image"]


def goal_image(scene: Scene, to: Goal) -> Tensor:
    """Return the images (N, C, H, W) to compare with: the teacher's, or a field of the batch."""
    return scene.teacher_output if to == "teacher" else scene.batch.need(to, "a term that compares images with it")

"""A segmenter that is attacked while it learns, with a teacher or without (Xu et al. 2021; Goldblum et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.attacks import objectives
from limbeck.attacks.base import Attack
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import Strength
from limbeck.errors import RecipeError, require
from limbeck.losses.gather import gathered
from limbeck.losses.segmentation import pixel_cross_entropy, pixel_rows
from limbeck.losses.tensors import kl_divergence, precise
from limbeck.methods.legacy import Legacy
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.modes import evaluating
from limbeck.networks.roles import channels_of
from limbeck.types import Batch, Draw, Update


@final
class AdversarialSegment(Legacy):
    """One player: x' is the image x as an attack changes it to make the mean cross-entropy of its pixels large.

    S and T are student and teacher. While the attack searches for x', the student is in evaluation mode.

    * `student.cross_entropy`: CE(S(x), y), of every pixel that is not void.
    * `student.robust`: CE(S(x'), y). Half of each is the paper's training (Xu et al. 2021, arXiv:2003.06555).
    * `student.follow`: KL(T(x) ‖ S(x')) of every pixel: attacked, the student is to say what the teacher says
      undisturbed (ARD, Goldblum et al. 2020, arXiv:1905.09747, eq. 3). Only with a teacher.

    Args:
        student: Takes images (N, C, H, W), gives logits (N, K, H, W), and states its `channels`.
        teacher: Another network with the same classes.
        size: Height and width of the training images; one number for squares.
        attack: What changes the images; null for `Pgd()`, ten steps within 16/255 (the literature's 8/255).
        strength: Replaces the attack's own radius in every step: fixed, scheduled, or steered by the student's losses
            on the true masks before and after the attack. To steer it, the student sees the clean images in every step.

    Raises:
        RecipeError: The student does not say which images it takes, or is its own teacher; while training, data
            without masks.
    """

    needs = ("image", "mask")
    weights: ClassVar[Mapping[str, float]] = {
        "student.cross_entropy": 0.5,
        "student.robust": 0.5,
        "student.follow": 0.5,
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        size: int | tuple[int, int],
        attack: Attack | None = None,
        strength: Strength | None = None,
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise RecipeError(f"adversarial_segment.size: expected pixels of at least 1, found {size}")
        if teacher is not None and teacher is student:
            raise RecipeError("adversarial_segment.teacher: expected another network than the student, found it")
        self.student, self.image_shape = student, (channels_of(student, "adversarial_segment"), height, width)
        self.teacher = None if teacher is None else Frozen(teacher)
        self.attack = Pgd() if attack is None else attack
        self.strength = strength

    def teacher_paths(self) -> list[str]:
        """Return the teacher's logits on the clean images."""
        return [] if self.teacher is None else [""]

    def draws(self) -> Mapping[str, Draw]:
        """Return what the attack draws."""
        return self.attack.draws(self.image_shape)

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student."""
        return {"student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        if batch.image is None or batch.mask is None:
            raise RecipeError("adversarial_segment: expected data with images and masks; choose a set with masks")
        shape = tuple(batch.image.shape[1:])
        require("adversarial_segment.size", shape == self.image_shape, f"the images' {shape}", self.image_shape)
        lesson = _Lesson(self, batch, batch.image, batch.mask, step)
        if self.strength is not None:
            clean, robust = (objectives.cross_entropy(z.detach(), lesson.mask) for z in (lesson.clean, lesson.hurt))
            self.strength.observe(gathered(clean).mean(), gathered(robust).mean())
        losses = {
            "cross_entropy": lambda: pixel_cross_entropy(lesson.clean, lesson.mask),
            "robust": lambda: pixel_cross_entropy(lesson.hurt, lesson.mask),
        }
        yield Update("student", losses | ({} if self.teacher is None else {"follow": lesson.follow}))


class _Lesson:
    """What the losses of one step share: each network sees each image once, when it is first asked for."""

    def __init__(self, method: AdversarialSegment, batch: Batch, image: Tensor, mask: Tensor, step: int) -> None:
        self.method, self.batch, self.image, self.mask, self.step = method, batch, image, mask, step

    @cached_property
    def clean(self) -> Tensor:
        """S(x), (N, K, H, W)."""
        logits: Tensor = self.method.student(self.image)
        return logits

    @cached_property
    def hurt(self) -> Tensor:
        """S(x'), (N, K, H, W)."""
        method = self.method
        strength = None if method.strength is None else method.strength.value(self.step)

        def goal(image: Tensor) -> Tensor:
            return objectives.cross_entropy(method.student(image), self.mask)

        with evaluating(method.student):
            attacked = method.attack(goal, self.image, self.batch.drawn, strength)
        logits: Tensor = method.student(attacked)
        return logits

    def follow(self) -> Tensor:
        """Return the mean over pixels of KL(T(x) ‖ S(x'))."""
        assert self.method.teacher is not None
        taught = self.batch.taught.get("")
        if taught is None:
            with torch.no_grad():
                taught = self.method.teacher(self.image)
        return kl_divergence(precise(pixel_rows(taught)), precise(pixel_rows(self.hurt))).mean()

"""Masks for images that nobody has labelled: the teacher's, or those that several views of an image agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.gather import masked_mean
from limbeck.losses.segmentation import pixel_cross_entropy
from limbeck.losses.tensors import precise
from limbeck.methods.legacy import Legacy
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.modes import evaluating
from limbeck.types import VOID, Batch, Loss, Update


@final
class PseudoLabel(Legacy):
    """One player: the student learns the masks there are, and for images that have none those it can get.

    An image without labels is one whose mask is void everywhere (see `PartlyLabelled`), so what an augmentation brings
    in from outside is taken for part of it: choose one that continues the image (`padding: reflection`). A pixel
    is learnt where the label is sure enough, and all its pixels count in the mean, so that few sure ones weigh little
    (Sohn et al. 2020, arXiv:2001.07685, eq. 4).

    * `student.cross_entropy`: cross-entropy with the true class of each pixel, in nats.
    * `student.pseudo`: cross-entropy with the teacher's class, where its probability is at least `threshold` (Lee
      2013; for segmentation Chen et al. 2020, arXiv:2005.10266). Only with a teacher.
    * `student.agreed`: cross-entropy with the student's own class, where all views of the image agree on it and its
      mean probability is at least `threshold`; the student is in evaluation mode meanwhile, and no teacher is needed.
      It only says something once the student knows something: let its weight begin later, `{weight: 1, from: 0.3}`.

    Args:
        student: Takes images (N, C, H, W) and gives logits (N, K, H, W), such as a `Segmenter`.
        teacher: Another network like the student, with the same classes.
        threshold: Least probability of a label that is learnt, in [0, 1).
        scales: Views of the image are itself, mirrored, and for each of these zooms (above 0) resized so.

    Raises:
        RecipeError: Arguments that are out of range; while training, data without masks.
    """

    needs = ("image", "mask")
    weights: ClassVar[Mapping[str, float]] = {
        "student.cross_entropy": 1.0,
        "student.pseudo": 1.0,
        "student.agreed": 0.0,
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        threshold: float = 0.9,
        scales: Sequence[float] = (0.75, 1.25),
    ) -> None:
        super().__init__()
        if not 0 <= threshold < 1:
            raise RecipeError(f"pseudo_label.threshold: expected a number in [0, 1), found {threshold}")
        if not all(scale > 0 for scale in scales):
            raise RecipeError(f"pseudo_label.scales: expected zooms above 0, found {list(scales)}")
        if teacher is not None and teacher is student:
            raise RecipeError("pseudo_label.teacher: expected another network than the student (a copy), found it")
        self.student, self.threshold, self.scales = student, threshold, list(scales)
        self.teacher = None if teacher is None else Frozen(teacher)

    def teacher_paths(self) -> list[str]:
        """Return the teacher's logits."""
        return [] if self.teacher is None else [""]

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student."""
        return {"student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        if batch.image is None or batch.mask is None:
            raise RecipeError("pseudo_label: expected data with images and masks, found none; choose a set with masks")
        lesson = _Lesson(self, batch, batch.image, batch.mask)
        losses: dict[str, Loss] = {"cross_entropy": lesson.cross_entropy, "agreed": lesson.agreed}
        yield Update("student", losses | ({} if self.teacher is None else {"pseudo": lesson.pseudo}))


class _Lesson:
    """What the losses of one step share: each network sees the images once, when it is first asked for."""

    def __init__(self, method: PseudoLabel, batch: Batch, image: Tensor, mask: Tensor) -> None:
        self.method, self.batch, self.image, self.mask = method, batch, image, mask
        self.unlabelled = (mask == VOID).flatten(1).all(1)[:, None, None].expand_as(mask)

    @cached_property
    def logits(self) -> Tensor:
        """The student's logits (N, K, H, W)."""
        found: Tensor = self.method.student(self.image)
        return found

    def cross_entropy(self) -> Tensor:
        """Return the mean cross-entropy with the true classes."""
        return pixel_cross_entropy(self.logits, self.mask)

    def pseudo(self) -> Tensor:
        """Return the cross-entropy with what the teacher is sure of."""
        assert self.method.teacher is not None
        taught = self.batch.taught.get("")
        if taught is None:
            with torch.no_grad():
                taught = self.method.teacher(self.image)
        sure, label = precise(taught).softmax(1).max(1)
        return self._learnt(label, sure >= self.method.threshold)

    def agreed(self) -> Tensor:
        """Return the cross-entropy with what all views agree on."""
        with torch.no_grad(), evaluating(self.method.student):
            views = torch.stack([self._seen(scale, flip) for scale, flip in self._views()])
        sure, label = views.mean(0).max(1)
        same = (views.argmax(2) == label).all(0)
        return self._learnt(label, same & (sure >= self.method.threshold))

    def _views(self) -> list[tuple[float, bool]]:
        return [
            (1.0, False),
            (1.0, True),
            *((scale, number % 2 == 0) for number, scale in enumerate(self.method.scales)),
        ]

    def _seen(self, scale: float, flip: bool) -> Tensor:
        """Return the class probabilities of one view, back at the image's place and size."""
        image = self.image.flip(3) if flip else self.image
        size = [max(1, round(side * scale)) for side in image.shape[2:]]
        view = image if scale == 1 else F.interpolate(image, size, mode="bilinear", antialias=True)
        found = F.interpolate(precise(self.method.student(view)), self.image.shape[2:], mode="bilinear").softmax(1)
        return found.flip(3) if flip else found

    def _learnt(self, label: Tensor, sure: Tensor) -> Tensor:
        """Return the cross-entropy with sure labels, 0 of others, averaged over all pixels without a true one."""
        values = F.cross_entropy(precise(self.logits), label, reduction="none")
        return masked_mean(values * sure, self.unlabelled)

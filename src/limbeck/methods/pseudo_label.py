"""Masks for images that nobody has labelled: the teacher's, or those that several views of an image agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

from torch import nn

from limbeck.methods.base import Default, Terms
from limbeck.methods.of_pixels import OfPixels
from limbeck.terms.pixel_cross_entropy import PixelCrossEntropy
from limbeck.terms.unlabelled import AgreedLabels, PseudoLabels
from limbeck.types import Batch, Update


@final
class PseudoLabel(OfPixels):
    """One player: the student learns the masks there are, and for images that have none those it can get.

    An image without labels is one whose mask is void everywhere (see `PartlyLabelled`), so what an augmentation brings
    in from outside is taken for part of it: choose one that continues the image (`padding: reflection`). By default:

    * `student.cross_entropy`: cross-entropy with the true class of each pixel (`PixelCrossEntropy`).
    * `student.pseudo`: cross-entropy with the teacher's class, where it is sure (`PseudoLabels`). Only with a teacher.
    * `student.agreed`: cross-entropy with the student's own class, where all views of the image agree
      (`AgreedLabels`), without any teacher; off unless weighed.

    Further terms are at hand, as in `Segment`: any loss of logits, features or relations, `BoundaryWeightedKl`.

    Args:
        student: Takes images (N, C, H, W) and gives logits (N, K, H, W), such as a `Segmenter`.
        teacher: Another network like the student, with the same classes.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        size: Height and width of the images that networks are shown to learn the shapes of their features, as in
            `Segment`.

    Raises:
        RecipeError: An argument is out of its range, or a term cannot work with these networks; while training, data
            without masks.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "student.cross_entropy": Default(PixelCrossEntropy),
        "student.pseudo": Default(PseudoLabels),
        "student.agreed": Default(AgreedLabels, 0.0),
    }
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "threshold": "student.pseudo: {class_path: PseudoLabels, init_args: {threshold: ...}},"
        " student.agreed: {class_path: AgreedLabels, init_args: {threshold: ...}}",
        "scales": "student.agreed: {class_path: AgreedLabels, init_args: {scales: [...]}}",
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        terms: Terms | None = None,
        size: int | tuple[int, int] = 64,
    ) -> None:
        super().__init__()
        self.shown_at(size)
        self.cast({"student": student}, {"teacher": teacher}, terms)

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        yield self.update_of("student", self.enter(batch, step))

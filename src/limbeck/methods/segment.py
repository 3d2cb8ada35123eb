"""Training of a network that tells the class of every pixel, alone or from a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.losses.tensors import precise
from limbeck.methods.base import Default, Terms
from limbeck.methods.of_pixels import OfPixels
from limbeck.networks.roles import Discriminator
from limbeck.terms.adversarial import Adversarial, RealFake
from limbeck.terms.boundary_weighted_kl import BoundaryWeightedKl
from limbeck.terms.penalties import GradientPenalty
from limbeck.terms.pixel_cross_entropy import PixelCrossEntropy
from limbeck.terms.scene import Scene
from limbeck.types import VOID, Batch, Update

_BOUNDARY = "student.boundary: {{class_path: BoundaryWeightedKl, init_args: {{{}: ...}}}}"


@final
class Segment(OfPixels):
    """One player, the student, and with a discriminator a second one (SKD, Liu et al. 2020, arXiv:1903.04197).

    Without a teacher this is plain training, and so its own control arm: what concerns a teacher is then left aside.
    Void pixels count in no term that needs their class. By default:

    * `student.cross_entropy`: cross-entropy with the class of each pixel (`PixelCrossEntropy`).
    * `student.boundary`: KL(teacher ‖ student), of pixels near the border of two classes more than of others
      (`BoundaryWeightedKl`); off unless weighed.
    * `discriminator.real_fake`, `discriminator.penalty`, `student.adversarial`: the holistic term of SKD (eq. 4 to 6),
      where there is a discriminator (`RealFake`, `GradientPenalty`, `Adversarial`). It sees an image with the class
      probabilities of its pixels: the teacher's are real, the student's are not. Without a teacher the true masks are
      real (Luc et al. 2016, arXiv:1611.08408), so that a control has a discriminator too. The game is "wasserstein";
      with another one there is no penalty unless the recipe gives it.

    What else the student follows of its teacher are further terms: any loss of logits, pixel by pixel, such as `terms:
    {student.logits: Kd}`, and any loss of features or relations; the head's path stands for the logits there. Also at
    hand for a segmenter are `PseudoLabels`, `AgreedLabels`, `R1`, and `Worst` around `BoundaryWeightedKl`.

    Args:
        student: Takes images (N, C, H, W) and gives logits (N, K, H, W), such as a `Segmenter`.
        discriminator: Scores of images with C + K channels, (N,) or (N, h, w), or None.
        teacher: Another network like the student, with the same classes.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        size: Height and width of the images that networks are shown to learn the shapes of their features, or one
            number for both: those of the training images where a term draws something of that shape (`Mgd`, `Worst`).

    Raises:
        RecipeError: An argument is out of its range, or a term cannot work with these networks; while training, data
            without masks.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "discriminator.real_fake": Default(partial(RealFake, "wasserstein")),
        "discriminator.penalty": Default(GradientPenalty),
        "student.cross_entropy": Default(PixelCrossEntropy),
        "student.boundary": Default(BoundaryWeightedKl, 0.0),
        "student.adversarial": Default(Adversarial, 0.1),
    }
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "logits": "student.logits: ...",
        "features": "student.features: ...",
        "relations": "student.relations: ...",
        "class_weights": "student.cross_entropy: {class_path: PixelCrossEntropy, init_args: {class_weights: [...]}}",
        "temperature": _BOUNDARY.format("temperature"),
        "boundary_width": _BOUNDARY.format("width"),
        "boundary_gain": _BOUNDARY.format("gain"),
        "loss": "discriminator.real_fake: {class_path: RealFake, init_args: {loss: ...}}",
        "penalty_weight": "discriminator.penalty: {class_path: GradientPenalty, init_args: {weight: ...}}",
    }

    def __init__(
        self,
        student: nn.Module,
        discriminator: Discriminator | None = None,
        teacher: nn.Module | None = None,
        *,
        terms: Terms | None = None,
        size: int | tuple[int, int] = 64,
    ) -> None:
        super().__init__()
        self.shown_at(size)
        given = dict(terms or {})
        games = [term.game for term in given.values() if isinstance(term, RealFake)]
        if any(game != "wasserstein" for game in games):
            given.setdefault("discriminator.penalty", None)  # only that game comes with one
        self.cast({"discriminator": discriminator, "student": student}, {"teacher": teacher}, given)

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update, if there is one, and the student's."""
        scene = self.enter(batch, step, self.of_players)
        for player in self.of_players:
            yield self.update_of(player, scene)

    def fake(self, scene: Scene) -> Tensor:
        """Return the image with the student's class probabilities (N, C + K, H, W)."""
        return torch.cat([scene.batch.need("image", "Segment"), precise(scene.student_output).softmax(1)], 1)

    def real(self, scene: Scene) -> Tensor:
        """Return the image with the teacher's class probabilities, or with the true classes.

        Where nobody knows the true class, it is the student's own probabilities.
        """
        image = scene.batch.need("image", "Segment")
        if self.has("teacher"):
            return torch.cat([image, precise(scene.teacher_output).softmax(1)], 1)
        fake, label = scene.fake[:, image.shape[1] :].detach(), self.truth(scene.batch)
        void = label == VOID
        true = F.one_hot(label.where(~void, 0), fake.shape[1]).movedim(3, 1).to(fake)
        return torch.cat([image, fake.where(void[:, None], true)], 1)

    def judge(self, critic: nn.Module, batch: Batch, image: Tensor) -> Tensor:
        """Return one score a sample (N,): the mean over patches."""
        score: Tensor = critic(image)
        return score if score.ndim == 1 else score.flatten(1).mean(1)

"""Training of a network that tells the class of every pixel, alone or from a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.losses import gan
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.losses.gather import masked_mean
from limbeck.losses.segmentation import boundary_weights, pixel_cross_entropy, pixel_rows, weighted_kl
from limbeck.losses.tensors import precise
from limbeck.methods.followed import Followed, FollowedLesson
from limbeck.methods.legacy import Legacy
from limbeck.networks.handling.adapters import feature_shapes
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.roles import Discriminator, channels_of
from limbeck.types import VOID, Batch, Draw, Loss, Update

EPSILON = "segment.epsilon"


@final
class Segment(Legacy):
    """One player, the student, and with a discriminator a second one (SKD, Liu et al. 2020, arXiv:1903.04197).

    Without a teacher this is plain training, and so its own control arm: what concerns a teacher is then left aside.
    S and T are the logits of student and teacher, (N, K, H, W). Void pixels count in no loss that needs their class.

    * `student.cross_entropy`: cross-entropy with the class of each pixel, in nats.
    * `student.logits`: how the logits of a pixel follow the teacher's: any loss that classifiers know. The survey's
      α CE + (1 - α) KL is `logits: Kd` with these two as weights.
    * `student.boundary`: KL(T ‖ S), of pixels near the border of two classes more than of others.
    * `student.features`, `student.relations`: how features follow the teacher's. The head's path stands for the logits.
    * `discriminator.real_fake`, `discriminator.penalty`, `student.adversarial`: the holistic term of SKD (eq. 4 to 6).
      The discriminator sees an image with the class probabilities of its pixels: the teacher's are real, the student's
      are not. Without a teacher the true masks are real (Luc et al. 2016, arXiv:1611.08408), so that a control has a
      discriminator too. With "wasserstein" there is a gradient penalty.

    Args:
        student: Takes images (N, C, H, W) and gives logits (N, K, H, W), such as a `Segmenter`.
        discriminator: Scores of images with C + K channels, (N,) or (N, h, w), or None.
        teacher: Another network like the student, with the same classes.
        logits: How the logits of a pixel follow the teacher's.
        class_weights: How much the pixels of each class count in `student.cross_entropy`, at least 0, so that rare ones
            are not lost; null for all alike.
        temperature: T > 0 of `student.boundary`.
        boundary_width: Pixels to either side of a border that count more.
        boundary_gain: How much more, at least 0.
        features: How features follow the teacher's; both networks must state their `channels`.
        relations: The same again, so that two kinds of knowledge can be weighted apart.
        loss: The GAN's loss.
        penalty_weight: λ of the gradient penalty, at least 0.
        size: Height and width of the images that networks are shown to learn the shapes of their features, or one
            number for both: those of the training images where a feature loss draws something of that shape (`Mgd`).

    Raises:
        RecipeError: Arguments that are out of range, or networks that do not fit; while training, data without masks.
    """

    needs = ("image", "mask")
    weights: ClassVar[Mapping[str, float]] = {
        "discriminator.real_fake": 1.0,
        "discriminator.penalty": 1.0,
        "student.cross_entropy": 1.0,
        "student.logits": 1.0,
        "student.boundary": 0.0,
        "student.features": 1.0,
        "student.relations": 1.0,
        "student.adversarial": 0.1,
    }

    def __init__(
        self,
        student: nn.Module,
        discriminator: Discriminator | None = None,
        teacher: nn.Module | None = None,
        *,
        logits: LogitLoss | None = None,
        class_weights: Sequence[float] | None = None,
        temperature: float = 1.0,
        boundary_width: int = 2,
        boundary_gain: float = 4.0,
        features: FeatureLoss | None = None,
        relations: FeatureLoss | None = None,
        loss: Literal["logistic", "hinge", "wasserstein"] = "wasserstein",
        penalty_weight: float = 10.0,
        size: int | tuple[int, int] = 64,
    ) -> None:
        super().__init__()
        shown = (size, size) if isinstance(size, int) else size
        require("segment.size", min(shown) >= 1, "pixels of at least 1", size)
        require("segment.teacher", teacher is not student or teacher is None, "another network (a copy)", "the student")
        weighed = class_weights is None or min(class_weights, default=-1.0) >= 0
        require("segment.class_weights", weighed, "numbers of at least 0", class_weights)
        require("segment.temperature", temperature > 0, "a number above 0", temperature)
        require("segment.boundary_width", boundary_width >= 1, "a whole number of at least 1", boundary_width)
        require("segment.boundary_gain", boundary_gain >= 0, "a number of at least 0", boundary_gain)
        require("segment.loss", loss in gan.LOSSES, f"one of {', '.join(gan.LOSSES)}", loss)
        require("segment.penalty_weight", penalty_weight >= 0, "a number of at least 0", penalty_weight)
        self.student, self.discriminator = student, discriminator
        self.teacher = None if teacher is None else Frozen(teacher)
        self.logits, self.temperature = logits, temperature
        self.class_weights: Tensor | None
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.boundary_width, self.boundary_gain = boundary_width, boundary_gain
        self.loss, self.penalty_weight = loss, penalty_weight
        self.penalized = discriminator is not None and loss == "wasserstein" and penalty_weight > 0
        self.differentiates = "twice" if self.penalized else "once"
        self.followed = Followed({"features": features, "relations": relations} if teacher is not None else {})
        self.followed.fit_to(lambda taught, paths: _shapes(teacher if taught else student, paths, shown))

    def teacher_paths(self) -> list[str]:
        """Return the teacher's logits and the features that are compared."""
        return [] if self.teacher is None else ["", *self.followed.paths()[1]]

    def draws(self) -> Mapping[str, Draw]:
        """Return what the feature losses draw, and where between real and fake the gradient penalty looks."""
        return {**self.followed.draws(), **({EPSILON: Draw((), "uniform")} if self.penalized else {})}

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student together with what its feature losses own, and the discriminator, if there is one."""
        judge = {} if self.discriminator is None else {"discriminator": self.discriminator}
        return {**judge, "student": self.followed.beside(self.student)}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update, if there is one, and the student's."""
        if batch.image is None or batch.mask is None:
            raise RecipeError("segment: expected data with images and masks, found none; choose a set with masks")
        lesson = _Lesson(self, batch, batch.image, batch.mask)
        if self.discriminator is not None:
            judged: dict[str, Loss] = {"real_fake": lesson.real_fake}
            yield Update("discriminator", judged | ({"penalty": lesson.penalty} if self.penalized else {}))
        losses: dict[str, Loss] = {"cross_entropy": lesson.cross_entropy}
        if self.teacher is not None:
            losses |= {"boundary": lesson.boundary} | ({"logits": lesson.logits} if self.logits is not None else {})
        for name, loss in self.followed.losses().items():
            losses[name] = partial(lesson.features, name, loss)
        if self.discriminator is not None:
            losses["adversarial"] = lesson.adversarial
        yield Update("student", losses)


class _Lesson(FollowedLesson):
    """The losses of one step."""

    def __init__(self, method: Segment, batch: Batch, image: Tensor, mask: Tensor) -> None:
        super().__init__((method.student, method.teacher), method.followed, batch, image, mask)
        self.method = method

    def cross_entropy(self) -> Tensor:
        """Return the mean cross-entropy with the class of each pixel."""
        return pixel_cross_entropy(self.student[0], self.label, self.method.class_weights)

    def logits(self) -> Tensor:
        """Return the mean of the logit loss over pixels, without void ones if it needs their class."""
        loss = self.method.logits
        assert loss is not None
        label = self.label.flatten()
        known = label != VOID
        rows = (pixel_rows(self.student[0]), pixel_rows(self.teacher[0]), label.where(known, 0))
        value: Tensor = loss(*rows)
        return masked_mean(value, known) if loss.needs_label and value.ndim else value.mean()

    def boundary(self) -> Tensor:
        """Return the divergence from the teacher, weighted by how near a border is."""
        weight = boundary_weights(self.label, self.method.boundary_width, self.method.boundary_gain)
        return weighted_kl(self.student[0], self.teacher[0], weight, self.method.temperature).mean()

    @cached_property
    def fake(self) -> Tensor:
        """The image with the student's class probabilities (N, C + K, H, W)."""
        return torch.cat([self.image, precise(self.student[0]).softmax(1)], 1)

    @cached_property
    def real(self) -> Tensor:
        """The image with the teacher's class probabilities, or with the true classes: there the student's are void."""
        if self.method.teacher is not None:
            return torch.cat([self.image, precise(self.teacher[0]).softmax(1)], 1)
        fake = self.fake[:, self.image.shape[1] :].detach()
        void = self.label == VOID
        true = F.one_hot(self.label.where(~void, 0), fake.shape[1]).movedim(3, 1).to(fake)
        return torch.cat([self.image, fake.where(void[:, None], true)], 1)

    def real_fake(self) -> Tensor:
        """Return the discriminator's loss."""
        return gan.LOSSES[self.method.loss][0](self._score(self.real), self._score(self.fake.detach()))

    def penalty(self) -> Tensor:
        """Return λ times the gradient penalty."""
        drawn = self.batch.drawn[EPSILON]
        return self.method.penalty_weight * gan.gradient_penalty(self._score, self.real, self.fake.detach(), drawn)

    def adversarial(self) -> Tensor:
        """Return the student's loss against the discriminator."""
        return gan.LOSSES[self.method.loss][1](self._score(self.fake))

    def _score(self, shown: Tensor) -> Tensor:
        """Return one score a sample (N,): the mean over patches."""
        assert self.method.discriminator is not None
        score: Tensor = self.method.discriminator(shown)
        return score if score.ndim == 1 else score.flatten(1).mean(1)


def _shapes(network: nn.Module | None, paths: list[str], size: tuple[int, int]) -> list[tuple[int, ...]]:
    assert network is not None
    weight = next(network.parameters(), torch.empty(0))
    return feature_shapes(network, paths, weight.new_zeros(2, channels_of(network, "segment.features"), *size))

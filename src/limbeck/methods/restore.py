"""Training of a network that restores images, or turns them into others, alone or from a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.losses import gan
from limbeck.losses.base import FeatureLoss
from limbeck.losses.features import DISTANCES
from limbeck.losses.restoration import DISTRIBUTIONS, spectral
from limbeck.methods.legacy import Legacy
from limbeck.methods.perceptual import perceptual
from limbeck.networks.given.external import External
from limbeck.networks.handling.adapters import feature_shapes
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.tap import Tap
from limbeck.networks.roles import Discriminator, ProbabilisticRestorer, stated, unwrap
from limbeck.types import Batch, Draw, Loss, Update

UNLABELLED = "; of images that nobody has whole, write `teacher: {load: ...}`, a trained one, and `control: false`"
SIDE = 16  # height and width of the image that networks are shown to learn the shapes of their features


@final
class Restore(Legacy):
    """One player, the student, and with a discriminator a second one (SRGAN, Ledig et al. 2017; pix2pix, Isola 2017).

    Without a teacher this is plain training, and so its own control arm: what concerns a teacher is then left aside.
    x is the degraded image, y the whole one, S and T student and teacher. The survey's α (hard term) and 1 - α (soft
    label) are the weights of `student.reconstruction` and `student.output`, or of `student.likelihood` and
    `student.soft_label`.

    * `student.reconstruction`: distance of S(x) from y. Only where there is a y: a teacher can also be followed on
      images that nobody has whole.
    * `student.likelihood`: -log p_S(y | x) a value, of a `ProbabilisticRestorer`, under `distribution`.
    * `student.perceptual`: L1 distance of the features that `feature_network` has of S(x) and y.
    * `student.adversarial`, `discriminator.real_fake`: the GAN losses of S(x) against y.
    * `student.output`: distance of S(x) from T(x).
    * `student.spectral`: L1 distance of the Fourier transforms of S(x) and T(x).
    * `student.soft_label`: KL(p_T(y | x) ‖ p_S(y | x)) a value, of two such networks: how sure the teacher is of every
      pixel is part of what it teaches.
    * `student.features`: how features follow the teacher's.
    * `student.output_perceptual`: as `perceptual`, of S(x) and T(x).
    * `student.critic_feature`: L1 distance of the features that the teacher's discriminator has of S(x) and T(x).

    Args:
        student: Takes images (N, C, H, W) and gives images (N, C', sH, sW), such as a `Restorer`, or an `Import` with
            the role "restorer".
        discriminator: Scores of images, (N,) or (N, h, w), or None.
        teacher: Another network like the student.
        teacher_discriminator: The teacher's own discriminator.
        distance: Distance of images: "l1", "l2" or "charbonnier".
        distribution: What `likelihood` and `soft_label` are about: "laplace" or "gaussian".
        features: How features follow the teacher's; both networks must state their number of `inputs`.
        feature_network: A trained network for the perceptual losses, which takes images.
        perceptual_paths: Module paths of it.
        critic_features: Module paths of the teacher's discriminator.
        loss: The GAN's loss.
        conditional: The discriminator sees x too, before S(x) or y as further channels (Isola et al. 2017, eq. 1); x
            and y are then of one size. A `PatchDiscriminator` has to be told by its `condition`.

    Raises:
        RecipeError: Arguments that are out of range or exclude each other, or networks that do not fit.
    """

    weights: ClassVar[Mapping[str, float]] = {
        "discriminator.real_fake": 1.0,
        "student.reconstruction": 1.0,
        "student.likelihood": 0.0,
        "student.perceptual": 1.0,
        "student.adversarial": 1.0,
        "student.output": 1.0,
        "student.spectral": 0.0,
        "student.soft_label": 0.0,
        "student.features": 1.0,
        "student.output_perceptual": 1.0,
        "student.critic_feature": 1.0,
    }

    def __init__(
        self,
        student: nn.Module,
        discriminator: Discriminator | None = None,
        teacher: nn.Module | None = None,
        teacher_discriminator: Discriminator | None = None,
        *,
        distance: Literal["l1", "l2", "charbonnier"] = "l1",
        distribution: Literal["laplace", "gaussian"] = "laplace",
        features: FeatureLoss | None = None,
        feature_network: nn.Module | None = None,
        perceptual_paths: Sequence[str] = (),
        critic_features: Sequence[str] = (),
        loss: Literal["logistic", "hinge", "wasserstein"] = "logistic",
        conditional: bool = False,
    ) -> None:
        super().__init__()
        require("restore.distance", distance in DISTANCES, f"one of {', '.join(DISTANCES)}", distance)
        require(
            "restore.distribution", distribution in DISTRIBUTIONS, f"one of {', '.join(DISTRIBUTIONS)}", distribution
        )
        require("restore.loss", loss in gan.LOSSES, f"one of {', '.join(gan.LOSSES)}", loss)
        require("restore.teacher", teacher is not student or teacher is None, "another network (a copy)", "the student")
        for key, network in (("student", student), ("teacher", teacher)):
            role = network.role if isinstance(network, External) else "restorer"
            require(f"restore.{key}", role == "restorer", "a network that takes images: role: restorer", role)
        paired = (feature_network is None) == (not perceptual_paths)
        require(
            "restore.perceptual_paths",
            paired,
            "paths if and only if there is a feature_network",
            list(perceptual_paths),
        )
        unread = teacher is not None and bool(critic_features) and teacher_discriminator is None
        require("restore.teacher_discriminator", not unread, "one to read critic_features from", None)
        for network, paths in ((teacher_discriminator, critic_features), (feature_network, perceptual_paths)):
            if network is not None:
                Tap(network, paths)  # names a wrong path before anything is trained
        for key, critic in (("discriminator", discriminator), ("teacher_discriminator", teacher_discriminator)):
            _check_condition(f"restore.{key}", critic, student, conditional)
        self.student, self.discriminator = student, discriminator
        self.teacher = None if teacher is None else Frozen(teacher)
        self.teacher_discriminator = None if teacher_discriminator is None else Frozen(teacher_discriminator)
        self.feature_network = None if feature_network is None else Frozen(feature_network)
        self.distance, self.distribution = distance, distribution
        self.features = None if teacher is None else features
        self.perceptual_paths, self.critic_features = list(perceptual_paths), list(critic_features)
        self.loss, self.conditional = loss, conditional
        if self.features is not None and teacher is not None:
            pairs = self.features.paths
            self.features.fit_to(_shapes(student, list(pairs)), _shapes(teacher, list(pairs.values())))

    def draws(self) -> Mapping[str, Draw]:
        """Return what the feature loss draws."""
        return {} if self.features is None else self.features.draws()

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student together with what its feature loss owns, and the discriminator, if there is one."""
        owned = self.features if self.features is not None and any(True for _ in self.features.parameters()) else None
        student = self.student if owned is None else nn.ModuleList([self.student, owned])
        return {**({} if self.discriminator is None else {"discriminator": self.discriminator}), "student": student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update, if there is one, and the student's."""
        require("restore.data", batch.image is not None, "batches with images", None)
        lesson = _Lesson(self, batch)
        if self.discriminator is not None:
            require("restore.data", batch.target is not None, "whole images for a discriminator", None)
            yield Update("discriminator", {"real_fake": lesson.real_fake})
        losses: dict[str, Loss] = {}
        if batch.target is not None:
            losses |= {"reconstruction": lesson.reconstruction, "likelihood": lesson.likelihood}
            if self.feature_network is not None:
                losses["perceptual"] = lambda: lesson.seen(lesson.goal)
        if self.discriminator is not None:
            losses["adversarial"] = lesson.adversarial
        if self.teacher is not None:
            losses |= self._followed(lesson)
        require("restore.data", bool(losses), "whole images beside the degraded ones, or a teacher", None, UNLABELLED)
        yield Update("student", losses)

    def _followed(self, lesson: _Lesson) -> dict[str, Loss]:
        losses: dict[str, Loss] = {
            "output": lambda: DISTANCES[self.distance](lesson.mine.image, lesson.taught.image).mean(),
            "spectral": lambda: spectral(lesson.mine.image, lesson.taught.image).mean(),
            "soft_label": lesson.soft_label,
        }
        if self.features is not None:
            losses["features"] = lesson.features
        if self.feature_network is not None:
            losses["output_perceptual"] = lambda: lesson.seen(lesson.taught.image)
        if self.teacher_discriminator is not None and self.critic_features:
            losses["critic_feature"] = lesson.critic_feature
        return losses


class _Restored(NamedTuple):
    image: Tensor
    log_scale: Tensor | None
    features: dict[str, Tensor]


class _Lesson:
    """What the losses of one step share, each computed when it is first asked for."""

    def __init__(self, method: Restore, batch: Batch) -> None:
        assert batch.image is not None
        self.method, self.batch, self.degraded = method, batch, batch.image
        self.paths = {} if method.features is None else method.features.paths

    @property
    def goal(self) -> Tensor:
        """The whole images."""
        assert self.batch.target is not None
        return self.batch.target

    @cached_property
    def mine(self) -> _Restored:
        """What the student makes of the degraded images."""
        return _run(self.method.student, self.degraded, list(self.paths))

    @cached_property
    def taught(self) -> _Restored:
        """What the teacher makes of them."""
        assert self.method.teacher is not None
        with torch.no_grad():
            return _run(self.method.teacher.network, self.degraded, list(self.paths.values()))

    def reconstruction(self) -> Tensor:
        """Return the distance from the whole images."""
        return DISTANCES[self.method.distance](self.mine.image, self.goal).mean()

    def likelihood(self) -> Tensor:
        """Return the negative log-likelihood of the whole images, by value."""
        nll, _ = DISTRIBUTIONS[self.method.distribution]
        return nll(self.goal, self.mine.image, _sure(self.mine, "student")).mean()

    def soft_label(self) -> Tensor:
        """Return the divergence of the student's distribution from the teacher's, by value."""
        _, kl = DISTRIBUTIONS[self.method.distribution]
        taught, mine = _sure(self.taught, "teacher"), _sure(self.mine, "student")
        return kl(self.taught.image, taught, self.mine.image, mine).mean()

    def features(self) -> Tensor:
        """Return the value of the feature loss."""
        assert self.method.features is not None
        mine = [self.mine.features[path] for path in self.paths]
        goal = [self.taught.features[path] for path in self.paths.values()]
        value: Tensor = self.method.features(mine, goal, self.batch.label, self.batch.index, self.batch.drawn)
        return value

    def real_fake(self) -> Tensor:
        """Return the discriminator's loss."""
        tell_apart = gan.LOSSES[self.method.loss][0]
        return tell_apart(self._score(self.goal), self._score(self.mine.image.detach()))

    def adversarial(self) -> Tensor:
        """Return the student's loss against the discriminator."""
        _, deceive = gan.LOSSES[self.method.loss]
        return deceive(self._score(self.mine.image))

    def seen(self, goal: Tensor) -> Tensor:
        """Return how far the student's images are from others in the features of the feature network."""
        assert self.method.feature_network is not None
        return perceptual(self.method.feature_network.network, self.method.perceptual_paths, self.mine.image, goal)

    def critic_feature(self) -> Tensor:
        """Return how far student's and teacher's images are apart in the features of the teacher's discriminator."""
        assert self.method.teacher_discriminator is not None
        critic, paths = self.method.teacher_discriminator.network, self.method.critic_features
        return perceptual(critic, paths, self._shown(self.mine.image), self._shown(self.taught.image))

    def _score(self, image: Tensor) -> Tensor:
        assert self.method.discriminator is not None
        score: Tensor = self.method.discriminator(self._shown(image))
        return score.flatten()

    def _shown(self, image: Tensor) -> Tensor:
        """Return what a discriminator sees of an image."""
        if not self.method.conditional:
            return image
        mine, whole = tuple(self.degraded.shape[2:]), tuple(image.shape[2:])
        require("restore.conditional", mine == whole, f"degraded images of {whole} pixels, as the whole ones", mine)
        return torch.cat([self.degraded, image], 1)


def _check_condition(key: str, critic: nn.Module | None, student: nn.Module, conditional: bool) -> None:
    """Refuse a discriminator that says how many channels of x it is shown where it is shown others.

    Raises:
        RecipeError: They do not fit.
    """
    if critic is None or not hasattr(unwrap(critic), "condition"):
        return
    found, inputs = getattr(unwrap(critic), "condition", None), stated(student, "inputs")
    fits = found is not None and inputs in (None, found) if conditional else found is None
    wanted = (inputs or "the channels of the degraded image") if conditional else "null"
    require(key, fits, f"condition: {wanted}, as conditional is {str(conditional).lower()}", found)


def _run(network: nn.Module, image: Tensor, paths: list[str]) -> _Restored:
    inner = unwrap(network)
    with Tap(network, paths) as tap:
        if isinstance(inner, ProbabilisticRestorer):
            restored, log_scale = inner.distribution(image)
        else:
            restored, log_scale = network(image), None
    return _Restored(restored, log_scale, {path: tap[path] for path in paths})


def _sure(found: _Restored, who: str) -> Tensor:
    if found.log_scale is None:
        raise RecipeError(
            f"restore.{who}: expected a network that gives a distribution, such as UncertainRestorer, for"
            " student.likelihood and student.soft_label; or set their weights to 0"
        )
    return found.log_scale


def _shapes(network: nn.Module, paths: list[str]) -> list[tuple[int, ...]]:
    inputs: int | None = stated(network, "inputs")
    if inputs is None:
        raise RecipeError(
            f"restore.features: expected {type(network).__name__} to state its channels as `inputs`, found none"
        )
    weight = next(network.parameters(), torch.empty(0))
    return feature_shapes(network, paths, weight.new_zeros(2, inputs, SIDE, SIDE))

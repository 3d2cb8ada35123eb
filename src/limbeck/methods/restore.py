"""Training of a network that restores images, or turns them into others, alone or from a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.methods.base import Default, Method, Terms
from limbeck.networks.given.external import External
from limbeck.networks.roles import stated, unwrap
from limbeck.terms.adversarial import Adversarial, RealFake
from limbeck.terms.base import blank
from limbeck.terms.distribution import Likelihood, RestorerScene, SoftDistribution
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.scene import Scene
from limbeck.terms.spectral import Spectral
from limbeck.types import Batch, Update

UNLABELLED = "; of images that nobody has whole, write `teacher: {load: ...}`, a trained one, and `control: false`"
PERCEPTUAL = (
    "student.perceptual: {class_path: Perceptual, init_args: {network: ..., paths: ..., to: target}},"
    " student.output_perceptual: {class_path: Perceptual, init_args: {network: ..., paths: ...}}"
)


@final
class Restore(Method):
    """One player, the student, and with a discriminator a second one (SRGAN, Ledig et al. 2017; pix2pix, Isola 2017).

    Without a teacher this is plain training, and so its own control arm. The batch's image is the degraded one, its
    target the whole one. By default:

    * `discriminator.real_fake`: the adversarial loss of the discriminator (`RealFake`); its `loss` is the game.
    * `student.reconstruction`: distance of the student's image from the whole one (`OutputDistance`, to: target).
    * `student.likelihood`: negative log-likelihood of the whole image (`Likelihood`); off unless weighed.
    * `student.adversarial`: the adversarial loss of the student (`Adversarial`).
    * `student.output`: distance of the student's image from the teacher's (`OutputDistance`).
    * `student.spectral`: distance of their Fourier transforms (`Spectral`); off unless weighed.
    * `student.soft_label`: divergence of their distributions (`SoftDistribution`); off unless weighed.

    The survey's α (hard term) and 1 - α (soft label) are the weights of `reconstruction` and `output`, or of
    `likelihood` and `soft_label`; the latter two need a `ProbabilisticRestorer`. Where nobody has the whole image, only
    what the teacher teaches is left. Further terms are at hand: any loss of features, `Perceptual`, `CriticFeatures`,
    `Worst`, `TotalVariation`, and for the discriminator `R1` and `GradientPenalty`.

    Args:
        student: Takes images (N, C, H, W) and gives images (N, C', sH, sW), such as a `Restorer`, or an `Import` with
            the role "restorer".
        discriminator: Scores of images, (N,) or (N, h, w), or None.
        teacher: Another network like the student.
        teacher_discriminator: The teacher's own discriminator.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        conditional: The discriminator sees the degraded image too, before the other one as further channels (Isola et
            al. 2017, eq. 1); the two are then of one size. A `PatchDiscriminator` has to be told by its `condition`.
        size: Height and width of the degraded images that networks are shown to learn the shapes of their features, or
            one number for both: those of the training images where a term draws something of that shape (`Mgd`,
            `Worst`).

    Raises:
        RecipeError: An argument is out of its range, networks do not fit, or a term cannot work with them; while
            training, batches without whole images that have no teacher either.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "discriminator.real_fake": Default(RealFake),
        "student.reconstruction": Default(partial(OutputDistance, to="target")),
        "student.likelihood": Default(Likelihood, 0.0),
        "student.adversarial": Default(Adversarial),
        "student.output": Default(OutputDistance),
        "student.spectral": Default(Spectral, 0.0),
        "student.soft_label": Default(SoftDistribution, 0.0),
    }
    scene: ClassVar[type[Scene]] = RestorerScene
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "distance": "student.reconstruction: {class_path: OutputDistance, init_args: {to: target, distance: ...}},"
        " student.output: {class_path: OutputDistance, init_args: {distance: ...}}",
        "distribution": "student.likelihood: {class_path: Likelihood, init_args: {distribution: ...}},"
        " student.soft_label: {class_path: SoftDistribution, init_args: {distribution: ...}}",
        "features": "student.features: ...",
        "feature_network": PERCEPTUAL,
        "perceptual_paths": PERCEPTUAL,
        "critic_features": "student.critic_feature: {class_path: CriticFeatures, init_args: {paths: ...}}",
        "loss": "discriminator.real_fake: {class_path: RealFake, init_args: {loss: ...}}",
    }

    def __init__(
        self,
        student: nn.Module,
        discriminator: nn.Module | None = None,
        teacher: nn.Module | None = None,
        teacher_discriminator: nn.Module | None = None,
        *,
        terms: Terms | None = None,
        conditional: bool = False,
        size: int | tuple[int, int] = 16,
    ) -> None:
        super().__init__()
        for key, network in (("student", student), ("teacher", teacher)):
            role = network.role if isinstance(network, External) else "restorer"
            require(key, role == "restorer", "a network that takes images: role: restorer", role)
        for key, critic in (("discriminator", discriminator), ("teacher_discriminator", teacher_discriminator)):
            _check_condition(key, critic, student, conditional)
        self.conditional = conditional
        self.size = (size, size) if isinstance(size, int) else size
        require("size", min(self.size) >= 1, "pixels of at least 1", size)
        teachers = {"teacher": teacher, "teacher_discriminator": teacher_discriminator}
        self.cast({"discriminator": discriminator, "student": student}, teachers, terms)

    def demands(self) -> Sequence[str]:
        """Return the whole images, too, where there is a discriminator of them, or no teacher."""
        whole = self.has("discriminator") or not self.has("teacher")
        return [*super().demands(), *(["target"] if whole else [])]

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update, if there is one, and the student's."""
        scene = self.enter(batch, step)
        if self.has("discriminator"):
            require("data", batch.target is not None, "whole images for a discriminator", None)
            yield self.update_of("discriminator", scene)
        student = self.update_of("student", scene)
        anything = "whole images beside the degraded ones, or a teacher"
        require("data", bool(student.losses), anything, None, UNLABELLED)
        yield student

    def call(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return what a network makes of the degraded images."""
        image: Tensor = network(batch.need("image", "Restore"))
        return image

    def real(self, scene: Scene) -> Tensor:
        """Return the whole images."""
        return scene.batch.need("target", "Restore's discriminator")

    def shown(self, critic: nn.Module, batch: Batch, image: Tensor) -> tuple[Tensor, ...]:
        """Return the image, where discriminators are conditional with the degraded one before it."""
        if not self.conditional:
            return (image,)
        degraded = batch.need("image", "Restore")
        mine, whole = tuple(degraded.shape[2:]), tuple(image.shape[2:])
        require("conditional", mine == whole, f"degraded images of {whole} pixels, as the whole ones", mine)
        return (torch.cat([degraded, image], 1),)

    def example(self, network: nn.Module) -> Batch:
        """Return two degraded images."""
        inputs: int | None = stated(network, "inputs")
        if inputs is None:
            kind = type(network).__name__
            raise RecipeError(f"expected {kind} to state its channels as `inputs`, found none")
        return Batch(image=blank((inputs, *self.size), network))


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

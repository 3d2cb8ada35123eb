"""GAN training of a generator, alone or from a teacher (Goodfellow et al. 2014; Aguinaldo et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, final

from torch import Tensor, nn

from limbeck.data.base import Augmentation
from limbeck.errors import RecipeError, require
from limbeck.methods.base import Default, Method, Terms
from limbeck.networks.handling.frozen import Frozen
from limbeck.terms.adversarial import Adversarial, RealFake
from limbeck.terms.base import blank
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.soft_label import SoftLabel
from limbeck.types import Batch, Draw, Update

NETWORKS = ("student", "discriminator", "teacher", "teacher_discriminator")


@final
class Gan(Method):
    """Two players in turn: the discriminator tells real from generated images, the student deceives it.

    Without a teacher this is plain GAN training, and so its own control arm. With one, the student also follows the
    teacher's image on the same latent and label. By default:

    * `discriminator.real_fake`: the adversarial loss of the discriminator (`RealFake`); its `loss` is the game.
    * `discriminator.soft_label`: what the teacher's discriminator teaches it (`SoftLabel`); off unless weighed.
    * `student.adversarial`: the adversarial loss of the student (`Adversarial`).
    * `student.output`: the distance of its images from the teacher's (`OutputDistance`).

    Further terms are at hand for a generator: `R1` and `GradientPenalty` for the discriminator, `FollowFeatures`,
    `CriticFeatures`, `Perceptual`, `Worst`, `BoundarySoftLabel`. Where the data's `target` is a black box's image for
    its `latent`, no teacher is needed: `student.output` is then an `OutputDistance` with `to: target`.

    Networks are called with the batch's label as their second input where it has one, unless their `classes` is 0.

    Args:
        student: Generator, latent (N, ...) to image (N, C, H, W) in [-1, 1].
        discriminator: Scores (N,) of images; may start from the teacher's, but is another module.
        teacher: Generator to follow; any callable module, so also one that hides its weights.
        teacher_discriminator: What the teacher was trained against.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        critic_steps: Steps of the discriminator for one of the student, which moves on every n-th step.
        augment: Change of real and generated images in front of both discriminators (DiffAugment, Zhao et al.
            2020); a step draws it once, so the i-th real and the i-th generated image are changed alike.

    Raises:
        RecipeError: An argument is out of its range, or a term cannot work with these networks.
    """

    defaults: ClassVar[Mapping[str, Default]] = {
        "discriminator.real_fake": Default(RealFake),
        "discriminator.soft_label": Default(SoftLabel, 0.0),
        "student.adversarial": Default(Adversarial),
        "student.output": Default(OutputDistance),
    }
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "loss": "discriminator.real_fake: {class_path: RealFake, init_args: {loss: ...}}",
        "penalty": "discriminator.penalty: {class_path: R1 or GradientPenalty, init_args: {weight: ..., every: ...}}",
        "penalty_weight": "discriminator.penalty: {class_path: R1, init_args: {weight: ...}}",
        "penalty_interval": "discriminator.penalty: {class_path: R1, init_args: {every: ...}}",
        "alpha": "discriminator.soft_label: {class_path: SoftLabel, init_args: {alpha: ...}}",
        "temperature": "discriminator.soft_label: {class_path: SoftLabel, init_args: {temperature: ...}}",
        "calibration": "discriminator.soft_label: {class_path: SoftLabel, init_args: {calibration: ...}}",
        "features": "student.feature: {class_path: FeatureMatching, init_args: {paths: ...}}",
        "critic_features": "student.critic_feature: {class_path: CriticFeatures, init_args: {paths: ...}}",
        "output": "student.output: {class_path: OutputDistance, init_args: {distance: ...}}",
        "feature_network": "student.perceptual: {class_path: Perceptual, init_args: {network: ..., paths: ...}}",
        "perceptual_paths": "student.perceptual: {class_path: Perceptual, init_args: {network: ..., paths: ...}}",
        "attack": "student.worst_output: {class_path: Worst, init_args: {term: OutputDistance, attack: ...}}",
        "strength": "student.worst_output: {class_path: Worst, init_args: {term: ..., attack: ..., strength: ...}}",
        "boundary": "discriminator.boundary: {class_path: BoundarySoftLabel, init_args: {search: ...}}",
        "black_box": "student.output: {class_path: OutputDistance, init_args: {to: target}}",
    }
    needs: ClassVar[tuple[str, ...]] = ("image", "latent")

    def __init__(
        self,
        student: nn.Module,
        discriminator: nn.Module,
        teacher: nn.Module | None = None,
        teacher_discriminator: nn.Module | None = None,
        *,
        terms: Terms | None = None,
        critic_steps: int = 1,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        require("critic_steps", critic_steps >= 1, "a whole number of at least 1", critic_steps)
        self.critic_steps, self.augment = critic_steps, augment
        teachers = {"teacher": teacher, "teacher_discriminator": teacher_discriminator}
        self.cast({"discriminator": discriminator, "student": student}, teachers, terms)

    def demands(self) -> Sequence[str]:
        """Return the label, too, where a network is conditioned on it."""
        networks = [self.network(name) for name in NETWORKS if self.has(name)]
        conditional = any(getattr(network, "classes", 0) for network in networks)
        return [*super().demands(), *(["label"] if conditional else [])]

    def draws(self) -> Mapping[str, Draw]:
        """Return what the terms and the augmentation draw."""
        return {**super().draws(), **(self.augment.draws() if self.augment else {})}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update and, on every `critic_steps`-th step, the student's."""
        student_moves = (step + 1) % self.critic_steps == 0
        scene = self.enter(batch, step, learners=("student",) if student_moves else ())
        yield self.update_of("discriminator", scene)
        if student_moves:
            yield self.update_of("student", scene)

    def call(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the images that a generator makes of the batch's latents."""
        image: Tensor = network(batch.need("latent", "Gan"), *_condition(network, batch))
        return image

    def shown(self, critic: nn.Module, batch: Batch, image: Tensor) -> tuple[Tensor, ...]:
        """Return the image, and the label where a discriminator is conditioned on it."""
        return (image, *_condition(critic, batch))

    def judge(self, critic: nn.Module, batch: Batch, image: Tensor) -> Tensor:
        """Return the scores of augmented images."""
        return super().judge(critic, batch, image if self.augment is None else self.augment(image, batch.drawn))

    def example(self, network: nn.Module) -> Batch:
        """Return two latents, with labels where a generator takes them."""
        shape: tuple[int, ...] | None = getattr(network, "latent_shape", None)
        if shape is None:
            raise RecipeError(f"expected {type(network).__name__} to state its latent_shape, found none")
        latent = blank(shape, network)
        return Batch(latent=latent, label=latent.new_zeros(2).long() if getattr(network, "classes", 0) else None)


def _condition(network: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    """Return what a generator or discriminator is called with after its first input: the label, or nothing."""
    inner = network.network if isinstance(network, Frozen) else network
    if not getattr(inner, "classes", batch.label is not None):
        return ()
    return (batch.need("label", f"{type(inner).__name__}, which is conditioned on labels"),)

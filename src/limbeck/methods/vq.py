"""Training of a VQ-VAE, alone or from a teacher (van den Oord et al. 2017, arXiv:1711.00937)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, final

from limbeck.errors import require
from limbeck.methods.autoencoding import Autoencoding
from limbeck.methods.base import Default, Terms
from limbeck.networks.autoencoders.vq_vae import VqVae
from limbeck.networks.roles import Autoencoder, Discriminator
from limbeck.terms.adversarial import Adversarial, RealFake
from limbeck.terms.codes import Codebook, CodesScene, Commitment
from limbeck.terms.decoded import Decoded
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.scene import Scene


@final
class Vq(Autoencoding):
    """An autoencoder whose latents are codes (eq. 3), which may follow a teacher's reconstructions.

    Gradients pass from the codes to the encoder as if they were its output. Without a teacher this is plain training,
    and so its own control arm. S and T are student and teacher. By default:

    * `student.reconstruction`: the distance of reconstruction and image (`OutputDistance`).
    * `student.codebook`: codes move to what the encoder says (`Codebook`).
    * `student.commitment`: the encoder stays with its codes (`Commitment`); 0.25 is the paper's weight.
    * `student.output`: the distance of S's and T's reconstructions (`OutputDistance`).
    * `student.decoder`: the distance of S's and T's decoders on T's latent (`Decoded`), where latents have one shape;
      off unless weighed.
    * `discriminator.real_fake`, `student.adversarial`: where there is a discriminator, the GAN losses of
      reconstructions (VQGAN, Esser et al. 2021, arXiv:2012.09841, which adapts the weight of the second).

    Further terms are at hand: any loss of features or relations (`FollowFeatures`), `Perceptual` to "teacher" or
    "image", `Worst`, and for the discriminator `R1` and `GradientPenalty`. Features are those of each network's own
    reconstruction.

    Args:
        student: A VQ-VAE.
        teacher: Any autoencoder of the same images.
        discriminator: Scores (N,) or (N, h, w) of images, or None.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.

    Raises:
        RecipeError: The student has no codes, or a term cannot work with these networks.
    """

    moved_arguments: ClassVar[Mapping[str, str]] = {
        "output": "student.reconstruction: {class_path: OutputDistance, init_args: {to: image, distance: ...}},"
        " student.output: {class_path: OutputDistance, init_args: {distance: ...}}",
    }
    defaults: ClassVar[Mapping[str, Default]] = {
        "discriminator.real_fake": Default(RealFake),
        "student.reconstruction": Default(partial(OutputDistance, "image", "l2")),
        "student.codebook": Default(Codebook),
        "student.commitment": Default(Commitment, 0.25),
        "student.adversarial": Default(Adversarial),
        "student.output": Default(partial(OutputDistance, distance="l2")),
        "student.decoder": Default(lambda: Decoded(OutputDistance(distance="l2"), "teacher"), 0.0),
    }
    scene: ClassVar[type[Scene]] = CodesScene

    def __init__(
        self,
        student: VqVae,
        teacher: Autoencoder | None = None,
        discriminator: Discriminator | None = None,
        *,
        terms: Terms | None = None,
    ) -> None:
        super().__init__()
        require("student", hasattr(student, "quantize"), "an autoencoder with a codebook", type(student).__name__)
        self.map = None
        self.cast({"discriminator": discriminator, "student": student}, {"teacher": teacher}, terms)

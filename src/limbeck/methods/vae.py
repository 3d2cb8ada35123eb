"""Training of a variational autoencoder, alone or from a teacher (Kingma & Welling 2014)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

from limbeck.errors import RecipeError, require
from limbeck.losses.gather import gathered
from limbeck.methods.autoencoding import Autoencoding
from limbeck.methods.base import Default, Terms
from limbeck.networks.autoencoders.latent_map import LatentMap
from limbeck.networks.roles import Discriminator, VariationalAutoencoder
from limbeck.terms.adversarial import Adversarial, RealFake
from limbeck.terms.bound import PriorDivergence, ReconstructionLoss
from limbeck.terms.decoded import Decoded
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.posterior_divergence import PosteriorDivergence
from limbeck.terms.scene import Scene
from limbeck.terms.vae_scene import VaeScene
from limbeck.types import Batch, Draw, Update

_DECODED = (
    "{class_path: Decoded, init_args: {term: {class_path: OutputDistance, init_args: {distance: ...}}, latents: %s}}"
)
_PERCEPTUAL = "{class_path: Perceptual, init_args: {network: ..., paths: ..., to: image}}"
_WORST = (
    "{class_path: Worst, init_args: {attack: ..., term: {class_path: Decoded, init_args: {term: OutputDistance,"
    " latents: %s}}}}"
)


@final
class Vae(Autoencoding):
    """One player, the student, and with a patch discriminator a second one (VAE-GAN, Larsen et al. 2016).

    Without a teacher this is plain training, and so its own control arm. S and T are student and teacher, x an image, D
    its number of values. Terms of the bound are divided by D, so that `reconstruction` and `kl` with weight 1 add up to
    -ELBO / D in nats. β is the weight of `student.kl`, KL warm-up a weight of `{weight: 1, ramp: 0.2}`; the survey's α
    (hard term) and 1 - α (soft label) are the weights of `student.reconstruction` and `student.posterior`. By default:

    * `student.reconstruction`: -log p(x | z) / D (`ReconstructionLoss`); its `likelihood` says which p.
    * `student.kl`: KL(q_S(z | x) ‖ N(0, 1)) / D (`PriorDivergence`), with `free_bits`.
    * `student.posterior`: the teacher's posterior as soft label (`PosteriorDivergence`).
    * `student.decoder`: the distance of both decoders on the same latents, from q_T(z | x) and from the prior
      (`Decoded`, "mixed").
    * `student.encoder_swap`: the distance of T's decoder on S's latent from x (`Decoded`, "swapped"), where both
      latents have one shape; off unless weighed.
    * `student.decoder_swap`: the distance of S's decoder on T's latent from x (`Decoded`, "teacher"); off unless
      weighed.
    * `student.output`: the distance of S's and T's reconstructions of x, each from its own posterior mean (`Decoded`,
      "means"); off unless weighed.
    * `discriminator.real_fake`, `student.adversarial`: where there is a discriminator, the GAN losses of
      reconstructions (`RealFake`, `Adversarial`).

    Further terms are at hand: any loss of features or relations (`FollowFeatures`), `Perceptual` to "image" or
    around decoders by `Decoded`, `Worst` around `PosteriorDivergence`, `Decoded`, `ReconstructionLoss`, and for the
    discriminator `R1` and `GradientPenalty`. Features of the encoders are those of x, features of the decoders those of
    the latents of `student.decoder`.

    Where the latents differ, the teacher's terms begin after `map_steps` steps: the map is fitted to the teacher's
    posterior means of the images of these steps. A training of no more steps than that learns nothing of its teacher.

    Args:
        student: A variational autoencoder of images (N, C, H, W).
        discriminator: Scores (N,) or (N, h, w) of images, or None.
        teacher: Another variational autoencoder.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        prior_share: Probability with which a latent that both decoders are given is one of the prior, in [0, 1].
        map_steps: Steps that the map of latents is fitted to.

    Raises:
        RecipeError: An argument is out of its range, or networks or terms do not fit.
    """

    moved_arguments: ClassVar[Mapping[str, str]] = {
        "likelihood": "student.reconstruction: {class_path: ReconstructionLoss, init_args: {likelihood: ...}}",
        "free_bits": "student.kl: {class_path: PriorDivergence, init_args: {free_bits: ...}}",
        "output": f"student.decoder: {_DECODED % 'mixed'}",
        "features": "student.feature: {class_path: FeatureMatching, init_args: {paths: ...}}",
        "feature_network": f"student.perceptual: {_PERCEPTUAL}",
        "perceptual_paths": f"student.perceptual: {_PERCEPTUAL}",
        "attack": "student.worst_posterior: {class_path: Worst, init_args: {attack: ..., term: PosteriorDivergence}},"
        f" student.worst_output: {_WORST % 'means'}",
        "latent_attack": f"student.worst_decoder: {_WORST % 'prior'}",
        "strength": "student.worst_output: {class_path: Worst, init_args: {term: ..., attack: ..., strength: ...}}",
    }
    defaults: ClassVar[Mapping[str, Default]] = {
        "discriminator.real_fake": Default(RealFake),
        "student.reconstruction": Default(ReconstructionLoss),
        "student.kl": Default(PriorDivergence),
        "student.adversarial": Default(Adversarial),
        "student.posterior": Default(PosteriorDivergence),
        "student.decoder": Default(lambda: Decoded(OutputDistance(), "mixed")),
        "student.encoder_swap": Default(lambda: Decoded(OutputDistance("image"), "swapped"), 0.0),
        "student.decoder_swap": Default(lambda: Decoded(OutputDistance("image"), "teacher"), 0.0),
        "student.output": Default(lambda: Decoded(OutputDistance(), "means"), 0.0),
    }
    scene: ClassVar[type[Scene]] = VaeScene

    student: VariationalAutoencoder

    def __init__(
        self,
        student: VariationalAutoencoder,
        discriminator: Discriminator | None = None,
        teacher: VariationalAutoencoder | None = None,
        *,
        terms: Terms | None = None,
        prior_share: float = 0.5,
        map_steps: int = 50,
    ) -> None:
        super().__init__()
        require("prior_share", 0 <= prior_share <= 1, "a number in [0, 1]", prior_share)
        require("map_steps", map_steps >= 1, "a whole number of at least 1", map_steps)
        for name, network in (("student", student), ("teacher", teacher)):
            varies = network is None or hasattr(network, "posterior")
            require(name, varies, "a variational autoencoder, which has a posterior", type(network).__name__)
        self.prior_share, self.map_steps = prior_share, map_steps
        self.map = None if teacher is None else LatentMap(teacher.latent_shape, student.latent_shape)
        self.cast({"discriminator": discriminator, "student": student}, {"teacher": teacher}, terms)
        if "student.reconstruction" in self.left_out:  # without it there is nothing to be learned
            raise RecipeError(f"terms.student.reconstruction: {self.left_out['student.reconstruction']}")

    def draws(self) -> Mapping[str, Draw]:
        """Return what the terms draw, the noise of both posteriors, latents of the prior, and who gets them."""
        drawn = {**super().draws(), "vae.noise": Draw(self.student.latent_shape)}
        if self.has("teacher"):
            latent: tuple[int, ...] = self.network("teacher").latent_shape  # type: ignore[assignment]
            drawn |= {"vae.teacher_noise": Draw(latent), "vae.prior": Draw(latent), "vae.share": Draw((), "uniform")}
        return drawn

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update, if there is one, and the student's; before that, get the map ready."""
        if self.map is not None and not self.map.ready:
            if step < self.map_steps:  # sums over samples: the number of micro-batches does not matter
                self.map.observe(gathered(VaeScene(self, batch, step).posterior("teacher").mean))
            else:
                self.map.fit()
        yield from super().updates(batch, step)

    def update_of(self, player: str, scene: Scene) -> Update:
        """Return the update of a player, without the teacher's terms while there is no map of its latents."""
        update = super().update_of(player, scene)
        if self.map is None or self.map.ready:
            return update
        losses = {n: loss for n, loss in update.losses.items() if not self.terms[f"{player}.{n}"].needs_teacher}
        return Update(player, losses)

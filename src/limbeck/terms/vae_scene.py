"""One step of a variational autoencoder as its terms see it: posteriors, and latents that are drawn."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from limbeck.attacks.base import per_sample
from limbeck.networks.autoencoders.latent_map import LatentMap
from limbeck.networks.roles import VariationalAutoencoder
from limbeck.terms.autoencoder_scene import AutoencoderScene, AutoencoderStage, Latents


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents.

    Attributes:
        mean: μ (N, ...).
        log_variance: log σ², of the same shape.
    """

    mean: Tensor
    log_variance: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Return μ + σ ε (Kingma & Welling 2014, section 2.4)."""
        return self.mean + (self.log_variance / 2).exp() * noise


class VaeStage(AutoencoderStage, Protocol):
    """What the scene asks of its method, which draws `vae.noise`, and with a teacher what its latents need."""

    @property
    def map(self) -> LatentMap | None:
        """What makes a student's latent of a teacher's; None without a teacher."""
        ...

    @property
    def prior_share(self) -> float:
        """With which probability a latent for both decoders is one of the prior."""
        ...


class VaeScene(AutoencoderScene):
    """A step of variational autoencoders: S and T are student and teacher, q their posteriors, x the image.

    The student reconstructs a draw of q_S(z | x), the teacher the mean of q_T(z | x).
    """

    stage: VaeStage
    latents_tapped: ClassVar[Latents] = "mixed"

    def posterior(self, who: str) -> Posterior:
        """Return q(z | x) of student or teacher."""
        return Posterior(*self.encoded(who))

    def encode(self, who: str) -> tuple[Tensor, ...]:
        """Return mean and log variance (N, ...)."""
        network: VariationalAutoencoder = self.network_of(who)  # type: ignore[assignment]
        return network.posterior(self.batch.need("image", "an autoencoder"))

    def own(self, who: str, *, mean: bool = False) -> Tensor:
        """Return a draw of the student's posterior, or the mean of either."""
        posterior = self.posterior(who)
        return posterior.mean if mean or who == "teacher" else posterior.at(self.batch.drawn["vae.noise"])

    def shared(self, latents: Latents) -> Tensor:
        """Return latents of the prior, of q_T(z | x), or "mixed": of the prior with the probability `prior_share`."""
        drawn = self.batch.drawn
        if latents == "prior":
            return drawn["vae.prior"]
        own = self.posterior("teacher").at(drawn["vae.teacher_noise"])
        if latents == "teacher":
            return own
        of_prior = per_sample(drawn["vae.share"] < self.stage.prior_share, own)
        return torch.where(of_prior, drawn["vae.prior"].to(own), own)

"""The two terms of a variational autoencoder's bound (Kingma & Welling 2014, arXiv:1312.6114, eq. 3).

Both are divided by the number of values of an image, so that with weight 1 they add up to -ELBO by value, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, final

from torch import Tensor

from limbeck.errors import RecipeError, require
from limbeck.losses import vae
from limbeck.losses.features import l1
from limbeck.losses.gather import gathered
from limbeck.terms.base import Answers, Cast, SampleTerm, Term
from limbeck.terms.scene import Scene
from limbeck.terms.vae_scene import VaeScene

LIKELIHOODS = ("gaussian", "discretized_gaussian", "bernoulli", "l1")


@final
class ReconstructionLoss(SampleTerm):
    """-log p(x | z) by value of the image, z drawn from the student's posterior.

    Args:
        likelihood: p(x | z): "gaussian" and "discretized_gaussian" with the student's learned standard deviation,
            "bernoulli", or "l1", which is a Laplace distribution of scale 1 and no likelihood to compare bounds by.

    Raises:
        RecipeError: None of these.
    """

    about: ClassVar[Sequence[Answers]] = ("images",)
    scene: ClassVar[type[Scene]] = VaeScene

    def __init__(self, likelihood: Literal["gaussian", "discretized_gaussian", "bernoulli", "l1"] = "gaussian") -> None:
        super().__init__()
        require(
            "ReconstructionLoss.likelihood", likelihood in LIKELIHOODS, f"one of {', '.join(LIKELIHOODS)}", likelihood
        )
        self.likelihood = likelihood

    @property
    def scaled(self) -> bool:
        """Whether it trains the standard deviation of a pixel."""
        return "gaussian" in self.likelihood

    def join(self, cast: Cast) -> None:
        """Refuse a student that does not know its standard deviation.

        Raises:
            RecipeError: It has none.
        """
        student = cast.network("student")
        if self.scaled and not hasattr(student, "log_scale"):
            kind = type(student).__name__
            raise RecipeError(
                f"ReconstructionLoss.likelihood: expected bernoulli or l1 for {kind}, a network without log_scale,"
                f" found {self.likelihood!r}"
            )

    def each(self, scene: Scene) -> Tensor:
        """Return the negative log-likelihood of each image (N,), by value."""
        image, mean = scene.batch.need("image", "ReconstructionLoss"), scene.student_output
        if self.likelihood == "l1":
            return l1(mean, image)
        if self.likelihood == "bernoulli":
            nll = vae.bernoulli_nll(image, mean)
        else:
            form = vae.gaussian_nll if self.likelihood == "gaussian" else vae.discretized_gaussian_nll
            log_scale: Tensor = scene.stage.network("student").log_scale  # type: ignore[assignment]
            nll = form(image, mean, log_scale)
        return nll / image[0].numel()


@final
class PriorDivergence(Term):
    """KL(q_S(z | x) ‖ N(0, 1)) by value of the image; its weight is β (Higgins et al. 2017).

    Args:
        free_bits: λ of at least 0, in nats: each latent dimension costs at least that much on average over the batch
            (Kingma et al. 2016, arXiv:1606.04934, eq. 15).

    Raises:
        RecipeError: λ is negative.
    """

    about: ClassVar[Sequence[Answers]] = ("images",)
    scene: ClassVar[type[Scene]] = VaeScene

    def __init__(self, free_bits: float = 0.0) -> None:
        super().__init__()
        require("PriorDivergence.free_bits", free_bits >= 0, "a number of at least 0", free_bits)
        self.free_bits = free_bits
        self.couples = free_bits > 0

    def forward(self, scene: Scene) -> Tensor:
        """Return the divergence from the prior."""
        assert isinstance(scene, VaeScene)
        each = gathered(vae.kl_from_prior(*scene.posterior("student")))  # the mean of a unit is that of all samples
        return vae.free_bits(each, self.free_bits) / scene.batch.need("image", "PriorDivergence")[0].numel()

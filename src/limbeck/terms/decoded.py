"""Any term of images about what decoders make of chosen latents: of the same ones, or of each other's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final, get_args
from typing import cast as typed

from torch import Tensor

from limbeck.errors import RecipeError, require
from limbeck.networks.roles import Autoencoder
from limbeck.terms.around import AroundSamples
from limbeck.terms.autoencoder_scene import SHARED, AutoencoderScene, Latents
from limbeck.terms.base import Answers, Cast, SampleTerm
from limbeck.terms.scene import Scene


@final
class Decoded(AroundSamples):
    """A term of images, where the student's image and the teacher's are what decoders make of the latents named here.

    S and T are student and teacher, x is an image, z a latent, q(z | x) a posterior:

    * "mixed": both decoders on the same z, of the prior with the probability `prior_share`, else drawn from q_T(z | x).
    * "prior": both decoders on the same z of the prior.
    * "teacher": both decoders on T's latent of x, drawn from q_T(z | x).
    * "means": each decoder on its own network's latent of x, the mean of q(z | x), as it is used in the end.
    * "swapped": T's decoder on S's latent of x, drawn from q_S(z | x), as the student's image; as the teacher's image
      T's reconstruction of x.

    So `Decoded(OutputDistance(), "mixed")` is the distance of two decoders on the same latents, and with `to: image`
    "swapped" and "teacher" ask whether encoders and decoders can be interchanged. `Worst` attacks latents where both
    decoders have the same, else the image.

    Args:
        term: The term, such as `OutputDistance` or `Perceptual`.
        latents: What is decoded.

    Raises:
        RecipeError: There are no such latents.
    """

    about: ClassVar[Sequence[Answers]] = ("images",)

    def __init__(self, term: SampleTerm, latents: Latents = "mixed") -> None:
        super().__init__(term)
        known = [each for each in get_args(Latents) if each != "own"]
        require("Decoded.latents", latents in known, f"one of {', '.join(known)}", latents)
        self.latents: Latents = latents
        if not issubclass(self.scene, AutoencoderScene):
            self.scene = AutoencoderScene  # type: ignore[misc]

    @property
    def wants(self) -> Sequence[str]:  # type: ignore[override]
        """The teacher, unless each network decodes its own latent, and what the term wants."""
        own = () if self.latents == "means" else ("teacher",)
        return tuple(dict.fromkeys((*own, *self.term.wants)))

    def join(self, cast: Cast) -> None:
        """Let the term join, and refuse latents that a decoder cannot take.

        Raises:
            RecipeError: It cannot work with these networks.
        """
        super().join(cast)
        networks = [typed(Autoencoder, cast.network(who)) for who in ("student", "teacher") if cast.has(who)]
        variational = all(hasattr(network, "posterior") for network in networks)
        if self.latents in ("mixed", "prior", "means") and not variational:
            raise RecipeError(f"{self.latents!r} latents need variational autoencoders, which have a posterior")
        if self.latents in ("mixed", "prior") and "teacher" not in self.term.wants:
            raise RecipeError(f"{self.latents!r} latents belong to no image: expected a term that compares the teacher")
        shapes = [tuple(network.latent_shape) for network in networks]
        if len({*shapes}) > 1 and (self.latents == "swapped" or (self.latents == "teacher" and not variational)):
            raise RecipeError(
                f"{self.latents!r} latents: expected latents of one shape, found {shapes[0]}, {shapes[1]}"
            )

    def attacked(self, cast: Cast) -> tuple[str, tuple[int, ...]]:
        """Return the latent that both decoders are given, or what the term's attack changes."""
        if self.latents not in SHARED:
            return super().attacked(cast)
        return "latent", tuple(typed(Autoencoder, cast.network("teacher")).latent_shape)

    def start(self, scene: Scene, field: str) -> Tensor:
        """Return the latents before an attack."""
        assert isinstance(scene, AutoencoderScene)
        return scene.latent("teacher", self.latents) if self.latents in SHARED else super().start(scene, field)

    def each(self, scene: Scene) -> Tensor:
        """Return the term of each sample (N,)."""
        assert isinstance(scene, AutoencoderScene)
        return self.term.each(scene.of(self.latents))

"""The two terms that hold an encoder and a codebook together (van den Oord et al. 2017, arXiv:1711.00937, eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor

from limbeck.networks.autoencoders.vq_vae import VqVae
from limbeck.terms.autoencoder_scene import AutoencoderScene, Latents
from limbeck.terms.base import Answers, Term
from limbeck.terms.scene import Scene


class CodesScene(AutoencoderScene):
    """A step of an autoencoder whose latents are codes; its teacher is any autoencoder.

    The student reconstructs its codes, and the decoder's gradient is handed past them to the encoder.
    """

    def encode(self, who: str) -> tuple[Tensor, ...]:
        """Return what the student's encoder says and the nearest codes (N, D, h, w), or the teacher's latents."""
        network, image = self.network_of(who), self.batch.need("image", "an autoencoder")
        if who == "teacher":
            return (network.encode(image),)
        assert isinstance(network, VqVae)
        vectors: Tensor = network.encoder(image)
        return vectors, network.quantize(vectors)[0]

    def own(self, who: str, *, mean: bool = False) -> Tensor:
        """Return the student's codes, or the teacher's latents."""
        if who == "teacher":
            return self.encoded("teacher")[0]
        vectors, codes = self.encoded("student")
        return vectors + (codes - vectors).detach()

    def shared(self, latents: Latents) -> Tensor:
        """Return the teacher's latents of the images."""
        return self.own("teacher")


@final
class Codebook(Term):
    """‖sg[z] - e‖², by value of the latent: codes e move to what the encoder says, z."""

    about: ClassVar[Sequence[Answers]] = ("images",)
    scene: ClassVar[type[Scene]] = CodesScene

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean squared distance, with gradient to the codebook."""
        assert isinstance(scene, CodesScene)
        vectors, codes = scene.encoded("student")
        return F.mse_loss(codes, vectors.detach())


@final
class Commitment(Term):
    """‖z - sg[e]‖², by value of the latent: the encoder stays with the codes that it has chosen."""

    about: ClassVar[Sequence[Answers]] = ("images",)
    scene: ClassVar[type[Scene]] = CodesScene

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean squared distance, with gradient to the encoder."""
        assert isinstance(scene, CodesScene)
        vectors, codes = scene.encoded("student")
        return F.mse_loss(vectors, codes.detach())

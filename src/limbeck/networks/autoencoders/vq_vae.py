"""VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937): a latent of vectors out of a codebook."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.blocks.convolutional import Decoder, Encoder, latent_side
from limbeck.networks.roles import Autoencoder


@final
class VqVae(Autoencoder):
    """A spatial latent of which every vector is the nearest of a codebook; the codebook is trained by gradient.

    Tap paths: encoder.stages.0 (width, whole size) and on, half as large each; decoder.stages.0 and on.

    Args:
        width: Channels of the largest maps, doubled with every halving of the size up to four times.
        latent: Channels of the latent, the length of a code.
        channels: Channels C of the image.
        size: Height and width of the image, a multiple of 2^halvings.
        codes: Number of codes K.
        halvings: How often the size is halved.
        blocks: Residual blocks at each size.

    Attributes:
        codebook: The codes, (K, latent).

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 32,
        latent: int = 16,
        channels: int = 1,
        size: int = 32,
        *,
        codes: int = 128,
        halvings: int = 2,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, latent=latent, channels=channels, codes=codes, blocks=blocks)
        side = latent_side(self, size, halvings)
        self.encoder = Encoder(width, latent, channels, halvings, blocks)
        self.decoder = Decoder(width, latent, channels, halvings, blocks)
        self.codebook = nn.Parameter(torch.randn(codes, latent) / latent**0.5)
        self.latent_shape, self.image_shape = (latent, side, side), (channels, size, size)

    def encode(self, image: Tensor) -> Tensor:
        """Return the latents (N, latent, h, w) of images (N, C, H, W), every vector a code."""
        return self.quantize(self.encoder(image))[0]

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest codes (N, latent, h, w) and their numbers (N, h, w) of vectors (N, latent, h, w).

        Equation 2. The codes carry the gradient of the codebook, none of the vectors.
        """
        rows = latent.movedim(1, -1).detach()
        number = torch.cdist(rows.flatten(0, 2).float(), self.codebook.detach().float()).argmin(1)
        number = number.view(rows.shape[:3])
        return F.embedding(number, self.codebook).movedim(-1, 1), number

    def decode(self, latent: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        image: Tensor = precise(self.decoder(latent)).tanh()
        return image

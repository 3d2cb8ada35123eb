"""Variational autoencoders (Kingma & Welling 2014), with one vector or a map of vectors as the latent.

Encoder and decoder can have different widths: a student may have a small decoder for the encoder of its teacher.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, final, get_args

import torch.nn.functional as F
from torch import Tensor, full, nn

from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_choice, check_dropout, check_sizes, doublings
from limbeck.networks.blocks.convolutional import Decoder, Encoder, latent_side, normalization_of, widths
from limbeck.networks.roles import VariationalAutoencoder

Normalization = Literal["batch", "group"]
LOG_VARIANCE = (-20.0, 10.0)  # beyond these exp() is of no use in float32
LOG_SCALE = -1.5  # where the learned standard deviation of pixels starts: what a poor decoder has


class _Parts(VariationalAutoencoder):
    """An encoder that returns means and log variances on top of each other, and a decoder that ends before its tanh."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent_shape: tuple[int, ...], image_shape: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.latent_shape, self.image_shape = latent_shape, image_shape
        self.log_scale = nn.Parameter(full((), LOG_SCALE))

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each (N, *latent_shape)."""
        mean, log_variance = self.encoder(image).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def decode(self, latent: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        image: Tensor = precise(self.decoder(latent)).tanh()  # in bf16 it is 1 from 3.5 on, and has no slope there
        return image


@final
class ConvVae(_Parts):
    """Strided convolutions down to 4x4 and one linear layer to the latent; the same backwards, as in DCGAN.

    Tap paths: for 32x32, encoder.blocks.0 (width, 16x16) to encoder.blocks.2 (4 width, 4x4), decoder.blocks.0
    (2 width, 8x8) and decoder.blocks.1 (width, 16x16).

    Args:
        width: Channels of the largest maps, doubled with every halving of the size.
        latent: Length L of the latent.
        channels: Channels C of the image.
        size: Height and width of the image: a power of two of at least 8.
        decoder_width: `width` of the decoder; null for the same.
        normalization: "batch" as in DCGAN; "group" keeps samples independent, and is what a student needs whose decoder
            follows a teacher's: latents of the posterior and of the prior have other statistics.
        dropout: Probability with which, in training, a feature before the latent and one after it is left out.

    Raises:
        RecipeError: A size cannot be used, or there is no such normalisation.
    """

    def __init__(
        self,
        width: int = 32,
        latent: int = 32,
        channels: int = 1,
        size: int = 32,
        *,
        decoder_width: int | None = None,
        normalization: Normalization = "batch",
        dropout: float = 0.0,
    ) -> None:
        check_dropout(self, dropout)
        other = width if decoder_width is None else decoder_width
        check_sizes(self, width=width, latent=latent, channels=channels, decoder_width=other)
        check_choice(self, get_args(Normalization), normalization=normalization)
        stages = doublings(self, size)
        super().__init__(
            _ConvEncoder([channels] + [width << stage for stage in range(stages)], latent, normalization, dropout),
            _ConvDecoder(
                [other << stage for stage in reversed(range(stages))] + [channels], latent, normalization, dropout
            ),
            (latent,),
            (channels, size, size),
        )


@final
class ResidualVae(_Parts):
    """Residual blocks with group normalisation, the size halved between them down to 4x4, then one linear layer.

    It has no batch statistics. Tap paths: encoder.trunk.stages.0 (width, whole size) and on, half as large each;
    decoder.trunk.stages.0 (4x4) and on, twice as large each.

    Args:
        width: Channels of the largest maps, doubled with every halving of the size up to four times.
        latent: Length L of the latent.
        channels: Channels C of the image.
        size: Height and width of the image: a power of two of at least 8.
        blocks: Residual blocks at each size.
        decoder_width: `width` of the decoder; null for the same.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 32,
        latent: int = 64,
        channels: int = 1,
        size: int = 32,
        *,
        blocks: int = 1,
        decoder_width: int | None = None,
    ) -> None:
        other = width if decoder_width is None else decoder_width
        check_sizes(self, width=width, latent=latent, channels=channels, blocks=blocks, decoder_width=other)
        halvings = doublings(self, size)
        last, first = widths(width, halvings)[-1], widths(other, halvings)[-1]
        down = Encoder(width, last, channels, halvings, blocks)
        up = Decoder(other, first, channels, halvings, blocks)
        super().__init__(
            _Chain(trunk=down, latent=nn.Sequential(nn.Flatten(), nn.Linear(16 * last, 2 * latent))),
            _Chain(latent=nn.Sequential(nn.Linear(latent, 16 * first), nn.Unflatten(1, (first, 4, 4))), trunk=up),
            (latent,),
            (channels, size, size),
        )


@final
class SpatialVae(_Parts):
    """A latent that is a small map, the kind on which latent diffusion works (Rombach et al. 2022, section 3.1).

    Fully convolutional: images of any size that the halvings divide, though it states one. Tap paths as of
    `ResidualVae`, without `trunk`.

    Args:
        width: Channels of the largest maps, doubled with every halving of the size up to four times.
        latent: Channels of the latent.
        channels: Channels C of the image.
        size: Height and width of the image, a multiple of 2^halvings.
        halvings: How often the size is halved: the latent is (latent, size / 2^halvings, size / 2^halvings).
        blocks: Residual blocks at each size.
        decoder_width: `width` of the decoder; null for the same.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 32,
        latent: int = 4,
        channels: int = 3,
        size: int = 64,
        *,
        halvings: int = 2,
        blocks: int = 1,
        decoder_width: int | None = None,
    ) -> None:
        other = width if decoder_width is None else decoder_width
        check_sizes(self, width=width, latent=latent, channels=channels, blocks=blocks, decoder_width=other)
        side = latent_side(self, size, halvings)
        super().__init__(
            Encoder(width, 2 * latent, channels, halvings, blocks),
            Decoder(other, latent, channels, halvings, blocks),
            (latent, side, side),
            (channels, size, size),
        )


class _Chain(nn.Sequential):
    """Modules one after the other, by name."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class _ConvEncoder(nn.Module):
    """4x4 convolutions of stride 2 with normalisation and leaky ReLU, then a linear layer."""

    def __init__(self, counts: list[int], latent: int, kind: Normalization, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.blocks = nn.ModuleList(
            _Down(*pair, kind if number else None) for number, pair in enumerate(_pairs(counts))
        )
        self.latent = nn.Linear(16 * counts[-1], 2 * latent)

    def forward(self, image: Tensor) -> Tensor:
        hidden = image
        for block in self.blocks:
            hidden = block(hidden)
        found: Tensor = self.latent(F.dropout(hidden.flatten(1), self.dropout, self.training))
        return found


class _ConvDecoder(nn.Module):
    """A linear layer to 4x4, then transposed convolutions of stride 2 with normalisation and ReLU."""

    def __init__(self, counts: list[int], latent: int, kind: Normalization, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.latent = nn.Sequential(nn.Linear(latent, 16 * counts[0]), nn.Unflatten(1, (counts[0], 4, 4)), nn.ReLU())
        self.blocks = nn.ModuleList(_Up(*pair, kind) for pair in _pairs(counts[:-1]))
        self.output = nn.ConvTranspose2d(counts[-2], counts[-1], 4, stride=2, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        hidden = F.dropout(self.latent(latent), self.dropout, self.training)
        for block in self.blocks:
            hidden = block(hidden)
        found: Tensor = self.output(hidden)
        return found


class _Down(nn.Module):
    """Halves height and width."""

    def __init__(self, inputs: int, outputs: int, kind: Normalization | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=kind is None)
        self.norm = nn.Identity() if kind is None else _norm(outputs, kind)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(hidden)), 0.2)


class _Up(nn.Module):
    """Doubles height and width."""

    def __init__(self, inputs: int, outputs: int, kind: Normalization) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
        self.norm = _norm(outputs, kind)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(hidden)))


def _norm(channels: int, kind: Normalization) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else normalization_of(channels)


def _pairs(counts: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(counts))

"""DCGAN (Radford et al. 2016, "Unsupervised Representation Learning with Deep Convolutional GANs").

The class-conditional variants follow Miyato & Koyama 2018: conditional batch normalisation in the generator, a
projection in the discriminator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_blocks, check_sizes, doublings, normalise_spectrum, sides
from limbeck.networks.blocks.conditional import ConditionalBatchNorm2d, LabelProjection
from limbeck.networks.roles import Discriminator, Generator


@final
class DcganGenerator(Generator):
    """From a latent to 4x4, then twice as large in every block; ReLU inside, tanh at the end.

    For 32x32 the blocks, whose names are tap paths, are blocks.0 (4 width, 4x4), blocks.1 (2 width, 8x8) and
    blocks.2 (width, 16x16); 64x64 has one more and 16x16 one less. With width 48 and latent 64 it has 566,689
    parameters for grey 32x32 images.

    Args:
        width: Channels before the last layer.
        latent: Length L of the latent.
        channels: Channels C of the image.
        size: Height and width of the image: a power of two of at least 8.
        classes: Number of classes K; 0 is unconditional.
        widths: Channels of each block from the first to the last, instead of what `width` makes of them. With width
            6, four fifths of the parameters lie in the first block; a small student has better uses for them.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 48,
        latent: int = 64,
        channels: int = 1,
        size: int = 32,
        classes: int = 0,
        *,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, latent=latent, channels=channels)
        check_sizes(self, at_least=0, classes=classes)
        stages = doublings(self, size)
        if widths is None:
            widths = [width << stage for stage in reversed(range(stages))]
        check_blocks(self, size, stages, widths=widths)
        self.latent_shape = (latent,)
        self.image_shape = (channels, size, size)
        self.classes = classes
        counts = [latent, *widths]
        self.blocks = nn.ModuleList(_UpBlock(counts[i], counts[i + 1], classes, first=i == 0) for i in range(stages))
        self.output = nn.ConvTranspose2d(counts[-1], channels, 4, stride=2, padding=1)
        _initialise(self)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] from latents (N, L); `label` (N,) is unused without classes."""
        hidden = latent[:, :, None, None]
        for block in self.blocks:
            hidden = block(hidden, label)
        image: Tensor = precise(self.output(hidden)).tanh()
        return image


@final
class DcganDiscriminator(Discriminator):
    """Strided 4x4 convolutions with leaky ReLU until a side has 4 to 7 pixels, then one score over all of it.

    For 32x32 the blocks, whose names are tap paths, are blocks.0 (width, 16x16), blocks.1 (2 width, 8x8) and
    blocks.2 (4 width, 4x4).

    Args:
        width: Channels of the first layer.
        channels: Channels C of the image.
        size: Height and width of the image, or one number for both, each at least 8.
        classes: Number of classes K; 0 is unconditional.
        spectral_norm: Normalise every weight spectrally (SN-GAN, Miyato et al. 2018).
        normalization: "batch" for the paper's batch normalisation after every convolution but the first and the
            last; "none" leaves samples independent of each other, as gradient penalties and R1 require.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 32,
        channels: int = 1,
        size: int | tuple[int, int] = 32,
        classes: int = 0,
        *,
        spectral_norm: bool = False,
        normalization: Literal["none", "batch"] = "none",
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, channels=channels)
        check_sizes(self, at_least=0, classes=classes)
        height, across = sides(self, size, at_least=8)
        stages = (min(height, across) // 4).bit_length() - 1
        self.image_shape = (channels, height, across)
        self.classes = classes
        widths = [channels] + [width << stage for stage in range(stages)]
        self.blocks = nn.ModuleList(
            _DownBlock(widths[i], widths[i + 1], batch_norm=normalization == "batch" and i > 0) for i in range(stages)
        )
        self.score = nn.Conv2d(widths[-1], 1, (height >> stages, across >> stages))
        self.projection = LabelProjection(widths[-1], classes) if classes else None
        _initialise(self)
        if spectral_norm:
            normalise_spectrum(self)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Return scores (N,) of images (N, C, H, W); `label` (N,) is unused without classes."""
        hidden = image
        for block in self.blocks:
            hidden = block(hidden)
        score: Tensor = self.score(hidden).flatten()
        if self.projection is not None:
            score = score + self.projection(hidden.sum((2, 3)), label)
        return score


class _UpBlock(nn.Module):
    """Transposed convolution, batch normalisation, ReLU; the first makes 4x4 of one pixel, the others double."""

    def __init__(self, inputs: int, outputs: int, classes: int, *, first: bool) -> None:
        super().__init__()
        stride, padding = (1, 0) if first else (2, 1)
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)
        self.norm = ConditionalBatchNorm2d(outputs, classes)

    def forward(self, hidden: Tensor, label: Tensor | None) -> Tensor:
        return F.relu(self.norm(self.conv(hidden), label))


class _DownBlock(nn.Module):
    """Strided convolution, batch normalisation where asked for, leaky ReLU: halves height and width."""

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(hidden)), 0.2)


def _initialise(network: nn.Module) -> None:
    """Draw weights from N(0, 0.02), as section 4 of the paper has it; biases start at 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, LabelProjection):
            nn.init.normal_(layer.embedding.weight, std=0.02)

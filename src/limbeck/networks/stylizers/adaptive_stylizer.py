"""Style as an image: features of the content take the statistics of the style's, and a decoder paints them."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.tensors import full_precision, precise
from limbeck.networks.roles import Stylizer, style_images

SIDE = 32  # height and width of the image that the encoder is shown to learn what it returns
RIDGE = 1e-4  # of the mean variance, added to every one
TINY = 1e-8


@final
class AdaptiveStylizer(Stylizer):
    """Encoder, exchange of statistics, decoder: one network for any style (Huang & Belongie 2017; Li et al. 2017).

    * `adain`: every channel gets the mean and standard deviation it has in the style (arXiv:1703.06868, eq. 8).
    * `whitening`: all channels together get their covariance in the style, too (arXiv:1705.08086, eq. 2 and 3). Where
      the paper takes roots by eigenvectors, whose gradients explode where two eigenvalues meet, this takes Cholesky's
      factors L, L_s (x - μ) -> L_s L⁻¹ (x - μ) + μ_s: the same covariance.

    Of a style it has never seen, it paints as well as it has seen styles: trained on a handful of pictures it only
    interpolates between these few. `encoder` and its layers, decoder.{i}, and decoder are tap paths.

    Args:
        encoder: Images (N, 3, H, W) to features (N, C, H / s, W / s), s a power of 2; `Vgg16` with `until: relu3_1`,
            as in the paper, or a network of one's own.
        exchange: "adain" or "whitening".
        strength: How much of the style is taken, in [0, 1] (their eq. 14).

    Raises:
        RecipeError: The encoder returns something else, or an argument is out of its range.
    """

    scale: Tensor

    def __init__(
        self, encoder: nn.Module, exchange: Literal["adain", "whitening"] = "adain", *, strength: float = 1.0
    ) -> None:
        super().__init__()
        if exchange not in ("adain", "whitening"):
            raise RecipeError(f"AdaptiveStylizer.exchange: expected adain or whitening, found {exchange!r}")
        if not 0 <= strength <= 1:
            raise RecipeError(f"AdaptiveStylizer.strength: expected a number in [0, 1], found {strength}")
        self.styles, self.exchange, self.strength = 0, exchange, strength
        self.encoder = encoder
        with torch.no_grad():
            found = encoder(torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1)
        self.stride = SIDE // found.shape[-1] if found.ndim == 4 else 0
        if self.stride * found.shape[-1] != SIDE or self.stride & (self.stride - 1):
            raise RecipeError(
                "AdaptiveStylizer.encoder: expected features (N, C, H / s, W / s), s a power of 2, of images"
                f" {(1, 3, SIDE, SIDE)}, found {tuple(found.shape)}"
            )
        self.register_buffer("scale", found.std().clamp(min=1e-6))  # VGG's features are in the hundreds: tanh is not
        self.decoder = _decoder(found.shape[1], self.stride)

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return images (N, 3, H, W) in [-1, 1] painted as `style` (N, 3, h, w); all sides are at least 16."""
        style = style_images(self, image, style)
        height, width = image.shape[2:]
        padded = nn.functional.pad(image, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        content, goal = self.encoder(padded), self.encoder(style)
        moved = adain(content, goal) if self.exchange == "adain" else whitened(content, goal)
        mixed = torch.lerp(content, moved, self.strength)
        found: Tensor = precise(self.decoder(mixed / self.scale)).tanh()
        return found[..., :height, :width]


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Return σ_s (x - μ) / σ + μ_s in each channel (N, C, H, W), of the style's features (N, C, h, w)."""
    wide, goals = precise(content), precise(style)
    mean, variance = wide.mean((2, 3), keepdim=True), wide.var((2, 3), correction=0, keepdim=True)
    goal, spread = goals.mean((2, 3), keepdim=True), goals.var((2, 3), correction=0, keepdim=True)
    floor = RIDGE * variance.mean(1, keepdim=True) + TINY  # a channel that is dead in the content stays so
    return ((wide - mean) * ((spread + TINY) / (variance + floor)).sqrt() + goal).to(content)


def whitened(content: Tensor, style: Tensor) -> Tensor:
    """Return L_s L⁻¹ (x - μ) + μ_s (N, C, H, W), L Lᵀ the covariance of the channels, of (N, C, h, w)."""
    with full_precision(content):
        (mean, factor), (goal, colour) = _moments(content), _moments(style)
        white = torch.linalg.solve_triangular(factor, precise(content).flatten(2) - mean, upper=False)
        found: Tensor = (colour @ white + goal).to(content).view_as(content)
    return found


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (N, C, 1) and Cholesky's factor of the covariance (N, C, C)."""
    flat = precise(features).flatten(2)
    mean = flat.mean(2, keepdim=True)
    spread = (flat - mean) @ (flat - mean).transpose(1, 2) / flat.shape[2]
    ridge = RIDGE * spread.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + TINY
    factor: Tensor = torch.linalg.cholesky(spread + ridge * torch.eye(spread.shape[1]).to(spread))
    return mean, factor


def _decoder(channels: int, stride: int) -> nn.Sequential:
    """Return the encoder's mirror image, with two convolutions for each doubling and no normalisation (section 6)."""
    layers: list[nn.Module] = []
    while stride > 1:
        after = max(8, channels // 2)
        layers += [_convolution(channels, after), nn.ReLU(), nn.Upsample(scale_factor=2), _convolution(after, after)]
        layers += [nn.ReLU()]
        channels, stride = after, stride // 2
    return nn.Sequential(*layers, _convolution(channels, 3))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")

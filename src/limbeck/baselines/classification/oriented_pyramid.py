"""Features without training: edges and bars of every direction, size and colour (Heeger & Bergen 1995)."""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes

# Rows: light, blue against yellow, red against green. Photographs vary far less in the last two than in light.
COLOURS = ((1 / 3, 1 / 3, 1 / 3), (0.5, 0.5, -1.0), (1.0, -1.0, 0.0))
REACH = 3  # pixels from the middle of a filter to its border
SIGMA = 1.5  # of its Gaussian, in pixels
FREQUENCY = 1.6  # radians a pixel: a wave is four pixels long
MEAN_GAIN, CONSTANT = 0.3, 0.1  # so that flat colour counts beside the waves in a Gram matrix, and does not drown them


@final
class OrientedPyramid(nn.Module):
    """Gabor filters on a pyramid of halvings: what a texture looks like, known without any weights.

    The Gram matrices of its levels hold which directions and colours come together and how strong each is on average,
    some of the statistics from which Portilla & Simoncelli (2000) draw textures. So it serves where style is looked
    at and no trained network is at hand: as `feature_network` of `Stylize`, `Stylization` and `Gatys`.

    Each level has 3 (4 O + 1) + 1 channels: of each colour the responses of an even and an odd filter of O directions,
    positive and negative parts apart, and its mean; and a constant, through which Gram matrices hold means as well.
    level.0, level.1, ... are tap paths. It has no parameters.

    Args:
        levels: Levels, each half as high and wide as the one before.
        orientations: Directions O, evenly over half a turn.

    Raises:
        RecipeError: A size cannot be used.
    """

    bank: Tensor
    mean: Tensor
    colours: Tensor

    def __init__(self, levels: int = 4, orientations: int = 6) -> None:
        super().__init__()
        check_sizes(self, levels=levels, orientations=orientations)
        row, column = torch.meshgrid(*2 * [torch.arange(-REACH, REACH + 1.0)], indexing="ij")
        window = torch.exp(-(row**2 + column**2) / (2 * SIGMA**2))
        window = window / window.sum()
        waves = []
        for angle in torch.arange(orientations) * (math.pi / orientations):
            along = FREQUENCY * (column * angle.cos() + row * angle.sin())
            for wave in (window * along.cos(), window * along.sin()):
                flat = wave - window * wave.sum()  # nothing to say where all is alike
                waves.append(flat * (2 / flat.abs().sum()))  # from -1 to 1 where the image is
        self.register_buffer("bank", torch.stack([*waves, window])[:, None], persistent=False)
        self.register_buffer("colours", torch.tensor(COLOURS)[..., None, None], persistent=False)
        self.level = nn.ModuleList(nn.Identity() for _ in range(levels))

    def forward(self, image: Tensor) -> Tensor:
        """Return the last level (N, 3 (4 O + 1) + 1, H / s, W / s), s = 2^(levels - 1), of (N, 3, H, W) in [-1, 1].

        Raises:
            RecipeError: The images are not RGB, or too small to be halved as often.
        """
        least = 2 ** (len(self.level) - 1)
        if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[2:]) < least:
            raise RecipeError(
                f"OrientedPyramid: expected RGB images (N, 3, H, W) of at least {least}x{least} pixels, found"
                f" {tuple(image.shape)}"
            )
        seen = F.conv2d(image, self.colours.to(image))
        for level in self.level[:-1]:
            features, mean = self._features(seen)
            level(features)
            seen = F.avg_pool2d(mean, 2)
        last: Tensor = self.level[-1](self._features(seen)[0])
        return last

    def _features(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channels of one level, and its smoothed colours (N, 3, H, W)."""
        padded = F.pad(seen.flatten(0, 1)[:, None], 4 * [REACH], mode="replicate")
        found = F.conv2d(padded, self.bank.to(seen)).view(*seen.shape[:2], len(self.bank), *seen.shape[2:])
        waves, mean = found[:, :, :-1].flatten(1, 2), found[:, :, -1]
        constant = torch.full_like(mean[:, :1], CONSTANT)
        return torch.cat([waves.relu(), (-waves).relu(), MEAN_GAIN * mean, constant], 1), mean

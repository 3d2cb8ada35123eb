"""Style transfer in a Laplacian pyramid: every band of the image gets the strength that it has in the style."""

from __future__ import annotations

from typing import final

from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.ground.resampling import resize
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Stylizer, style_images


@final
class PyramidStyle(Stylizer):
    """Each band of a Laplacian pyramid (Burt & Adelson 1983) is scaled to the style's standard deviation.

    The coarsest level gets the style's mean and deviation. So contrast, grain and colour are the style's (after
    Sunkavalli et al. 2010, without their histograms). It has no parameters.

    Args:
        levels: Bands, each of half the resolution of the one before.
        most: The largest factor of a band, so that noise does not become texture.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, levels: int = 4, most: float = 4.0) -> None:
        super().__init__()
        check_sizes(self, levels=levels)
        if not most > 0:
            raise RecipeError(f"PyramidStyle.most: expected a number above 0, found {most}")
        self.styles, self.levels, self.most = 0, levels, most

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return images (N, 3, H, W) in [-1, 1] whose bands are as strong as those of `style` (N, 3, h, w)."""
        style = style_images(self, image, style)
        bands, rest = _pyramid(image, self.levels)
        their_bands, their_rest = _pyramid(style, self.levels)
        found = (rest - _mean(rest)) * self._ratio(their_rest, rest) + _mean(their_rest)
        for band, theirs in zip(reversed(bands), reversed(their_bands), strict=True):
            size = (band.shape[2], band.shape[3])
            found = resize(found, size, "linear") + band * self._ratio(theirs, band)
        return found.clamp(-1, 1)

    def _ratio(self, style: Tensor, band: Tensor) -> Tensor:
        ratio = _spread(style) / _spread(band).clamp(min=1e-4)
        return ratio.clamp(max=self.most)


def _pyramid(image: Tensor, levels: int) -> tuple[list[Tensor], Tensor]:
    """Return the bands of images, the finest first, and what is left."""
    bands = []
    for _ in range(levels):
        height, width = image.shape[2:]
        if min(height, width) < 2:
            bands.append(image * 0)
            continue
        small = resize(image, (-(-height // 2), -(-width // 2)), "linear")
        bands.append(image - resize(small, (height, width), "linear"))
        image = small
    return bands, image


def _mean(image: Tensor) -> Tensor:
    return image.mean((2, 3), keepdim=True)


def _spread(image: Tensor) -> Tensor:
    """Return the standard deviation of every channel (N, 3, 1, 1)."""
    return image.flatten(2).std(2, correction=0)[..., None, None]

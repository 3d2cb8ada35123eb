"""What edge detectors and regions see of an image: luminance, CIE Lab, smoothed, and how steep it is.

Borders are mirrored with the edge pixel repeated, as "reflect" does in SciPy. Sums run over shifted copies in a fixed
order, so an image comes out the same alone and in a batch, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.tensors import precise

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Linear sRGB to CIE XYZ (IEC 61966-2-1), the white of daylight D65, and where Lab's cube root becomes a line.
XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)
DARK = (6 / 29) ** 3


def luminance(image: Tensor) -> Tensor:
    """Return the luminance (N, 1, H, W) in [0, 1], float32 or wider, of grey or RGB images (N, C, H, W) in [-1, 1].

    Raises:
        RecipeError: They have another number of channels.
    """
    unit = _unit(image)
    if unit.shape[1] == 1:
        return unit
    red, green, blue = (weight * unit[:, i : i + 1] for i, weight in enumerate(LUMA))
    return red + green + blue


def lab(image: Tensor) -> Tensor:
    """Return CIE L*a*b* (N, 3, H, W), L in [0, 100] and a, b about [-128, 128], of images in [-1, 1].

    Equal distances in it look about equally different. A grey image (N, 1, H, W) has a = b = 0.

    Raises:
        RecipeError: The images are neither grey nor RGB.
    """
    unit = _unit(image)
    linear = torch.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055).clamp(min=0) ** 2.4)
    if linear.shape[1] == 1:
        lightness = 116 * _root(linear) - 16
        return torch.cat([lightness, torch.zeros_like(lightness), torch.zeros_like(lightness)], 1)
    channels = linear.unbind(1)
    x, y, z = (
        _root(sum((w / white * c for w, c in zip(row, channels, strict=True)), torch.zeros_like(channels[0])))
        for row, white in zip(XYZ, WHITE, strict=True)
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Return images (N, C, H, W) after a Gaussian of standard deviation σ in pixels, cut off at 4σ."""
    kernel = gaussian(sigma)
    return along(along(image, kernel, 2), kernel, 3)


def gaussian(sigma: float) -> list[float]:
    """Return a Gaussian of 2r + 1 numbers that sum to 1, r = 4σ rounded."""
    reach = int(4 * sigma + 0.5)
    found = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1)]
    return [value / sum(found) for value in found]


def slopes(image: Tensor, smooth: Sequence[float] = (0.25, 0.5, 0.25)) -> tuple[Tensor, Tensor]:
    """Return how images (N, C, H, W) in [0, 1] rise over two pixels downwards and to the right, each in [-1, 1].

    Args:
        image: The images.
        smooth: Weights across the direction, that sum to 1: (1, 2, 1) / 4 makes it Sobel's operator.
    """
    rise = (-1.0, 0.0, 1.0)
    return along(along(image, rise, 2), smooth, 3), along(along(image, rise, 3), smooth, 2)


def along(image: Tensor, kernel: Sequence[float], dim: int) -> Tensor:
    """Return Σ_i w_i x[j + i], i from -r to r, along a dimension of `image`, for a kernel of 2r + 1 weights."""
    count, reach = image.shape[dim], len(kernel) // 2
    index = torch.arange(-reach, count + reach, device=image.device) % (2 * count)
    padded = image.index_select(dim, torch.where(index < count, index, 2 * count - 1 - index))
    found = torch.zeros_like(image)
    for start, weight in enumerate(kernel):
        if weight:
            found = found + weight * padded.narrow(dim, start, count)
    return found


def _root(value: Tensor) -> Tensor:
    """Return Lab's f(t): t^(1/3), and a line of the same slope where it is dark."""
    return torch.where(value > DARK, value.clamp(min=DARK) ** (1 / 3), value / (3 * (6 / 29) ** 2) + 4 / 29)


def _unit(image: Tensor) -> Tensor:
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise RecipeError(f"expected grey or RGB images (N, 1 or 3, H, W), found {tuple(image.shape)}")
    return (precise(image) + 1) / 2

"""Changing the size of images as MATLAB's `imresize` does, which the numbers of super-resolution are measured with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Kernel = Literal["linear", "cubic", "lanczos3"]


def resize(image: Tensor, size: tuple[int, int], kernel: Kernel = "cubic") -> Tensor:
    """Return images of another size: antialiased where they shrink, mirrored at their borders.

    Args:
        image: (N, C, H, W), of any range; values may leave it, where a kernel has negative lobes.
        size: Height and width to come.
        kernel: "linear" (bilinear), "cubic" (bicubic, Keys 1981 with a = -1/2) or "lanczos3".

    Returns:
        (N, C, *size).
    """
    rows, columns = (_weights(old, new, kernel).to(image) for old, new in zip(image.shape[2:], size, strict=True))
    return rows @ image @ columns.T


def _weights(old: int, new: int, kernel: Kernel) -> Tensor:
    """Return the matrix (new, old) that resamples `old` pixels to `new`."""
    function, support = KERNELS[kernel]
    scale = new / old
    stretch = min(scale, 1.0)  # below 1 the kernel is widened, so that it takes away what the new pixels cannot carry
    centre = (torch.arange(new, dtype=torch.float64) + 0.5) / scale - 0.5
    first = (centre - support / stretch).floor().long()
    taps = first[:, None] + torch.arange(math.ceil(2 * support / stretch) + 2)
    weight = function((centre[:, None] - taps) * stretch)
    weight = weight / weight.sum(1, keepdim=True)
    mirrored = taps % (2 * old)
    mirrored = torch.where(mirrored < old, mirrored, 2 * old - 1 - mirrored)
    return torch.zeros(new, old, dtype=torch.float64).scatter_add_(1, mirrored, weight)


def _linear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Return Keys' cubic convolution kernel (Keys 1981, eq. 15)."""
    a = x.abs()
    near, far = 1.5 * a**3 - 2.5 * a**2 + 1, -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return torch.where(a <= 1, near, torch.where(a < 2, far, 0.0))


def _lanczos3(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "linear": (_linear, 1.0),
    "cubic": (_cubic, 2.0),
    "lanczos3": (_lanczos3, 3.0),
}
"""Each kernel with half its width in pixels."""

"""How close an image is to another, and how much is in one: pure functions, one number an image.

SSIM is ours rather than torchmetrics': theirs pads the image by reflection and averages over the border too, and
the definition here is over interior pixels only, where the whole window lies inside the image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import DataError

WINDOW, SIGMA = 11, 1.5  # the Gaussian window of Wang et al. 2004, section III-C
DATA_RANGE = 2.0
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
STUDIO = (65.481, 128.553, 24.966)  # of 255, above an offset of 16
LEVELS = 256
MOST = 100.0  # dB, beyond which differences are of no account


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio, 10 log10(range² / MSE), in decibels; infinite for equal images.

    Args:
        image: (N, C, H, W) in [-1, 1].
        reference: What `image` is compared with, of the same shape.

    Returns:
        (N,), in dB.

    Raises:
        DataError: The shapes differ or are not (N, C, H, W).
    """
    image, reference = _pair(image, reference)
    return 10 * torch.log10(DATA_RANGE**2 / (image - reference).square().mean(dim=(1, 2, 3)))


def bounded_psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Return `psnr` (N,), at most 100 dB: an image that is equal would make the mean over all of them infinite."""
    return psnr(image, reference).clamp(max=MOST)


def luminance(image: Tensor) -> Tensor:
    """Return the Y of YCbCr as MATLAB's `rgb2ycbcr` has it, on which restoration is measured: (N, 1, H, W).

    Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255 for R, G, B in [0, 1] (ITU-R BT.601, studio range), here scaled
    like the images: it lies in [-0.875, 0.843], and differences are relative to the same 255 levels.

    Args:
        image: (N, 3, H, W) in [-1, 1].

    Raises:
        DataError: The images are not (N, 3, H, W).
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise DataError(f"luminance: expected RGB images (N, 3, H, W), found {tuple(image.shape)}")
    image = _at_least_float32(image)
    weights = image.new_tensor(STUDIO) / 255
    return torch.einsum("nchw,c->nhw", (image + 1) / 2, weights)[:, None] * 2 + (16 / 255 * 2 - 1)


def ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Return the structural similarity index (Wang et al. 2004, Eq. 13), averaged over channels and interior pixels.

    Intensities count from black, as in the paper: black is 0, white the range of the data. The window is an 11x11
    Gaussian of standard deviation 1.5; a pixel is interior when it lies at least 5 pixels from every border.

    Args:
        image: (N, C, H, W) in [-1, 1], at least 11x11.
        reference: What `image` is compared with, of the same shape.

    Returns:
        (N,), at most 1; 1 for equal images.

    Raises:
        DataError: The shapes differ, or the images are smaller than the window.
    """
    image, reference = _pair(image, reference)
    _at_least(image, WINDOW, "SSIM has an 11x11 window and needs images")
    luminance, contrast = _terms(image, reference)
    return (luminance * contrast).mean(dim=(1, 2, 3))


def ms_ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Return the multi-scale structural similarity (Wang, Simoncelli and Bovik 2003, Eq. 7) over five scales.

    The contrast and structure terms of every scale and the luminance of the coarsest are averaged over channels and
    interior pixels before they are raised to their exponents; a negative average counts as 0, as its power would
    not be real.

    Args:
        image: (N, C, H, W) in [-1, 1], at least 176x176: four halvings must leave 11x11.
        reference: What `image` is compared with, of the same shape.

    Returns:
        (N,), in [0, 1]; 1 for equal images.

    Raises:
        DataError: The shapes differ, or the images are too small for five scales.
    """
    image, reference = _pair(image, reference)
    _at_least(image, WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1), "MS-SSIM halves images four times and needs them")
    result = torch.ones(len(image), dtype=image.dtype, device=image.device)
    for weight in SCALE_WEIGHTS[:-1]:
        contrast = _terms(image, reference)[1].mean(dim=(1, 2, 3))
        result = result * contrast.clamp(min=0) ** weight
        image, reference = F.avg_pool2d(image, 2), F.avg_pool2d(reference, 2)
    return result * ssim(image, reference).clamp(min=0) ** SCALE_WEIGHTS[-1]


def entropy(image: Tensor) -> Tensor:
    """Return the Shannon entropy of the histogram of 256 grey levels, -sum p log2 p, in bits.

    A colour image is first made grey by its BT.601 luma; grey values are rounded to the nearest of 256 levels.

    Args:
        image: (N, C, H, W) in [-1, 1], C = 1 or 3.

    Returns:
        (N,), from 0 (one grey level) to 8 (all levels equally often).

    Raises:
        DataError: The images are not (N, 1, H, W) or (N, 3, H, W).
    """
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise DataError(f"entropy: expected grey or RGB images (N, 1 or 3, H, W), found {tuple(image.shape)}")
    image = _at_least_float32(image)
    grey = image if image.shape[1] == 1 else torch.einsum("nchw,c->nhw", image, image.new_tensor(LUMA))
    level = ((grey.flatten(1) + 1) * ((LEVELS - 1) / 2)).round().clamp(0, LEVELS - 1).long()
    count = torch.zeros(len(image), LEVELS, dtype=torch.float64, device=image.device)
    count.scatter_add_(1, level, torch.ones_like(level, dtype=torch.float64))
    nats: Tensor = torch.special.entr(count / level.shape[1]).sum(dim=1)
    return nats / math.log(2)


def normalised_entropy(image: Tensor) -> Tensor:
    """Return `entropy` as a share of the 8 bits that 256 grey levels can carry: (N,), in [0, 1]."""
    return entropy(image) / 8


def _terms(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return SSIM's luminance and contrast-structure terms at the interior pixels (N, C, H-10, W-10)."""
    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    mean_a, mean_b = _blur(image), _blur(reference)
    variance_a = _blur(image.square()) - mean_a.square()
    variance_b = _blur(reference.square()) - mean_b.square()
    covariance = _blur(image * reference) - mean_a * mean_b
    contrast = (2 * covariance + c2) / (variance_a + variance_b + c2)
    mean_a, mean_b = mean_a + DATA_RANGE / 2, mean_b + DATA_RANGE / 2  # Eq. 6 is of intensities that begin at 0
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return luminance, contrast


def _blur(image: Tensor) -> Tensor:
    """Return the Gaussian-weighted mean of every window that lies inside the image."""
    offset = torch.arange(WINDOW, dtype=image.dtype, device=image.device) - WINDOW // 2
    gaussian = torch.exp(-offset.square() / (2 * SIGMA**2))
    gaussian = gaussian / gaussian.sum()
    channels = image.flatten(0, 1).unsqueeze(1)
    rows = F.conv2d(channels, gaussian.view(1, 1, -1, 1))
    blurred = F.conv2d(rows, gaussian.view(1, 1, 1, -1))
    return blurred.view(*image.shape[:2], *blurred.shape[2:])


def _pair(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if image.shape != reference.shape or image.ndim != 4:
        found = f"{tuple(image.shape)} and {tuple(reference.shape)}"
        raise DataError(f"images to compare: expected two equal shapes (N, C, H, W), found {found}")
    return _at_least_float32(image), _at_least_float32(reference)


def _at_least_float32(image: Tensor) -> Tensor:
    return image if image.dtype == torch.float64 else image.float()


def _at_least(image: Tensor, side: int, need: str) -> None:
    height, width = image.shape[2:]
    if min(height, width) < side:
        raise DataError(f"{need} of at least {side}x{side} pixels, found {height}x{width}")

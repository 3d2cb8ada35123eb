"""The value range of images that a user has as numbers: what is declared, and what the values look like."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.data.base import to_float
from limbeck.errors import DataError, require

Range = tuple[float, float]
SIGNED: Range = (-1.0, 1.0)
USUAL: tuple[Range, ...] = (  # from narrow to wide: 0..1, signed, then 8, 10, 12, 14 and 16 bits
    (0.0, 1.0), SIGNED, (0.0, 255.0), (0.0, 1023.0), (0.0, 4095.0), (0.0, 16383.0), (0.0, 65535.0),
)  # fmt: skip


def checked_range(key: str, image_range: Sequence[float]) -> Range:
    """Return a range as (low, high).

    Raises:
        RecipeError: It is none; the message begins with `key`.
    """
    good = len(image_range) == 2 and image_range[0] < image_range[1]
    require(key, good, "[low, high] with low < high", list(image_range))
    return float(image_range[0]), float(image_range[1])


def check_values(what: str, images: Sequence[Tensor], image_range: Range, way: str) -> None:
    """Refuse images that are not in their range, or that look as if they had another one.

    Numbers cannot tell the range that they were made for, but a whole set that never goes below 0 is not in [-1, 1].
    Images of a single value tell nothing and pass.

    Args:
        what: What they are, such as "float images", after the class or the file; it begins the message.
        images: The whole set, uint8 (0..255, whatever the range) or float.
        image_range: (low, high) of the floats.
        way: How a user writes the range, with {} for its two numbers.

    Raises:
        DataError: Values are NaN or out of the range, or fit a narrower one.
    """
    for kind in {image.dtype for image in images}:
        low, high = _extent([image for image in images if image.dtype == kind])
        if kind == torch.uint8:
            if low < high <= 1:
                raise DataError(f"{what}: expected uint8 images in 0..255, found 0..1; multiply them by 255")
        else:
            _check_floats(what, low, high, image_range, way)


def _check_floats(what: str, low: float, high: float, declared: Range, way: str) -> None:
    if not math.isfinite(low + high):
        raise DataError(f"{what}: expected finite float images, found NaN or infinite values; leave those images out")
    look = next((usual for usual in USUAL if usual[0] <= low and high <= usual[1]), None)
    say = "say their range" if look is None else f"say {way.format(_text(look))} if that is their range"
    found = f"found {low:.4g}..{high:.4g}"
    if low < declared[0] or high > declared[1]:
        raise DataError(f"{what}: expected float images in [{_text(declared)}], {found}; {say}, or scale them")
    narrower = look is not None and declared in USUAL and USUAL.index(look) < USUAL.index(declared)
    if narrower and low < high:
        raise DataError(f"{what}: expected float images that use [{_text(declared)}], {found}; {say}, or give uint8")


def _extent(images: Sequence[Tensor]) -> tuple[float, float]:
    """Return the lowest and the highest value; NaN where one is NaN."""
    low = torch.stack([image.min().double() for image in images]).min().item()
    return low, torch.stack([image.max().double() for image in images]).max().item()


def signed(image: Tensor, image_range: Range) -> Tensor:
    """Return images as float32 in [-1, 1]: uint8 from 0..255, floats from their range."""
    if image.dtype == torch.uint8:
        return to_float(image)
    if image_range == SIGNED:
        return image.float()
    low, high = image_range
    return ((image.double() - low) * (2 / (high - low)) - 1).clamp_(-1, 1).float()


def _text(image_range: Range) -> str:
    return f"{image_range[0]:g}, {image_range[1]:g}"

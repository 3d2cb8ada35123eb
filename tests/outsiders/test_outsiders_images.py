"""What outsiders bring as images: numbers of any range, files of any kind, folders divided in any way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.data.base import Data, Split
from limbeck.data.pairs import LatentPairs
from limbeck.data.tensors import TensorImages
from limbeck.errors import LimbeckError


def uniform(low: float, high: float, count: int = 30) -> Tensor:
    """Images (count, 3, 4, 4) whose values reach from low to high."""
    return torch.linspace(low, high, count * 48).reshape(count, 3, 4, 4)


def tensors(folder: Path, image: Tensor, **options: Any) -> TensorImages:
    return TensorImages(image, **options)


def targets(folder: Path, image: Tensor, **options: Any) -> TensorImages:
    """The values are those of the targets."""
    return TensorImages(torch.zeros(len(image), 1, 4, 4, dtype=torch.uint8), target=image, **options)


def pairs(folder: Path, image: Tensor, **options: Any) -> LatentPairs:
    np.savez(folder / "pairs.npz", latent=np.zeros((len(image), 2), np.float32), image=image.numpy())
    return LatentPairs(str(folder / "pairs.npz"), **options)


def halves(folder: Path, image: Tensor, **options: Any) -> LatentPairs:
    """Two files, of which one is dark and one bright: the whole set counts."""
    (folder / "both").mkdir()
    for k, part in enumerate(image.flatten(1).mean(1).argsort().chunk(2)):
        np.savez(folder / f"both/{k}.npz", latent=np.zeros((len(part), 2), np.float32), image=image[part].numpy())
    return LatentPairs(str(folder / "both"), **options)


def extent(data: Data, field: str = "image") -> tuple[float, float]:
    """Return the lowest and highest value of all images that are read."""
    splits: tuple[Split, ...] = ("train", "validation", "test")
    images = [data.split(name) for name in splits]
    values = torch.cat([getattr(some.read(torch.arange(len(some))), field) for some in images])
    return round(values.min().item(), 5), round(values.max().item(), 5)


HOLDERS = (tensors, targets, pairs, halves)
UNIT, BITS12, BITS16 = {"image_range": (0, 1)}, {"image_range": (0, 4095)}, {"image_range": (0, 65535)}
# Values, arguments, and the extent that is read, or words of the message.
RANGES: dict[str, tuple[tuple[float, float], dict[str, Any], tuple[float, float] | str]] = {
    "signed": ((-1, 1), {}, (-1, 1)),
    "low contrast": ((-0.1, 0.3), {}, (-0.1, 0.3)),
    "unit": ((0, 1), {}, r"use \[-1, 1\], found 0..1; say .*image_range.*0, 1"),
    "unit, declared": ((0, 1), UNIT, (-1, 1)),
    "bright unit": ((0.5, 0.9), {}, "use .* found 0.5..0.9; say"),
    "unit declared as signed": ((0, 1), {"image_range": (-1, 1)}, r"use \[-1, 1\]"),
    "signed declared as unit": ((-1, 1), UNIT, r"in \[0, 1\], found -1..1; say .*-1, 1"),
    "8 bits": ((0, 255), {}, r"found 0..255; say .*0, 255"),
    "8 bits, declared": ((0, 255), {"image_range": (0, 255)}, (-1, 1)),
    "unit declared as 8 bits": ((0, 1), {"image_range": (0, 255)}, r"use \[0, 255\], found 0..1; say .*0, 1"),
    "12 bits declared as 16": ((0, 4095), BITS16, r"use \[0, 65535\], found 0..4095; say .*0, 4095"),
    "12 bits, declared": ((0, 4095), BITS12, (-1, 1)),
    "14 bits declared as 12": ((0, 16383), BITS12, r"in \[0, 4095\], found 0..1.638e\+04; say .*0, 16383"),
    "standardized": ((-2.1, 2.6), {}, r"found -2.1..2.6; say their range, or scale"),
    "standardized, declared": ((-2, 3), {"image_range": (-2, 3)}, (-1, 1)),
    "no range": ((-1, 1), {"image_range": (1, -1)}, r"image_range: expected \[low, high\] with low < high"),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", RANGES)
def test_ranges_of_floats(tmp_path: Path, holder: Callable[..., Data], name: str) -> None:
    (low, high), options, expected = RANGES[name]

    def act() -> tuple[float, float]:
        return extent(holder(tmp_path, uniform(low, high), **options), "image" if holder is tensors else "target")

    if isinstance(expected, str):
        with pytest.raises(LimbeckError, match=expected) as raised:
            act()
        assert "\n" not in str(raised.value)
    else:
        assert act() == pytest.approx(expected)


KINDS: dict[str, tuple[Tensor, dict[str, Any], str]] = {
    "uint16": (torch.zeros(9, 1, 4, 4, dtype=torch.uint16), {}, r"found torch.uint16; give image.float\(\) with"),
    "int32": (torch.zeros(9, 1, 4, 4, dtype=torch.int32), {}, "found torch.int32"),
    "booleans": (torch.zeros(9, 1, 4, 4, dtype=torch.bool), {}, "found torch.bool"),
    "bytes of 0 and 1": (uniform(0, 1).round().byte(), {}, "expected uint8 images in 0..255, found 0..1; multiply"),
    "NaN": (torch.where(uniform(-1, 1) > 0.99, torch.nan, uniform(-1, 1)), {}, "finite float images, found NaN"),
    "infinity": (torch.where(uniform(0, 1) > 0.99, torch.inf, uniform(0, 1)), UNIT, "finite float images, found NaN"),
}


@pytest.mark.parametrize("name", KINDS)
def test_numbers_that_are_no_images(tmp_path: Path, name: str) -> None:
    image, options, words = KINDS[name]
    with pytest.raises(LimbeckError, match=words):
        tensors(tmp_path, image, **options)

"""What the numbers of an image file mean: depth and bands, on the way to 8 bits; and how large a file may be."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import EXTRASAMPLES, TiffImageFile

from limbeck.errors import DataError, require

LARGEST = 89_478_485  # pixels from which Pillow warns: a quarter of a GiB in RGB
DEPTHS = (8, 10, 12, 14, 16)  # bits of a value that cameras and scanners have
LOOKED_AT = 8  # files of a set that are looked at for their depth
MODES = ("L", "LA", "RGB", "RGBA")  # of one to four bands


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Attributes:
        bits: Bits of a value in files of more than 8, such as 12, whose brightest value is 4095; null for all 16, and
            files of which none uses them are refused.
        bands: The bands to take, from 1 as geographers count them: [1, 2, 3] leaves out near infrared, [4, 1, 2] is
            its false colour. One is grey, three are RGB; one more is transparency. Null for all that are colour or
            transparency; a TIFF that does not say what its fourth band is, is refused.
        largest: Pixels that an image may have, height times width; a small file can claim more than memory holds.
    """

    bits: int | None = None
    bands: Sequence[int] | None = None
    largest: int = LARGEST

    def check(self, owner: str) -> None:
        """Refuse what cannot be read so; messages name `owner`, as a user writes these arguments.

        Raises:
            RecipeError: An argument that cannot be used.
        """
        require(f"{owner}bits", self.bits is None or 8 <= self.bits <= 16, "8 to 16, or null", self.bits)
        bands = self.bands
        good = bands is None or (0 < len(bands) <= 4 and min(bands) >= 1)
        require(f"{owner}bands", good, "one to four numbers from 1, or null", bands)
        require(f"{owner}largest", self.largest >= 1, "at least 1 pixel", self.largest)


PLAIN = Reading()


@contextmanager
def image_file(file: Path | zipfile.Path, largest: int = LARGEST) -> Iterator[Image.Image]:
    """Open an image file of at most so many pixels, perhaps in an archive; they are decoded when they are used.

    Raises:
        DataError: It cannot be read or decoded, or is too large.
    """
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None  # Pillow warns at its own, and raises at twice that, whatever ours is
        with file.open("rb") as stream, Image.open(stream) as image:
            if image.width * image.height > largest:
                raise DataError(
                    f"{file}: expected at most {largest} pixels, found {image.width}x{image.height}; make it"
                    f" smaller, or if you trust it set `largest` to {image.width * image.height}"
                )
            yield image
    except DataError:
        raise
    except Exception as error:  # a damaged image can raise anything
        raise DataError(f"{file}: cannot be decoded ({error}); repair or remove it") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def check_stored(image: Image.Image, reading: Reading = PLAIN) -> None:
    """Refuse an image, not decoded yet, of which Pillow would make something else.

    Raises:
        ValueError: Nobody says what its fourth band is, or it has colours of fewer than 16 bits in 16.
    """
    unknown = isinstance(image, TiffImageFile) and image.mode == "RGBA" and EXTRASAMPLES not in image.tag_v2
    if unknown and reading.bands is None:
        raise ValueError(
            "it does not say whether its fourth band is transparency or another one such as near infrared; say"
            " bands: [1, 2, 3] to leave it out, [1, 2, 3, 4] if it is transparency"
        )
    if reading.bits not in (None, 16) and _deep_colour(image):
        raise ValueError(f"bits: {reading.bits} is for grey; of colour in 16 bits the upper 8 are read: convert it")


def _deep_colour(image: Image.Image) -> bool:
    """Return whether an image that is not decoded yet has colours of 16 bits, of which Pillow keeps the upper 8."""
    tiles = getattr(image, "tile", None)  # how the pixels are stored; the mode comes first
    arguments = tiles[0][3] if tiles else ""
    raw = arguments if isinstance(arguments, str) else (arguments or ("",))[0]
    return not image.mode.startswith("I") and ";16" in str(raw)


def eight_bits(image: Image.Image, reading: Reading = PLAIN) -> Image.Image:
    """Return the bands of an image that are wanted, in 8 bits; Pillow's own conversion of 16 cuts off at 255.

    Raises:
        ValueError: Its pixels have no known range, or it lacks a band.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; convert it to 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, which some versions of Pillow widen to 32
        values, top = np.asarray(image).astype(np.int64), 2 ** (reading.bits or 16) - 1
        if values.min() < 0 or values.max() > top:
            beyond = "16 bits" if top == 65535 else f"{reading.bits} bits: found {values.max()}, expected at most {top}"
            raise ValueError(f"its pixels are beyond {beyond}")
        image = Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
    return image if reading.bands is None else _picked(image, reading.bands)


def _picked(image: Image.Image, bands: Sequence[int]) -> Image.Image:
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    found = image.getbands()
    if max(bands) > len(found):
        raise ValueError(f"bands: expected at least {max(bands)}, found {len(found)}, {' '.join(found)}")
    return Image.merge(MODES[len(bands) - 1], [image.getchannel(band - 1) for band in bands])


def check_depth(files: Sequence[Path | zipfile.Path], reading: Reading = PLAIN) -> None:
    """Refuse files of 16 bits whose values all fit into fewer, unless the depth is said.

    A few files, spread over the set, are looked at, as a single one may well be dark. What is wrong with them otherwise
    is said when they are read.

    Raises:
        DataError: The values look like 8, 10, 12 or 14 bits.
    """
    if reading.bits is not None:
        return
    levels = [_brightest(file, reading) for file in files[:: -(-len(files) // LOOKED_AT) or 1]]
    deep = [level for level in levels if level is not None]
    look = next(depth for depth in DEPTHS if max(deep, default=0) < 2**depth)
    if any(deep) and look < 16:
        raise DataError(
            f"{files[0].parent}: expected files that use their 16 bits, found {max(deep)} as the brightest value of"
            f" {len(deep)}; say bits: {look}, or bits: 16 if they are that dark"
        )


def _brightest(file: Path | zipfile.Path, reading: Reading) -> int | None:
    """Return the highest value of a file of 16 bits; None for others, and for one that cannot be read."""
    try:
        with image_file(file, reading.largest) as image:
            if _deep_colour(image):
                return 257 * int(np.asarray(image).max())
            return int(np.asarray(image).max()) if image.mode.startswith("I") else None
    except DataError:
        return None

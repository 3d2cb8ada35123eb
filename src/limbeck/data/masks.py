"""Files that tell the class of every pixel: how they are read, and what may be wrong with them."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limbeck.data.image_files import planes
from limbeck.data.pixels import LARGEST, image_file
from limbeck.errors import DataError, RecipeError, nearest, require
from limbeck.types import VOID

Rgb = tuple[int, int, int]
Bytes = NDArray[np.uint8]


class MaskCode:
    """Which values, or which colours, of a mask file stand for which classes.

    Args:
        classes: Their names, in order of their numbers: at least 1 and at most 255.
        values: The grey value or palette index of each class, such as [0, 255]; null for 0, 1, 2...
        colours: The colour [red, green, blue], 0..255, of each class; null for masks that hold values.
        void: Values that stand for no class; null for 255, unless `values` has it.
        void_colours: Colours that stand for no class.
        absent: Classes that no training mask need have. Any other that none has is an error: often its value is taken
            for void, or is that of another class.

    Raises:
        RecipeError: The arguments do not go together.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        values: Sequence[int] | None = None,
        colours: Sequence[Rgb] | None = None,
        void: Sequence[int] | None = None,
        void_colours: Sequence[Rgb] = (),
        absent: Sequence[str] = (),
    ) -> None:
        if not 0 < len(set(classes)) == len(classes) <= VOID:
            raise RecipeError(f"classes: expected 1 to {VOID} different names, found {list(classes)}")
        if colours is None and void_colours:
            raise RecipeError("void_colours: expected `colours` for the classes too, found none")
        if colours is not None and values is not None:
            raise RecipeError("values: expected either values or colours of the classes, found both")
        stranger = next((name for name in absent if name not in classes), None)
        require("absent", stranger is None, "some of the classes", stranger, nearest(str(stranger), classes))
        self.classes, self.by_colour = tuple(classes), colours is not None
        self.wanted = {number for number, name in enumerate(classes) if name not in absent}
        if colours is not None:
            own, none = [*map(_packed, colours)], [*map(_packed, void_colours)]
        else:
            own = [*range(len(classes))] if values is None else [*values]
            none = _void(own) if void is None else [*void]
        self._check(own, none)
        self.known = {**dict.fromkeys(none, VOID), **{value: number for number, value in enumerate(own)}}

    def _check(self, own: Sequence[int], none: Sequence[int]) -> None:
        """Refuse values, or packed colours, of which there are too few, or two alike."""
        what = "colours" if self.by_colour else "values"
        if len(own) != len(self.classes):
            raise RecipeError(f"{what}: expected one for each of the {len(self.classes)} classes, found {len(own)}")
        twice = next((value for value, count in Counter([*own, *none]).items() if count > 1), None)
        if twice is not None:
            found = _unpacked(twice) if self.by_colour else twice
            raise RecipeError(f"{what}: expected different ones for all classes and void, found {found} twice")

    def __repr__(self) -> str:
        """Return all that decides what is read."""
        return f"MaskCode({self.classes}, {self.by_colour}, {self.known})"

    def read(self, mask: Image.Image, file: Path | zipfile.Path) -> Bytes:
        """Return the class of every pixel (H, W), `VOID` where there is none; `file` is named when that fails.

        Raises:
            DataError: The mask has a value or colour that stands for nothing, or colours where values are expected.
        """
        codes = self._codes(mask, file)
        found = np.unique(codes)
        odd = next((code for code in found.tolist() if code not in self.known), None)
        if odd is not None:
            shown, own = (_unpacked(odd), "colours") if self.by_colour else (odd, "values")
            way = f"say by `{own}` which class it is, or by `void{'_colours' * self.by_colour}` that it is none"
            raise DataError(f"{file}: expected {self._expected()}, found {shown}; {way}")
        numbers = np.array([self.known[code] for code in found.tolist()], np.uint8)
        return numbers[np.searchsorted(found, codes)]

    def _codes(self, mask: Image.Image, file: Path | zipfile.Path) -> NDArray[np.int64]:
        if self.by_colour:
            rgb = np.asarray(mask.convert("RGB")).astype(np.int64)
            codes: NDArray[np.int64] = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
            return codes
        values = np.asarray(mask)
        if values.ndim != 2 or values.dtype.kind == "f":
            raise DataError(
                f"{file}: expected a grey or palette mask, found one of mode {mask.mode}; give the `colours` of the"
                " classes"
            )
        return values.astype(np.int64)

    def _expected(self) -> str:
        if self.by_colour:
            return "the colours of classes or void"
        own = [value for value, number in self.known.items() if number != VOID]
        none = [value for value, number in self.known.items() if number == VOID]
        given = f"{own[0]}..{own[-1]}" if own == [*range(len(own))] else f"{own}"
        return f"the values {given} of {len(own)} classes{f' or void {none}' if none else ''}"


def _void(values: Sequence[int]) -> list[int]:
    """Return the values that stand for no class where it is not said which do: 255, unless a class has it."""
    return [] if VOID in values else [VOID]


def opened_mask(file: Path | zipfile.Path, largest: int = LARGEST) -> Image.Image:
    """Return a mask file of at most so many pixels, perhaps in an archive, with the values that it stores.

    An image is turned as its own EXIF orientation says. One without that tag stays as it is: most annotation tools show
    a photograph upright and write what was drawn there. An array of NumPy (.npy) is (H, W) of whole numbers, or
    (H, W, 3) of colours, uint8.

    Raises:
        DataError: It cannot be read or decoded, is too large, or is no mask.
    """
    if file.suffix.lower() == ".npy":
        return _of_array(file, largest)
    with image_file(file, largest) as mask:
        mask.load()
        return ImageOps.exif_transpose(mask)


def _of_array(file: Path | zipfile.Path, largest: int) -> Image.Image:
    """Return the array of a file as an image."""
    try:
        with file.open("rb") as stream:
            values = np.load(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: cannot be read as an array ({error}); save it again by numpy.save") from error
    if values.dtype == np.uint8 and values.ndim == 3 and values.shape[2] == 3 and values.size:
        return Image.fromarray(values)
    if values.ndim != 2 or values.dtype.kind not in "iub" or not values.size:
        raise DataError(
            f"{file}: expected an array (H, W) of whole numbers, found {values.shape} of {values.dtype}; save the"
            " number of each pixel's class"
        )
    if values.size > largest:
        raise DataError(
            f"{file}: expected at most {largest} pixels, found {values.shape}; if you trust it set `largest`"
        )
    low, high = int(values.min()), int(values.max())
    if not -(2**31) <= low <= high < 2**31:
        raise DataError(f"{file}: expected values of 32 bits, found {low}..{high}")
    return Image.fromarray(values.astype(np.int32))


def blurred_classes(labels: Image.Image, colours: Sequence[Rgb], plain: float = 40.0, reach: int = 2) -> Bytes:
    """Return the class (h, w) of every pixel of a picture (RGB) in the colours of classes whose edges JPEG has blurred.

    The colour between two classes is often that of a third. So a pixel has the class of the nearest colour among those
    that are plainly there close by, and is `VOID` where none is.

    Args:
        labels: The picture.
        colours: The RGB (0..255) of each class.
        plain: How far from its class's a colour may be to be plainly that: about half of the way to the next.
        reach: How many pixels, across and down, are close by.
    """
    pixels = torch.from_numpy(planes(labels, 3)).float().flatten(1)
    palette = torch.tensor(colours, dtype=torch.float32)
    far = torch.cdist(pixels.T, palette, compute_mode="donot_use_mm_for_euclid_dist")  # exact on every machine
    far = far.T.reshape(len(colours), labels.height, labels.width)
    close = F.max_pool2d((far < plain).float(), 2 * reach + 1, 1, reach) > 0
    distance, nearest = far.masked_fill(~close, torch.inf).min(0)
    classes: Bytes = nearest.masked_fill(distance.isinf(), VOID).byte().numpy()
    return classes


def marked(mask: Image.Image) -> NDArray[np.bool_]:
    """Return which pixels (H, W) of a mask are not zero; how transparent they are does not count."""
    values = np.asarray(mask).reshape(mask.height, mask.width, -1)
    if mask.mode in ("RGBA", "LA"):
        values = values[..., :-1]
    found: NDArray[np.bool_] = (values != 0).any(2)
    return found


def same_size(image: Image.Image, mask: Image.Image, file: Path | zipfile.Path) -> None:
    """Raise DataError, naming the mask's `file`, unless a mask has the size of its image."""
    if image.size != mask.size:
        exchanged = mask.size == image.size[::-1]
        way = "; turn it as the EXIF orientation of its image says, or give it that tag" if exchanged else ""
        raise DataError(
            f"{file}: expected a mask of {image.width}x{image.height} pixels as its image has, found"
            f" {mask.width}x{mask.height}{way}"
        )


def fitted(image: Image.Image, classes: Bytes, size: tuple[int, int], channels: int) -> tuple[Bytes, Bytes]:
    """Return an image (channels, H, W) and the classes of its pixels (H, W) at the given size (H, W).

    What is too long for the shape of `size` is cut off on both ends; then the image is resized with an antialiased
    bicubic kernel, and each pixel of the mask gets the class of the nearest one.
    """
    sides = size[1], size[0]
    smooth = ImageOps.fit(image, sides, Image.Resampling.BICUBIC)
    hard = ImageOps.fit(Image.fromarray(classes), sides, Image.Resampling.NEAREST)
    return planes(smooth, channels), np.array(hard)


def _packed(colour: Rgb) -> int:
    if len(colour) != 3 or not all(0 <= level <= 255 for level in colour):
        raise RecipeError(f"colours: expected three numbers 0..255 each, found {list(colour)}")
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _unpacked(code: int) -> Rgb:
    return code >> 16, code >> 8 & 255, code & 255

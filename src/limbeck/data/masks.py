"""Files that tell the class of every pixel: how they are read and found, and what may be wrong with them."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limbeck.data.image_files import list_images, planes
from limbeck.data.pixels import LARGEST, image_file
from limbeck.errors import DataError, RecipeError, nearest
from limbeck.types import VOID

Rgb = tuple[int, int, int]
Bytes = NDArray[np.uint8]
Masks = dict[str, Path]  # the mask files of an image by class; "" for one file of all classes


class MaskCode:
    """Which values, or which colours, of a mask file stand for which classes.

    Args:
        classes: Their names, in order of their numbers: at least 1 and at most 255.
        values: The grey value or palette index of each class, such as [0, 255]; null for 0, 1, 2...
        colours: The colour [red, green, blue], 0..255, of each class; null for masks that hold values.
        void: Values that stand for no class; null for 255, unless `values` has it.
        void_colours: Colours that stand for no class.

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
    ) -> None:
        if not 0 < len(set(classes)) == len(classes) <= VOID:
            raise RecipeError(f"classes: expected 1 to {VOID} different names, found {list(classes)}")
        if colours is None and void_colours:
            raise RecipeError("void_colours: expected `colours` for the classes too, found none")
        if colours is not None and values is not None:
            raise RecipeError("values: expected either values or colours of the classes, found both")
        self.classes, self.by_colour = tuple(classes), colours is not None
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
            raise DataError(f"{file}: expected {self._expected()}, found {_unpacked(odd) if self.by_colour else odd}")
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

    Raises:
        DataError: It cannot be read or decoded, or is too large.
    """
    with image_file(file, largest) as mask:
        mask.load()
        return mask


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
        raise DataError(
            f"{file}: expected a mask of {image.width}x{image.height} pixels as its image has, found"
            f" {mask.width}x{mask.height}"
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


def paired(image_folder: Path, mask_folder: Path, base: Path, classes: Sequence[str]) -> dict[Path, Masks]:
    """Return the mask files in one folder of every image in another, all relative to `base`.

    Raises:
        DataError: There are no images, one has no mask, or a mask has no image.
    """
    images, masks = _listed(image_folder), _listed(mask_folder)
    own = _by_stem(images, image_folder)
    within, tops = {*map(_top, images)} - {""}, {*map(_top, masks)}
    found: dict[Path, Masks] = {stem: {} for stem in own}
    if "" not in tops and tops & set(classes) and not tops & within:  # one file a class
        for top in sorted(tops):
            _add_class(found, top, masks, mask_folder, classes)
    else:
        _add(found, "", _by_stem(masks, mask_folder), mask_folder)
    _check_all_masked(image_folder, mask_folder, [own[stem] for stem, some in found.items() if not some])
    return {
        (image_folder / own[stem]).relative_to(base): {n: f.relative_to(base) for n, f in some.items()}
        for stem, some in found.items()
    }


def _check_all_masked(image_folder: Path, mask_folder: Path, bare: Sequence[Path]) -> None:
    """Refuse images without a mask."""
    if bare:
        raise DataError(
            f"{image_folder / bare[0]}: expected its mask {mask_folder / bare[0].stem}.*, found none{_more(bare)}"
        )


def _add_class(found: dict[Path, Masks], top: str, masks: Sequence[Path], folder: Path, classes: Sequence[str]) -> None:
    """Add the masks in the folder `top` of a class to those of the images."""
    if top not in classes:
        raise DataError(
            f"{folder / top}: expected a folder of the class {', '.join(classes)}, found {top!r}{nearest(top, classes)}"
        )
    inner = _by_stem([file.relative_to(top) for file in masks if file.parts[0] == top], folder / top)
    _add(found, top, inner, folder / top)


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder.parent}: expected subfolders images and masks, found no {folder.name}")
    files = list_images(folder, folder)
    if not files:
        raise DataError(f"{folder}: expected images, found none")
    return files


def _top(file: Path) -> str:
    """Return the first folder of a relative path, or ""."""
    return file.parts[0] if len(file.parts) > 1 else ""


def _by_stem(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return files by their path without the ending."""
    found: dict[Path, Path] = {}
    for file in files:
        twin = found.setdefault(file.with_suffix(""), file)
        if twin != file:
            raise DataError(f"{folder / file}: expected one file of this name, found {twin.name} too; remove one")
    return found


def _add(found: dict[Path, Masks], name: str, masks: Mapping[Path, Path], folder: Path) -> None:
    """Add the masks of a class, by stem, to those of the images."""
    stray = [file for stem, file in masks.items() if stem not in found]
    if stray:
        raise DataError(f"{folder / stray[0]}: expected an image of this name, found none{_more(stray)}")
    for stem, file in masks.items():
        found[stem][name] = folder / file


def _more(files: Sequence[Path]) -> str:
    return f" (and {len(files) - 1} more)" if len(files) > 1 else ""


def _packed(colour: Rgb) -> int:
    if len(colour) != 3 or not all(0 <= level <= 255 for level in colour):
        raise RecipeError(f"colours: expected three numbers 0..255 each, found {list(colour)}")
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _unpacked(code: int) -> Rgb:
    return code >> 16, code >> 8 & 255, code & 255

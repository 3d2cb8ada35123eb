"""Any folder of images beside masks that tell the class of every pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limbeck.data.base import Data, Images, InMemory, Split, taken, to_float
from limbeck.data.image_files import decode_all, existing, glimpse, opened
from limbeck.data.mask_census import known, named, occurring
from limbeck.data.mask_labels import named_classes
from limbeck.data.mask_layout import Layout, Masks, masked_parts
from limbeck.data.masks import Bytes, MaskCode, fitted, marked, opened_mask, same_size
from limbeck.data.pixels import PLAIN, Reading, check_depth
from limbeck.data.splits import Divided, check_images
from limbeck.errors import DataError, RecipeError, nearest
from limbeck.types import VOID, Batch


@final
class MaskFolder(Data):
    """Images in the subfolder `images`, and their masks, of the same names up to the ending or a suffix, in `masks`.

    PASCAL VOC's and other usual layouts are known too, see `Layout`. A mask is a grey or palette image, or an array of
    NumPy (H, W), whose values are class numbers, or any image whose colours stand for classes (`colours`), or one file
    for each class, `masks/<class>/<name>.png`, not zero where that class is; where several classes mark a pixel, the
    last in the order of `classes` counts. Values that stand for other classes, such as 0 and 255, are said by `values`:
    a class that no training mask has is an error, unless it is named in `absent`.

    A photograph is turned as its EXIF orientation says, a mask as its own does. So a mask without that tag belongs to
    the photograph as it is seen upright, which is what annotation tools show.

    Folders for training, validation and test are known as in `ImageFolder`, each with `images` and `masks`, or each in
    both of these; a split without a folder is held out of the training images as there, by the SHA-256 of the image's
    path.

    Args:
        path: The folder; a relative one is looked for here, then in the data root.
        classes: Names of the classes, in order of their numbers; or a JSON file of them, as {"0": "sky", "7": "road"},
            or as a list with `name` and perhaps `id` or `color`, which are then `values` or `colours`.
        size: Height and width that images and masks are brought to, or one side for both: what is too long for
            that shape is cut off on both ends, then images are resized with a bicubic kernel and masks to the nearest
            pixel.
        channels: 3 for RGB, 1 for grey.
        rest: With one file a class, the class of the pixels that none marks; null: they are void.
        name: What results are filed under; null for the folder's name.
        options: `values`, `colours`, `void`, `void_colours` and `absent`, which say what masks hold: see `MaskCode`;
            `images`, `masks` and `suffix`: see `Layout`; `streaming`, `validation` and `test`: see `Divided`; `bits`,
            `bands` and `largest`: see `Reading`.

    Raises:
        DataError: The folder is missing or empty, an image has no mask or a mask no image; on reading, a file is
            damaged, of the wrong size, or has labels that stand for nothing; or the training masks lack a class, or
            those of a split are void alone.
        RecipeError: An argument that cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (MaskCode, Layout, Divided, Reading)

    def __init__(
        self,
        path: str,
        classes: Sequence[str] | str,
        size: int | tuple[int, int] = 256,
        channels: int = 3,
        *,
        rest: str | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        check_images(self, channels, height, width)
        divided, layout, self.reading = taken(Divided, options), taken(Layout, options), taken(Reading, options)
        divided.check(self)
        self.reading.check("MaskFolder.")
        self.path = existing(path)
        names, told = named_classes(classes, self.path)
        if "values" not in options and "colours" not in options:
            options |= told
        try:
            self.code = MaskCode(names, **options)
        except RecipeError as error:
            raise RecipeError(f"MaskFolder.{error}") from None
        self.rest = _number(rest, names)
        self.name = name or self.path.resolve().name
        self.image_shape, self.mask_classes = (channels, height, width), names
        parts = masked_parts(self.path, layout, names)
        self._masks = {image: masks for part in parts.values() for image, masks in part.items()}
        if rest is not None and any("" in masks for masks in self._masks.values()):
            raise RecipeError("MaskFolder.rest: expected one mask file a class, found one of all classes; leave it out")
        check_depth([self.path / image for image in self._masks], self.reading)
        self.streaming = divided.streams(len(self._masks) * (channels + 1) * height * width)
        self._files = divided.split({part: list(masks) for part, masks in parts.items()})
        self._splits: dict[Split, Images] = {}

    def split(self, name: Split) -> Images:
        """Return the samples of a split: decoded on the first call, or when they are read if streaming."""
        if name not in self._splits:
            files = {image: self._masks[image] for image in self._files[name]}
            if not files:
                raise DataError(f"{self.path}: no image is left for the {name} split; add some, or hold out others")
            first = next(iter(self._masks.values())).get("")
            given = self.path, files, self.image_shape, self.code
            images = MaskedFiles(*given, rest=self.rest, like=first, reading=self.reading)
            held = images if self.streaming else images.in_memory()
            self._check_classes(held, name)
            self._splits[name] = held
        return self._splits[name]

    def _check_classes(self, images: Images, split: Split) -> None:
        """Refuse a split whose masks are void alone, and training masks that lack a class."""
        wanted = self.code.wanted if split == "train" else set()
        found = occurring(images, lambda seen: known(seen) and wanted <= seen)
        if not known(found):
            raise DataError(f"{self.path}: expected classes in the {split} masks, found void alone{self._way(found)}")
        if not wanted <= found:
            missing, way = named(wanted - found, self.mask_classes), self._way(found)
            raise DataError(
                f"{self.path}: expected every class in the {split} masks, found no pixel of {missing}{way}, or"
                " if it is known to be missing name it in `absent`"
            )

    def _way(self, found: set[int]) -> str:
        """Return how to mend what masks are taken for."""
        values = [value for value, number in self.code.known.items() if number == VOID]
        if self.code.by_colour:
            return "; check `colours` and `void_colours`"
        if VOID in found and values == [VOID]:
            own = [value for value, number in self.code.known.items() if number in found - {VOID}]
            return f"; {VOID} is taken for void: if it is a class, say which value is which, as values: {[*own, VOID]}"
        return "; say by `values` which value is which class, and by `void` which are none"


def _number(rest: str | None, classes: Sequence[str]) -> int:
    """Return the class of the pixels that no file of a class marks."""
    if rest is None:
        return VOID
    if rest not in classes:
        raise RecipeError(f"MaskFolder.rest: expected one of the classes, found {rest!r}{nearest(rest, classes)}")
    return list(classes).index(rest)


class MaskedFiles(Images):
    """Images and masks that are decoded when they are read.

    Args:
        folder: What the files are relative to.
        files: The mask files of each image, in the order of their indices.
        image_shape: (C, H, W) that they are brought to.
        code: What values and colours of masks stand for.
        rest: The class of pixels that no file of a class marks.
        like: The mask file whose palette all others must have; None with one file a class.
        reading: What the numbers of the images mean, and how large they and their masks may be.
    """

    streaming = True

    def __init__(
        self,
        folder: Path,
        files: Mapping[Path, Masks],
        image_shape: tuple[int, int, int],
        code: MaskCode,
        *,
        rest: int,
        like: Path | None,
        reading: Reading = PLAIN,
    ) -> None:
        self.folder, self.files, self.masks = folder, list(files), list(files.values())
        self.image_shape, self.code, self.rest, self.like = image_shape, code, rest, like
        self.reading = reading

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices`, decoded now."""
        image, mask = zip(*map(self._decode, indices.tolist()), strict=True)
        return Batch(image=to_float(torch.stack(image)), mask=torch.stack(mask).long(), index=indices)

    def labels(self) -> None:
        """Return None: only pixels have classes."""

    def fingerprint(self) -> str:
        """Return a hash of how files are read, and of every file's path, size, first and last 4 KiB."""
        digest = hashlib.sha256(repr((self.image_shape, self.code, self.rest, self.reading)).encode())
        for image, masks in zip(self.files, self.masks, strict=True):
            for file in (image, *masks.values()):
                digest.update(glimpse(self.folder, file))
        return digest.hexdigest()[:16]

    def in_memory(self) -> InMemory:
        """Return the same samples, all decoded now.

        Raises:
            DataError: Some cannot be decoded; the message names the first of them.
        """
        image = torch.empty((len(self), *self.image_shape), dtype=torch.uint8)
        mask = torch.empty((len(self), *self.image_shape[1:]), dtype=torch.uint8)
        for i, decoded in decode_all(self._decode, len(self)):
            image[i], mask[i] = decoded
        return InMemory(image, mask=mask)

    def _decode(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image (C, H, W) and its mask (H, W), uint8."""
        channels, height, width = self.image_shape
        image = opened(self.folder / self.files[index], channels, self.reading)
        masks = self.masks[index]
        classes = self._whole(image, masks[""]) if "" in masks else self._parts(image, masks)
        pixels, mask = fitted(image, classes, (height, width), channels)
        return torch.from_numpy(pixels), torch.from_numpy(mask)

    def _whole(self, image: Image.Image, file: Path) -> Bytes:
        """Return the classes (h, w) of an image's pixels from one file of all classes."""
        mask = opened_mask(self.folder / file, self.reading.largest)
        same_size(image, mask, self.folder / file)
        if not self.code.by_colour:
            self._check_palette(mask, self.folder / file)
        return self.code.read(mask, self.folder / file)

    def _parts(self, image: Image.Image, files: Masks) -> Bytes:
        """Return the classes (h, w) of an image's pixels from one file for each class."""
        classes = np.full((image.height, image.width), self.rest, np.uint8)
        for number, name in enumerate(self.code.classes):
            if name in files:
                mask = opened_mask(self.folder / files[name], self.reading.largest)
                same_size(image, mask, self.folder / files[name])
                classes[marked(mask)] = number
        return classes

    @cached_property
    def _palette(self) -> list[int] | None:
        assert self.like is not None
        return opened_mask(self.folder / self.like, self.reading.largest).getpalette()

    def _check_palette(self, mask: Image.Image, file: Path) -> None:
        """Raise DataError where a value has another colour than in the first mask, and so may mean another class."""
        own, first = mask.getpalette(), self._palette
        if own is None or first is None:
            if own is not first:
                kind, other = ("a", "none") if own is None else ("no", "one")
                raise DataError(f"{file}: expected {kind} palette as in {self.like}, found {other}; give `colours`")
            return
        for value in np.unique(np.asarray(mask)).tolist():
            here, there = own[3 * value : 3 * value + 3], first[3 * value : 3 * value + 3]
            if here and there and here != there:
                raise DataError(
                    f"{file}: expected the palette of {self.like}, where {value} is {there}, found {here}; give"
                    " `colours`"
                )

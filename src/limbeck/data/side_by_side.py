"""Pictures that hold an image and what it should become side by side, as the field's paired translation sets do."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from limbeck.data.base import Data, InMemory, Split, data_root
from limbeck.data.image_files import (
    ENDINGS,
    decode_all,
    is_picture,
    opened,
    planes,
    readable,
    survey,
    tell_aside,
    there,
)
from limbeck.data.masks import Bytes, Rgb, blurred_classes
from limbeck.data.pixels import Reading, check_depth
from limbeck.data.splits import check_parts, hold_out, laid_out
from limbeck.errors import DataError, RecipeError
from limbeck.types import VOID

FACADES = Path("facades")
PACK = FACADES / "facades_110.zip"
ADDRESS = "https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/facades.tar.gz"
COLOURS: dict[str, Rgb] = {
    "background": (0, 0, 222), "facade": (0, 48, 255), "window": (0, 128, 255), "door": (0, 207, 255),
    "cornice": (32, 255, 224), "sill": (112, 255, 143), "balcony": (192, 255, 63), "blind": (255, 239, 0),
    "deco": (255, 159, 0), "molding": (255, 80, 0), "pillar": (255, 0, 0), "shop": (174, 0, 0),
}  # fmt: skip
Place = Path | zipfile.Path


class SideBySide(Data):
    """Pairs for image-to-image translation, in the layout of pix2pix (Isola et al. 2017, arXiv:1611.07004).

    Each picture of a folder, or of a zip archive, is an image and its target side by side, of the same size. Folders
    for training, validation and test are known as in `ImageFolder`; a split that is not there is held out of the
    training pictures. Unpaired pictures in folders such as `trainA` and `trainB`, the layout of CycleGAN, are refused.
    All are RGB and held in memory.

    Args:
        path: The folder or archive; a relative one is looked for here, then in the data root.
        size: Height and width of images and targets, or one side for both: what is too long for that shape is cut off
            on both ends, then they are resized with an antialiased bicubic kernel.
        input: Which half is `image`; the other one is `target`.
        validation: Part of the pictures held out for validation where there is no folder for it; 0 for none.
        test: Part of the pictures held out for testing where there is no folder for it; 0 for none.
        name: What results are filed under; null for the folder's or archive's name.
        reading: `bits`, `bands` and `largest`: see `Reading`.

    Raises:
        DataError: There is no such folder, or no picture in it, or its subfolders look like splits and it is not clear
            of what; on reading, a picture is damaged or has no two halves.
        RecipeError: An argument that cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Reading,)

    def __init__(
        self,
        path: str,
        size: int | tuple[int, int] = 256,
        input: Literal["left", "right"] = "left",
        *,
        validation: float = 0.1,
        test: float = 0.1,
        name: str | None = None,
        **reading: Any,
    ) -> None:
        own = type(self).__name__
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise RecipeError(f"{own}.size: expected sides of at least 1 pixel, found {size}")
        if input not in ("left", "right"):
            raise RecipeError(f"{own}.input: expected 'left' or 'right', found {input!r}")
        check_parts(own, validation, test)
        self.reading = Reading(**reading)
        self.reading.check(f"{own}.")
        self.path, self.input = _existing(path), input
        self.name = name or self.path.resolve().stem
        self.image_shape = (3, height, width)
        parts, base = _by_part(self.path), self._base
        check_depth([base / file.as_posix() for some in parts.values() for file in some], self.reading)
        self._files = hold_out(parts, validation, test)
        self._splits: dict[Split, InMemory] = {}

    @property
    def _base(self) -> Place:
        """What the pictures are in."""
        return self.path if self.path.is_dir() else zipfile.Path(self.path)

    def gives(self) -> tuple[str, ...]:
        """Return the fields of its batches, the targets among them."""
        return (*super().gives(), "target")

    def split(self, name: Split) -> InMemory:
        """Return the pairs of a split, decoded on the first call."""
        if name not in self._splits:
            self._splits[name] = self._load(name)
        return self._splits[name]

    def _load(self, name: Split) -> InMemory:
        files = self._files[name]
        if not files:
            raise DataError(f"{self.path}: no picture is left for the {name} split; add some, or hold out others")
        base = self._base
        pair = torch.empty((2, len(files), *self.image_shape), dtype=torch.uint8)
        masks = torch.empty((len(files), *self.image_shape[1:]), dtype=torch.uint8) if self.mask_classes else None
        for i, (halves, mask) in decode_all(lambda i: self._decode(base / files[i].as_posix()), len(files)):
            pair[:, i] = halves
            if masks is not None and mask is not None:
                masks[i] = mask
        image, target = pair if self.input == "left" else pair.flip(0)
        return InMemory(image, mask=masks, target=target)

    def _decode(self, file: Place) -> tuple[Tensor, Tensor | None]:
        """Return a picture's left and right half (2, 3, H, W) and the classes of their pixels (H, W) or None, uint8."""
        picture = opened(file, 3, self.reading)
        if picture.width % 2 or picture.width < 2:
            raise DataError(
                f"{file}: expected two halves side by side, an even number of pixels across, found {picture.width}"
            )
        middle, sides = picture.width // 2, self.image_shape[:0:-1]
        boxes = (0, 0, middle, picture.height), (middle, 0, picture.width, picture.height)
        halves = [picture.crop(box) for box in boxes]
        pixels = [planes(ImageOps.fit(half, sides, Image.Resampling.BICUBIC), 3) for half in halves]
        pair, classes = torch.from_numpy(np.stack(pixels)), self._classes(halves[1], file)
        if classes is None:
            return pair, None
        mask = ImageOps.fit(Image.fromarray(classes), sides, Image.Resampling.NEAREST)
        return pair, torch.from_numpy(np.array(mask))

    def _classes(self, right: Image.Image, file: Place) -> Bytes | None:
        """Return the classes (h, w) of the pixels of a picture, where its right half tells them; here it does not."""
        return None


class Facades(SideBySide):
    """CMP facades, as pix2pix has them: from a picture of labels to the photograph of a house, with masks.

    Read from the data root: `facades/{train,val,test}/*.jpg`, 400, 100 and 106 pairs of 256x256, or the archive
    `facades/facades_110.zip`, 80, 10 and 20 of them. (Tyleček and Šára 2013; for research.)

    Masks are read off the picture of labels at its own size, then resized to the nearest pixel. JPEG has blurred its
    edges, and the colour between two classes is often that of a third: a pixel's class is the nearest in colour of
    those that are plainly there within two pixels. It is void where none is, as are 1.3 % of the archive's pixels.

    Args:
        part: "full" for the folders, "pack" for the archive; null for the folders when they are there, else the
            archive. The name says which: "facades" or "facades-110".
        size: Height and width of images, targets and masks, or one side for all.
        reverse: From the photograph to its labels; masks are the same.
        root: Folder of data sets; null for the environment's LIMBECK_DATA, else ~/.cache/limbeck/data.

    Raises:
        DataError: The data is not there; on reading, a picture has no labels in its right half.
        RecipeError: An argument that cannot be used.
    """

    mask_classes = tuple(COLOURS)

    def __init__(
        self,
        part: Literal["full", "pack"] | None = None,
        *,
        size: int | tuple[int, int] = 256,
        reverse: bool = False,
        root: str | None = None,
    ) -> None:
        if part not in (None, "full", "pack"):
            raise RecipeError(f"Facades.part: expected 'full', 'pack' or null, found {part!r}")
        folder, pack = (data_root(root) / place for place in (FACADES, PACK))
        full = part == "full" or (part is None and there(folder / "train"))
        if not there(folder / "train" if full else pack):
            raise DataError(
                f"facades: expected {folder / 'train'}, val and test (they are in {ADDRESS}), or {pack}, found none"
            )
        name = "facades" if full else "facades-110"
        super().__init__(str(folder if full else pack), size, "left" if reverse else "right", name=name)

    def _classes(self, right: Image.Image, file: Place) -> Bytes:
        """Return the classes (h, w) of a picture of labels.

        Raises:
            DataError: Most of its pixels have no colour of a class.
        """
        classes = blurred_classes(right, list(COLOURS.values()))
        void = (classes == VOID).mean()
        if void > 0.5:
            raise DataError(
                f"{file}: expected a right half in the {len(COLOURS)} colours of the classes of facades, found"
                f" {void:.0%} of its pixels in none; are the halves exchanged?"
            )
        return classes


def _existing(path: str) -> Path:
    here = Path(path).expanduser()
    places = [here] if here.is_absolute() else [here, data_root() / here]
    found = next((place for place in places if there(place)), None)
    if found is None:
        raise DataError(f"no such folder or archive of pairs: {' or '.join(map(str, places))}")
    return found


def _pictures(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the pictures of a folder or archive, by their path in it, in order, and those that are not read."""
    if path.is_dir():
        return survey(path, path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [Path(name) for name in archive.namelist() if is_picture(Path(name).name)]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected a folder or a zip archive of pairs ({error})") from error
    shown = sorted(n for n in names if not any(p.startswith((".", "__MACOSX")) for p in n.parts))
    return [n for n in shown if n.suffix.lower() in ENDINGS], [n for n in shown if n.suffix.lower() not in ENDINGS]


def _by_part(path: Path) -> dict[str, list[Path]]:
    """Return the pictures of a folder or archive by the split whose folder they are in, or all of them as "all".

    Raises:
        DataError: There are none, or they are no pairs.
    """
    images, aside = _pictures(path)
    tell_aside(path, images, aside)
    if not images:
        raise DataError(f"{path}: expected pictures ({' '.join(sorted(ENDINGS))}), found none")
    folders = {part for file in images for part in file.parts[:-1]}
    unpaired = next((name for name in sorted(folders) if name[-1] == "A" and name[:-1] + "B" in folders), None)
    if unpaired is not None:
        raise DataError(
            f"{path}: expected two halves side by side in each picture, found folders {unpaired} and {unpaired[:-1]}B,"
            " which hold one half each; join the pairs, or leave unpaired pictures (of CycleGAN) away"
        )
    return readable(laid_out([*images, *aside], path), set(images), path)

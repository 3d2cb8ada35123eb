"""Pictures that hold an image and what it should become side by side, as the field's paired translation sets do."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import torch
from PIL import Image, ImageOps

from limbeck.data.base import Data, InMemory, Split, data_root
from limbeck.data.folder import ENDINGS, PARTS, check_parts, decode_all, hold_out, list_images, opened, planes, there
from limbeck.errors import DataError, RecipeError

FACADES = Path("facades")
PACK = FACADES / "facades_110.zip"
ADDRESS = "https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/facades.tar.gz"


class SideBySide(Data):
    """Pairs for image-to-image translation, in the layout of pix2pix (Isola et al. 2017, arXiv:1611.07004).

    Each picture of a folder, or of a zip archive, is an image and its target side by side, of the same size. Pictures
    in `train`, `val` (or `validation`) and `test` are split so; a split that is not there is held out of the training
    pictures as in `ImageFolder`. All are RGB and held in memory.

    Args:
        path: The folder or archive; a relative one is looked for here, then in the data root.
        size: Height and width of images and targets, or one side for both: what is too long for that shape is cut off
            on both ends, then they are resized with an antialiased bicubic kernel.
        input: Which half is `image`; the other one is `target`.
        validation: Part of the pictures held out for validation where there is no folder for it; 0 for none.
        test: Part of the pictures held out for testing where there is no folder for it; 0 for none.
        name: What results are filed under; null for the folder's or archive's name.

    Raises:
        DataError: There is no such folder, or no picture in it; on reading, one is damaged or has no two halves.
        RecipeError: An argument that cannot be used.
    """

    def __init__(
        self,
        path: str,
        size: int | tuple[int, int] = 256,
        input: Literal["left", "right"] = "left",
        *,
        validation: float = 0.1,
        test: float = 0.1,
        name: str | None = None,
    ) -> None:
        own = type(self).__name__
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise RecipeError(f"{own}.size: expected sides of at least 1 pixel, found {size}")
        if input not in ("left", "right"):
            raise RecipeError(f"{own}.input: expected 'left' or 'right', found {input!r}")
        check_parts(own, validation, test)
        self.path, self.input = _existing(path), input
        self.name = name or self.path.resolve().stem
        self.image_shape = (3, height, width)
        self._files = hold_out(_by_part(_pictures(self.path)), validation, test)
        self._splits: dict[Split, InMemory] = {}

    def split(self, name: Split) -> InMemory:
        """Return the pairs of a split, decoded on the first call."""
        if name not in self._splits:
            self._splits[name] = self._load(name)
        return self._splits[name]

    def _load(self, name: Split) -> InMemory:
        files = self._files[name]
        if not files:
            raise DataError(f"{self.path}: no picture is left for the {name} split; add some, or hold out others")
        base = self.path if self.path.is_dir() else zipfile.Path(self.path)
        pair = torch.empty((2, len(files), *self.image_shape), dtype=torch.uint8)
        for i, halves in decode_all(lambda i: self._halves(base / files[i].as_posix()), len(files)):
            pair[:, i] = halves
        image, target = pair if self.input == "left" else pair.flip(0)
        return InMemory(image, target=target)

    def _halves(self, file: Path | zipfile.Path) -> torch.Tensor:
        """Return the left and the right half of a picture, (2, 3, H, W), uint8."""
        picture = opened(file, 3)
        if picture.width % 2 or picture.width < 2:
            raise DataError(
                f"{file}: expected two halves side by side, an even number of pixels across, found {picture.width}"
            )
        middle, sides = picture.width // 2, self.image_shape[:0:-1]
        boxes = (0, 0, middle, picture.height), (middle, 0, picture.width, picture.height)
        halves = [ImageOps.fit(picture.crop(box), sides, Image.Resampling.BICUBIC) for box in boxes]
        return torch.stack([torch.from_numpy(planes(half, 3)) for half in halves])


class Facades(SideBySide):
    """CMP facades, as pix2pix has them: from a picture of labels to the photograph of a house.

    Read from the data root: `facades/{train,val,test}/*.jpg`, 400, 100 and 106 pairs of 256x256, or the archive
    `facades/facades_110.zip`, 80, 10 and 20 of them. (Tyleček and Šára 2013; for research.)

    Args:
        part: "full" for the folders, "pack" for the archive; null for the folders when they are there, else the
            archive. The name says which: "facades" or "facades-110".
        size: Height and width of images and targets, or one side for both.
        reverse: From the photograph to its labels.
        root: Folder of data sets; null for the environment's LIMBECK_DATA, else ~/.cache/limbeck/data.

    Raises:
        DataError: The data is not there.
        RecipeError: An argument that cannot be used.
    """

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


def _existing(path: str) -> Path:
    here = Path(path).expanduser()
    places = [here] if here.is_absolute() else [here, data_root() / here]
    found = next((place for place in places if there(place)), None)
    if found is None:
        raise DataError(f"no such folder or archive of pairs: {' or '.join(map(str, places))}")
    return found


def _pictures(path: Path) -> list[Path]:
    """Return the pictures of a folder or archive, by their path in it, in order."""
    if path.is_dir():
        files = list_images(path, path)
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                files = sorted(Path(name) for name in archive.namelist() if Path(name).suffix.lower() in ENDINGS)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: expected a folder or a zip archive of pairs ({error})") from error
    if not files:
        raise DataError(f"{path}: expected pictures ({' '.join(sorted(ENDINGS))}), found none")
    return files


def _by_part(files: list[Path]) -> dict[str, list[Path]]:
    """Return files by the split whose folder they are in, or all of them as "all" when there is no `train`."""
    parts = {part: [file for file in files if file.parts[0] in names] for part, names in PARTS.items()}
    return {part: some for part, some in parts.items() if some} if parts["train"] else {"all": files}

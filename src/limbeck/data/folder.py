"""Any folder of images, flat or with one subfolder a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from limbeck.data.base import Data, Images, Split
from limbeck.data.image_files import ENDINGS, FileImages, existing, list_images
from limbeck.data.splits import Divided, check_images, split_folders
from limbeck.errors import DataError


class ImageFolder(Data):
    """The images of a folder, each resized to a square: shorter side to `size` (bicubic), then the centre.

    Classes are the subfolders in alphabetical order. A folder with a subfolder `train` is split by its subfolders
    `train`, `validation` (or `val`) and `test`. A split without a subfolder is held out of the training images, by the
    SHA-256 of an image's path inside the folder as a number in [0, 1): below `test` for testing, in the next
    `validation` for validation (the smallest when there is none). So an image stays in its split when others come.
    Grey, palette, CMYK and 16-bit images become 8-bit ones, EXIF rotation is applied, transparency lies on white;
    of an animation the first frame counts.

    Args:
        path: The folder; a relative one is looked for here, then in the data root.
        size: Side of the images in pixels.
        channels: 3 for RGB, 1 for grey.
        by_class: Whether subfolders are classes; null: when every image lies in a subfolder. Without classes all
            images below the folder are taken.
        name: What results are filed under; null for the folder's name.
        division: `streaming`, `validation` and `test`: see `Divided`.

    Raises:
        DataError: The folder is missing, unreadable or without images.
        RecipeError: An argument that cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Divided,)

    def __init__(
        self,
        path: str,
        size: int = 64,
        channels: int = 3,
        *,
        by_class: bool | None = None,
        name: str | None = None,
        **division: Any,
    ) -> None:
        check_images(self, channels, size)
        divided = Divided(**division)
        divided.check(self)
        self.path = existing(path)
        self.name = name or self.path.resolve().name
        self.image_shape = (channels, size, size)
        self.validation, self.test = divided.validation, divided.test
        files = {part: list_images(folder, self.path) for part, folder in split_folders(self.path).items()}
        everything = [file for some in files.values() for file in some]
        if not everything:
            raise DataError(f"{self.path}: expected images ({' '.join(sorted(ENDINGS))}), found none")
        self._depth = 1 if "train" in files else 0  # folders between `path` and a class
        if self._by_class(everything, by_class):
            self.classes = tuple(sorted({file.parts[self._depth] for file in everything}))
        self.streaming = divided.streams(len(everything) * channels * size * size)
        self._files = divided.split(files)
        self._splits: dict[Split, Images] = {}

    def _by_class(self, files: Sequence[Path], wanted: bool | None) -> bool:
        """Return whether subfolders are classes: as is wanted, or when every image lies in one."""
        stray = next((file for file in files if len(file.parts) < self._depth + 2), None)
        if wanted and stray:
            raise DataError(f"{self.path / stray}: expected every image in the subfolder of its class; move it there")
        return not stray if wanted is None else wanted

    def split(self, name: Split) -> Images:
        """Return the samples of a split: decoded on the first call, or when they are read if streaming."""
        if name not in self._splits:
            files = self._files[name]
            if not files:
                raise DataError(f"{self.path}: no image is left for the {name} split; add some, or hold out others")
            label = [self.classes.index(file.parts[self._depth]) for file in files] if self.classes else None
            images = FileImages(self.path, files, self.image_shape, None if label is None else torch.tensor(label))
            self._splits[name] = images if self.streaming else images.in_memory()
        return self._splits[name]

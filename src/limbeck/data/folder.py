"""Any folder of images, flat or with one subfolder a class."""

from __future__ import annotations

import torch

from limbeck.data.base import Data, Images, Split
from limbeck.data.image_files import (
    ENDINGS,
    MEMORY,
    FileImages,
    check_parts,
    existing,
    hold_out,
    list_images,
    split_folders,
)
from limbeck.errors import DataError, RecipeError


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
        streaming: Whether images are decoded when they are read, rather than once into memory; null: when more than
            1 GiB of memory would be needed.
        validation: Part of the images held out for validation; 0 for none.
        test: Part of the images held out for testing; 0 for none.
        name: What results are filed under; null for the folder's name.

    Raises:
        DataError: The folder is missing, unreadable or without images.
        RecipeError: An argument that cannot be used.
    """

    def __init__(
        self,
        path: str,
        size: int = 64,
        channels: int = 3,
        *,
        by_class: bool | None = None,
        streaming: bool | None = None,
        validation: float = 0.1,
        test: float = 0.1,
        name: str | None = None,
    ) -> None:
        if size < 1:
            raise RecipeError(f"ImageFolder.size: expected at least 1 pixel, found {size}")
        if channels not in (1, 3):
            raise RecipeError(f"ImageFolder.channels: expected 1 or 3, found {channels}")
        check_parts("ImageFolder", validation, test)
        self.path = existing(path)
        self.name = name or self.path.resolve().name
        self.image_shape = (channels, size, size)
        self.validation, self.test = validation, test
        files = {part: list_images(folder, self.path) for part, folder in split_folders(self.path).items()}
        everything = [file for some in files.values() for file in some]
        if not everything:
            raise DataError(f"{self.path}: expected images ({' '.join(sorted(ENDINGS))}), found none")
        self._depth = 1 if "train" in files else 0  # folders between `path` and a class
        stray = next((file for file in everything if len(file.parts) < self._depth + 2), None)
        if by_class and stray:
            raise DataError(f"{self.path / stray}: expected every image in the subfolder of its class; move it there")
        if by_class or (by_class is None and not stray):
            self.classes = tuple(sorted({file.parts[self._depth] for file in everything}))
        needed = len(everything) * channels * size * size
        self.streaming = needed > MEMORY if streaming is None else streaming
        self._files = hold_out(files, validation, test)
        self._splits: dict[Split, Images] = {}

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

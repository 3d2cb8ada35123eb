"""Any folder of images, flat or with one subfolder a class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from limbeck.data.base import Data, Images, Split, taken
from limbeck.data.image_files import ENDINGS, FileImages, existing, readable, survey, tell_aside
from limbeck.data.pixels import Reading, check_depth
from limbeck.data.splits import Divided, Inside, check_images, laid_out
from limbeck.errors import DataError, nearest, require


class ImageFolder(Data):
    """The images of a folder, each resized to a square: shorter side to `size` (bicubic), then the centre.

    Classes are the subfolders in alphabetical order, or in that of their numbers where all are numbers. A folder with
    a subfolder `train` (or `training`, `train2017`...) is split by its subfolders for training, validation (`val`,
    `valid`, `dev`...) and test, which may also lie in each class or in a folder `images`. A split without a subfolder
    is held out of the training images, by the SHA-256 of an image's path inside the folder as a number in [0, 1):
    below `test` for testing, in the next `validation` for validation (the smallest when there is none). So an image
    stays in its split when others come.
    Grey, palette, CMYK and 16-bit images become 8-bit ones, EXIF rotation is applied, transparency lies on white;
    of an animation the first frame counts.

    Args:
        path: The folder; a relative one is looked for here, then in the data root.
        size: Side of the images in pixels.
        channels: 3 for RGB, 1 for grey.
        by_class: Whether subfolders are classes; null: when every image lies in a subfolder. Without classes all
            images below the folder are taken.
        classes: The names of all classes in the order in which they are numbered; null for the order above. Folders of
            these names are no splits.
        name: What results are filed under; null for the folder's name.
        options: `streaming`, `validation` and `test`: see `Divided`; `bits`, `bands` and `largest`: see `Reading`.

    Raises:
        DataError: The folder is missing, unreadable or without images; a class or a split has none that can be read;
            its subfolders look like splits, and it is not clear of what; files of 16 bits use fewer.
        RecipeError: An argument that cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Divided, Reading)

    def __init__(
        self,
        path: str,
        size: int = 64,
        channels: int = 3,
        *,
        by_class: bool | None = None,
        classes: Sequence[str] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        check_images(self, channels, size)
        divided, self.reading = taken(Divided, options), Reading(**options)
        divided.check(self)
        self.reading.check("ImageFolder.")
        require("ImageFolder.classes", classes is None or by_class is not False, "none without `by_class`", classes)
        self.path = existing(path)
        self.name = name or self.path.resolve().name
        self.image_shape = (channels, size, size)
        self.validation, self.test = divided.validation, divided.test
        images, aside = survey(self.path, self.path)
        if not images and not aside:
            raise DataError(f"{self.path}: expected images ({' '.join(sorted(ENDINGS))}), found none")
        tell_aside(self.path, images, aside)
        parts = laid_out([*images, *aside], self.path, classes or ())
        files = readable(parts, set(images), self.path)
        self._class = self._classes_of(parts, set(images), by_class if classes is None else True)
        self.classes = self._ordered({self._class[file] for file in images if file in self._class}, classes)
        self.streaming = divided.streams(len(images) * channels * size * size)
        check_depth([self.path / file for file in images], self.reading)
        self._files = divided.split(files)
        self._splits: dict[Split, Images] = {}

    def _classes_of(
        self, parts: Mapping[str, Inside], images: Collection[Path], wanted: bool | None
    ) -> dict[Path, str]:
        """Return the class of every file in a subfolder; none where they are no classes.

        They are as is wanted, or when every image lies in one.
        """
        inside = {file: within for some in parts.values() for file, within in some.items()}
        stray = next((file for file in inside if file in images and len(inside[file]) < 2), None)
        if wanted and stray:
            raise DataError(f"{self.path / stray}: expected every image in the subfolder of its class; move it there")
        if wanted is False or stray:
            return {}
        return {file: within[0] for file, within in inside.items() if len(within) > 1}

    def _ordered(self, found: set[str], wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Return the classes that have images in order of their numbers: as is wanted, or as their names say.

        Raises:
            DataError: A class has no image that can be read, or those that are wanted are not those that there are.
        """
        bare = min(((name, file) for file, name in self._class.items() if name not in found), default=None)
        if bare is not None:
            raise DataError(
                f"{self.path}: expected images that can be read of every class, found {bare[1].suffix} alone of"
                f" {bare[0]}; convert them, or move that folder away"
            )
        if wanted is None:
            numbers = all(name.isdecimal() for name in found)
            return tuple(sorted(found, key=lambda name: (int(name) if numbers else 0, name)))
        odd = next(
            (name for name in (*wanted, *sorted(found)) if [*wanted].count(name) != 1 or name not in found), None
        )
        if odd is not None:
            there = "twice" if [*wanted].count(odd) > 1 else "without images" if odd in wanted else "left out"
            raise DataError(
                f"{self.path}: expected `classes` to name each of its {len(found)} classes once, found {odd!r} {there}"
                f"{nearest(odd, found - {odd})}"
            )
        return tuple(wanted)

    def split(self, name: Split) -> Images:
        """Return the samples of a split: decoded on the first call, or when they are read if streaming."""
        if name not in self._splits:
            files = self._files[name]
            if not files:
                raise DataError(f"{self.path}: no image is left for the {name} split; add some, or hold out others")
            number = {name: number for number, name in enumerate(self.classes)}
            label = torch.tensor([number[self._class[file]] for file in files]) if number else None
            images = FileImages(self.path, files, self.image_shape, label, self.reading)
            self._splits[name] = images if self.streaming else images.in_memory()
        return self._splits[name]

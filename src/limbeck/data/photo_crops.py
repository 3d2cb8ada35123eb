"""Square cut-outs of photographs, at the pixels that they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, final

from limbeck.data.base import DEGRADED, Data, Images, Split
from limbeck.data.cutouts import Cutouts, PairedCutouts
from limbeck.data.image_files import existing, list_images, opened
from limbeck.data.names_alike import degraded_forms
from limbeck.data.pixels import Reading, check_depth
from limbeck.data.splits import check_images, hold_out, laid_out
from limbeck.errors import DataError, RecipeError, require
from limbeck.types import Kind


@final
class PhotoCrops(Data):
    """Cut-outs on a regular grid of all photographs of a folder, nothing resized; photographs are held in memory.

    Splits are of photographs, not of cut-outs: no photograph is in two of them. A folder with a subfolder `train` is
    divided by its subfolders as in `ImageFolder`. Photographs that are smaller than a cut-out are an error.

    With `degraded`, every cut-out comes with the same place of its photograph's degraded form, such as a smaller copy
    or a noisy one; a `Restoration` of `AsGiven` learns from them. How many times smaller they are is told by the first.

    Args:
        path: The folder; a relative one is looked for here, then in the data root.
        size: Height and width of a cut-out in pixels.
        channels: 3 for RGB, 1 for grey.
        degraded: Another folder that holds all photographs degraded, in the same subfolders and under names that are
            theirs or, all alike, longer ("0001.png" and "0001x4.png"); null for none.
        stride: Pixels from one cut-out to the next; null for `size`: they do not overlap.
        test: Another folder whose cut-outs, which never overlap, are the test split; or the part of the photographs
            that is held out for it where it has no subfolder, by the SHA-256 of their paths.
        validation: Part of the photographs that is held out for validation where it has no subfolder, in (0, 1).
        name: What results are filed under; null for the folder's name.
        reading: `bits`, `bands` and `largest`: see `Reading`.

    Raises:
        DataError: A folder is missing or without images, its subfolders look like splits and it is not clear of what,
            a photograph has no degraded form, or files of 16 bits use fewer; on reading, a photograph is damaged or
            too small, or its degraded form has another size than those of the others say.
        RecipeError: An argument that cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Reading,)

    def __init__(
        self,
        path: str,
        size: int = 64,
        channels: int = 3,
        *,
        degraded: str | None = None,
        stride: int | None = None,
        test: str | float = 0.1,
        validation: float = 0.1,
        name: str | None = None,
        **reading: Any,
    ) -> None:
        self.reading = Reading(**reading)
        self.reading.check("PhotoCrops.")
        step = size if stride is None else stride
        check_images(self, channels, size, step)
        _check_parts(validation, test)
        folder = existing(path)
        tested, held_out = (_photographs(existing(test)), 0.0) if isinstance(test, str) else ([], test)
        apart = {file.resolve() for file in tested}  # the folder can hold the other one
        rest = [file.relative_to(folder) for file in _photographs(folder) if file.resolve() not in apart]
        check_depth([folder / file for file in rest] + tested, self.reading)
        divided = {part: [*inside] for part, inside in laid_out(rest, folder).items()}
        parts = hold_out(divided, validation, held_out)
        self.name = name or folder.resolve().name
        self.size, self.step, self.image_shape = size, step, (channels, size, size)
        train, validated, tests = ([folder / file for file in parts[p]] for p in ("train", "validation", "test"))
        self._files: dict[Split, list[Path]] = {"train": train, "validation": validated, "test": tested or tests}
        self._splits: dict[Split, Images] = {}
        self._degraded: dict[Path, Path] = {}
        if degraded is not None:
            self._take(existing(degraded), folder, rest, tested)

    def _take(self, degraded: Path, folder: Path, files: list[Path], tested: list[Path]) -> None:
        """Find the degraded form of every photograph, and how many times smaller it is."""
        require(
            "PhotoCrops.test", not tested, f"a part to be held out, as {degraded} has no place for others", "a folder"
        )
        forms = degraded_forms(files, folder, degraded)
        check_depth(forms, self.reading)
        self._degraded = dict(zip((folder / file for file in files), forms, strict=True))
        self.scale = _times_smaller(folder / files[0], forms[0], self.image_shape[0], self.reading)
        for name, pixels in (("size", self.size), ("stride", self.step)):
            require(
                f"PhotoCrops.{name}",
                pixels % self.scale == 0,
                f"a multiple of {self.scale}, by which {degraded} is smaller",
                pixels,
            )
        self.kinds = {DEGRADED: Kind("alike")}

    def split(self, name: Split) -> Images:
        """Return the cut-outs of a split, cut on the first call; only those of "train" may overlap."""
        if name not in self._splits:
            if not self._files[name]:
                raise DataError(f"{self.name}: no photograph is left for the {name} split; add some, or hold out more")
            step = self.step if name == "train" else max(self.step, self.size)
            self._splits[name] = self._cut(self._files[name], step)
        return self._splits[name]

    def _cut(self, files: list[Path], step: int) -> Images:
        channels, forms = self.image_shape[0], [self._degraded[file] for file in files if self._degraded]
        whole = Cutouts(files, channels, self.size, step, self.reading)
        if not forms:
            return whole
        degraded = Cutouts(forms, channels, self.size // self.scale, step // self.scale, self.reading)
        return PairedCutouts(whole, degraded, (files, forms), self.scale)


def _check_parts(validation: float, test: str | float) -> None:
    """Refuse parts that leave a split without photographs, where no folder is its own."""
    held_out = (validation,) if isinstance(test, str) else (validation, test)
    if min(held_out) <= 0 or sum(held_out) >= 1:
        raise RecipeError(
            f"PhotoCrops: expected parts in (0, 1) that leave some for training, found validation {validation} and"
            f" test {test}"
        )


def _photographs(folder: Path) -> list[Path]:
    found = [folder / file for file in list_images(folder, folder)]
    if not found:
        raise DataError(f"{folder}: expected photographs, found none")
    return found


def _times_smaller(file: Path, degraded: Path, channels: int, reading: Reading) -> int:
    """Return how many times smaller a photograph's degraded form is; what is left of its sides is cut off."""
    whole, given = opened(file, channels, reading).size, opened(degraded, channels, reading).size
    scale = round(whole[0] / given[0])
    if scale < 1 or tuple(side // scale for side in whole) != given:
        raise DataError(
            f"{degraded}: expected the {whole[1]}x{whole[0]} pixels of {file}, divided by a whole number, found"
            f" {given[1]}x{given[0]}"
        )
    return scale

"""Square cut-outs of photographs, at the pixels that they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, final

from limbeck.data.base import Data, Images, Split
from limbeck.data.cutouts import Cutouts
from limbeck.data.image_files import existing, list_images
from limbeck.data.pixels import Reading, check_depth
from limbeck.data.splits import check_images, hold_out, laid_out
from limbeck.errors import DataError, RecipeError


@final
class PhotoCrops(Data):
    """Cut-outs on a regular grid of all photographs of a folder, nothing resized; photographs are held in memory.

    Splits are of photographs, not of cut-outs: no photograph is in two of them. A folder with a subfolder `train` is
    divided by its subfolders as in `ImageFolder`. Photographs that are smaller than a cut-out are an error.

    Args:
        path: The folder; a relative one is looked for here, then in the data root.
        size: Height and width of a cut-out in pixels.
        channels: 3 for RGB, 1 for grey.
        stride: Pixels from one cut-out to the next; null for `size`: they do not overlap.
        test: Another folder whose cut-outs, which never overlap, are the test split; or the part of the photographs
            that is held out for it where it has no subfolder, by the SHA-256 of their paths.
        validation: Part of the photographs that is held out for validation where it has no subfolder, in (0, 1).
        name: What results are filed under; null for the folder's name.
        reading: `bits`, `bands` and `largest`: see `Reading`.

    Raises:
        DataError: A folder is missing or without images, its subfolders look like splits and it is not clear of what,
            or files of 16 bits use fewer; on reading, a photograph is damaged or too small.
        RecipeError: An argument that cannot be used.
    """

    passes_on: ClassVar[tuple[type, ...]] = (Reading,)

    def __init__(
        self,
        path: str,
        size: int = 64,
        channels: int = 3,
        *,
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

    def split(self, name: Split) -> Images:
        """Return the cut-outs of a split, cut on the first call; only those of "train" may overlap."""
        if name not in self._splits:
            if not self._files[name]:
                raise DataError(f"{self.name}: no photograph is left for the {name} split; add some, or hold out more")
            step = self.step if name == "train" else max(self.step, self.size)
            self._splits[name] = Cutouts(self._files[name], self.image_shape[0], self.size, step, self.reading)
        return self._splits[name]


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

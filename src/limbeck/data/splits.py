"""Which split an image of a folder belongs to, and whether a folder is held in memory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import DataError, RecipeError

PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
MEMORY = 2**30  # bytes of decoded images up to which a folder is held in memory


@dataclass(frozen=True)
class Divided:
    """How the images of a folder are divided into splits, and held.

    Attributes:
        streaming: Whether files are decoded when they are read, rather than once into memory; null: when more than
            1 GiB of memory would be needed.
        validation: Part of the images held out for validation; 0 for none.
        test: Part of the images held out for testing; 0 for none.
    """

    streaming: bool | None = None
    validation: float = 0.1
    test: float = 0.1

    def check(self, owner: object) -> None:
        """Refuse parts that leave nothing for training.

        Raises:
            RecipeError: The message names the owner's class.
        """
        check_parts(type(owner).__name__, self.validation, self.test)

    def split(self, files: dict[str, list[Path]]) -> dict[str, list[Path]]:
        """Return the files of every split; see `hold_out`."""
        return hold_out(files, self.validation, self.test)

    def streams(self, needed: int) -> bool:
        """Return whether files are decoded when they are read, where all of them would need so many bytes."""
        return needed > MEMORY if self.streaming is None else self.streaming


def check_images(owner: object, channels: int, *sides: int) -> None:
    """Refuse a number of channels or a size that images cannot have.

    Raises:
        RecipeError: The message names the owner's class.
    """
    if min(sides) < 1:
        raise RecipeError(f"{type(owner).__name__}.size: expected sides of at least 1 pixel, found {min(sides)}")
    if channels not in (1, 3):
        raise RecipeError(f"{type(owner).__name__}.channels: expected 1 or 3, found {channels}")


def split_folders(path: Path) -> dict[str, Path]:
    """Return the subfolder of each split that has one, or the whole folder as "all" when it is not divided."""
    found: dict[str, Path] = {}
    for folder in sorted(path.iterdir()):
        part = part_of(folder.name)
        if part is not None and folder.is_dir():
            if part in found:
                raise DataError(f"{path}: expected one folder for {part}, found {found[part].name} and {folder.name}")
            found[part] = folder
    return found if "train" in found else {"all": path}


def part_of(name: str) -> str | None:
    """Return the split that a folder of this name holds, or None."""
    return next((part for part, names in PARTS.items() if name.lower() in names), None)


def check_parts(name: str, validation: float, test: float) -> None:
    """Raise RecipeError unless these parts of the images can be held out by the class `name`."""
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise RecipeError(
            f"{name}: expected parts in [0, 1) that leave some for training, found validation {validation} and test"
            f" {test}"
        )


def hold_out(files: dict[str, list[Path]], validation: float, test: float) -> dict[str, list[Path]]:
    """Return the files of every split, given those of the subfolders (or of the whole folder, as "all").

    A split that is not among them gets its part by `share_of`; a file stays in its split when others come.
    """
    rest = sorted(files["train"] if "train" in files else files["all"], key=share_of)
    parts, limit = dict(files), 0.0
    for part, share in (("test", test), ("validation", validation)):
        if part not in files:
            limit += share
            count = (sum(share_of(file) < limit for file in rest) or 1) if share else 0
            parts[part], rest = sorted(rest[:count]), rest[count:]
    return {**parts, "train": sorted(rest)}


def share_of(file: Path) -> float:
    """Return the SHA-256 of a path as a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(os.fsencode(file.as_posix())).digest()[:6], "big") / 2**48

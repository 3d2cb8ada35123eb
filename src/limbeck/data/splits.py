"""Which split an image of a folder belongs to, by the names of folders or by its own, and whether it is held in memory.

The field names its splits in many ways, above or below other folders. All is told from paths, so folders and archives
are alike. What looks like splits and is not understood is refused: taken for classes, it would train on test images.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import DataError, RecipeError
from limbeck.ground.progress import say_once

PARTS = {
    "train": ("train", "training", "trn", "trainval", "trainset", "traindata"),
    "validation": ("validation", "val", "valid", "dev", "eval", "evaluation", "valset", "validset"),
    "test": ("test", "testing", "tst", "holdout", "testset", "testdata"),
}
FILLERS = frozenset(("set", "data", "dataset", "split", "images", "image", "imgs", "img"))  # as in train_images
IMAGES = frozenset(("images", "image", "imgs", "img", "jpegimages", "img_dir"))
MASKS = frozenset(
    ("masks", "mask", "labels", "label", "annotations", "annotation", "ann_dir", "segmentationclass", "gt")
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of trainA, Test_images, VAL2017

Inside = Mapping[Path, tuple[str, ...]]  # files, each with the parts of its path in its split
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


def part_of(name: str) -> str | None:
    """Return the split that a folder of this name holds, such as "train" for "training" or "train2017", or None."""
    words = [word for word in _words(name) if word not in FILLERS]
    return _part(words[0]) if len(words) == 1 else None


def split_folders(path: Path, *kinds: str) -> dict[str, tuple[Path, ...]]:
    """Return the folder of each kind for each split, or for "all" when they are not divided.

    Either order will do: train/images and train/masks, or images/train and masks/train.

    Raises:
        DataError: Subfolders look like splits, and it is not clear of what; kinds are not divided alike.
    """
    first, *others = kinds
    own = _split_folders(path / first) if (path / first).is_dir() else {}
    if "train" not in own:
        return {part: tuple(folder / kind for kind in kinds) for part, folder in _split_folders(path).items()}
    beside = [_split_folders(path / kind) for kind in others if (path / kind).is_dir()]
    if any({*folders} != {*own} for folders in beside) or len(beside) < len(others):
        raise DataError(f"{path}: expected {', '.join(others)} with the splits of {first}: {', '.join(own)}")
    return {part: (own[part], *(folders[part] for folders in beside)) for part in own}


def _split_folders(path: Path) -> dict[str, Path]:
    names = [folder.name for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    return {part: path / name for name, part in _parts(names, path).items()} or {"all": path}


def laid_out(files: Iterable[Path], path: Path, classes: Collection[str] = ()) -> dict[str, Inside]:
    """Return the files of each split that has folders, or all as "all", each with its path inside its split.

    `train/cat/1.png`, `cat/train/1.png`, `train/images/cat/1.png` and `images/train/cat/1.png` are all `cat/1.png` of
    "train". Files that are in no split are left aside, which is said.

    Args:
        files: Relative paths.
        path: What they are relative to, for messages.
        classes: Folders of these names are classes, and none are splits.

    Raises:
        DataError: Folders look like splits, and it is not clear of what.
    """
    inside = _images_alone({file: file.parts for file in files}, path)
    if _tops(inside) <= set(classes):
        return {"all": inside}
    inside = _without_wrapper(inside, path)
    parts = _parts(_tops(inside), path)
    if parts:
        return {part: _images_alone(_under(inside, name), path / name) for name, part in _checked(parts, inside, path)}
    return _divided_classes(inside, path) or {"all": inside}


def _without_wrapper(inside: Inside, path: Path) -> Inside:
    """Return files without the one folder that holds all of them, where this is divided."""
    tops, below = _tops(inside), _below(inside)
    if len(tops) != 1 or len(below) < len(inside) or part_of(*tops) or not _parts(_tops(below), path / min(tops)):
        return inside
    return below


def _divided_classes(inside: Inside, path: Path) -> dict[str, Inside]:
    """Return the files of each split where every class is divided, as in cat/train and cat/test; {} elsewhere."""
    groups: dict[str, dict[Path, tuple[str, ...]]] = {}  # in one pass: ImageNet has a thousand classes
    for file, within in inside.items():
        if len(within) > 1:
            groups.setdefault(within[0], {})[file] = within[1:]
    divided = {}
    for top, below in groups.items():
        names = _tops(below)
        if 2 * sum(map(_speaks, names)) > len(names):
            divided[top] = _parts(names, path / top)
    whole = sorted({*groups} - {*divided})
    if divided and whole:
        raise DataError(
            f"{path}: expected every folder to be divided as {min(divided)} is, found {whole[0]} without splits; give"
            " each the same ones"
        )
    found: dict[str, dict[Path, tuple[str, ...]]] = {}
    for top, parts in divided.items():
        for name, part in _checked(parts, groups[top], path / top):
            inner = _under(groups[top], name)
            found.setdefault(part, {}).update({file: (top, *rest) for file, rest in inner.items()})
    return dict(found)


def _parts(names: Collection[str], path: Path) -> dict[str, str]:
    """Return the split of each name that is one, "train" among them; {} where the names are none of splits.

    Raises:
        DataError: Names look like splits, and it is not clear of what.
    """
    parts = {name: part for name in sorted(names) if (part := part_of(name))}
    odd = [name for name in sorted(names) if name not in parts and _speaks(name)]
    others = [name for name in sorted(names) if not _speaks(name)]
    if odd and (parts or len(odd) > len(others)):
        raise DataError(
            f"{path}: expected folders named train, validation and test, or none of a split, found {_listed(odd)},"
            " which cannot be told apart; rename them, or if they are classes name all by `classes`"
        )
    if parts:
        _check_complete(parts, others, path)
    return parts


def _check_complete(parts: Mapping[str, str], others: Collection[str], path: Path) -> None:
    """Refuse two folders for one split, none for training, and a single one beside what may be classes."""
    alike = {part: [name for name in parts if parts[name] == part] for part in PARTS}
    twice = next((part for part, same in alike.items() if len(same) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: expected one folder for {twice}, found {_listed(alike[twice])}; merge or move them")
    if not alike["train"]:
        raise DataError(
            f"{path}: expected a folder train beside {_listed(parts)}, found {_listed(others) or 'none'}; add it, or if"
            " they are classes name all by `classes`"
        )
    if len(parts) == 1 and others:
        raise DataError(
            f"{path}: expected either splits or classes, found {_listed(parts)} beside {_listed(others)}; name all by"
            " `classes` if they are classes, else move the others away"
        )


def _checked(parts: Mapping[str, str], inside: Inside, path: Path) -> Iterable[tuple[str, str]]:
    """Return the names and parts, after saying which files are in none of them."""
    stray = [within for within in inside.values() if len(within) < 2 or within[0] not in parts]
    if stray:
        more = f" and {len(stray) - 1} more" if len(stray) > 1 else ""
        say_once(
            f"{path}: {'/'.join(min(stray))}{more} left aside, as no folder of a split has them ({_listed(parts)})"
        )
    return parts.items()


def _images_alone(inside: Inside, path: Path) -> Inside:
    """Return files without the folder `images`, where all are in it.

    Raises:
        DataError: There are masks beside it.
    """
    tops = _tops(inside)
    own, masks = ({top for top in tops if top.lower() in kind} for kind in (IMAGES, MASKS))
    if own and masks:
        raise DataError(
            f"{path}: expected classes, splits or images alone, found {_listed(own)} beside {_listed(masks)}; give"
            f" {path / min(own)}, or read them as MaskFolder does"
        )
    below = _below(inside)
    return below if len(own) == len(tops) == 1 and len(below) == len(inside) else inside


def _tops(inside: Inside) -> set[str]:
    """Return the names of the first folders."""
    return {within[0] for within in inside.values() if len(within) > 1}


def _below(inside: Inside) -> Inside:
    """Return the files that are in a folder, each with its path in it."""
    return {file: within[1:] for file, within in inside.items() if len(within) > 1}


def _under(inside: Inside, top: str) -> Inside:
    """Return the files in the folder `top`, each with its path in it."""
    return _below({file: within for file, within in inside.items() if within[0] == top})


def _words(name: str) -> list[str]:
    return [word.lower() for word in WORD.findall(name)]


def _part(word: str) -> str | None:
    return next((part for part, words in PARTS.items() if word in words), None)


def _speaks(name: str) -> bool:
    """Return whether a name has a word of splits, alone or not, as trainA has."""
    return any(_part(word) for word in _words(name))


def _listed(names: Iterable[str]) -> str:
    """Return at most six names in order."""
    known = sorted(names)
    return ", ".join(known[:6]) + (f" and {len(known) - 6} more" if len(known) > 6 else "")

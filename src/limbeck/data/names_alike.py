"""Files that belong together by their names: an image and its mask, a photograph and its smaller copy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.data.image_files import list_images
from limbeck.errors import DataError


@dataclass(frozen=True)
class Alike:
    """Files that belong to others.

    Attributes:
        files: The file of each of the others, by their path without ending; those that have none are missing.
        stray: Files that belong to none, in order.
        end: What their names have after those of the others.
    """

    files: Mapping[Path, Path]
    stray: Sequence[Path]
    end: str


def by_stem(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Return files by their path without the ending.

    Raises:
        DataError: Two differ in nothing else.
    """
    found: dict[Path, Path] = {}
    for file in files:
        twin = found.setdefault(file.with_suffix(""), file)
        if twin != file:
            raise DataError(f"{folder / file}: expected one file of this name, found {twin.name} too; remove one")
    return found


def matched(
    own: Collection[Path],
    theirs: Mapping[Path, Path],
    folder: Path,
    suffix: str | None = None,
    *,
    choose: str = "choose one by `suffix`",
) -> Alike:
    """Return which of their files belongs to each of our own, by names without endings.

    Names are equal, or theirs has more at its end, all of them the same: `0001.png` and `0001x4.png`. Where all of ours
    end alike from the last "_" on, that may be missing in theirs: `0_leftImg8bit.png` and `0_gtFine_labelIds.png`.

    Args:
        own: Our files, without endings.
        theirs: Their files, by their path without ending.
        folder: Where theirs lie, for messages.
        suffix: What theirs have more; files without it are left aside. None for what most of ours find there.
        choose: The way out where several belong to each, for messages.

    Raises:
        DataError: They have files with different ends for each of ours.
    """
    names = {stem.as_posix(): stem for stem in own}
    others = {stem.as_posix(): file for stem, file in theirs.items()}
    cut, ends = _ends(names, others, suffix)
    if len(ends) > 1 and "" not in ends:
        shown = ", ".join(f"{end}*" for end in ends)
        raise DataError(f"{folder}: expected one file for each image, found {shown} for each; {choose}")
    end = "" if "" in ends else ends[0]
    wanted = {name.removesuffix(cut) + end: stem for name, stem in names.items()}
    files = {stem: others[name] for name, stem in wanted.items() if name in others}
    stray = [file for name, file in others.items() if name not in wanted and name.endswith(suffix or "")]
    return Alike(files, stray, end)


def degraded_forms(files: Sequence[Path], folder: Path, degraded: Path) -> list[Path]:
    """Return the degraded form of each photograph, such as its smaller copy.

    Args:
        files: The photographs, relative to `folder`.
        folder: Where they lie.
        degraded: The folder of their degraded forms, which lie in it as they do in theirs.

    Raises:
        DataError: A photograph has none, or several.
    """
    there = by_stem(list_images(degraded, degraded), degraded)
    own = by_stem(files, folder)
    found = matched(own, there, degraded, choose="leave one of them there")
    bare = [file for stem, file in own.items() if stem not in found.files]
    if bare:
        raise DataError(
            f"{folder / bare[0]}: expected its degraded form in {degraded}, under its name or a longer one, found"
            f" none{more(bare)}"
        )
    return [degraded / found.files[stem] for stem in own]


def more(files: Sequence[Path]) -> str:
    """Return " (and 2 more)" for all but the first, or ""."""
    return f" (and {len(files) - 1} more)" if len(files) > 1 else ""


def _ends(names: Collection[str], others: Collection[str], suffix: str | None) -> tuple[str, list[str]]:
    """Return what to cut off our names, and what to add so that most of them are there."""
    for cut in dict.fromkeys(("", _common_end(names))):
        bases = [name.removesuffix(cut) for name in names]
        ends = _possible(bases, others) if suffix is None else [suffix]
        counts = {end: sum(base + end in others for base in bases) for end in ends}
        best = max(counts.values(), default=0)
        if 0 < len(bases) <= 2 * best:
            return cut, [end for end, count in counts.items() if count == best]
    return "", [suffix or ""]


def _possible(bases: Sequence[str], others: Collection[str]) -> list[str]:
    """Return what their names have after one of ours, of which a few are looked at."""
    looked_at = {bases[0], bases[len(bases) // 2], bases[-1]}
    ends = {other[len(base) :] for base in looked_at for other in others if other.startswith(base)}
    return sorted(end for end in ends if "/" not in end)


def _common_end(names: Collection[str]) -> str:
    """Return what all names have from their last "_" on, or ""."""
    ends = {name[name.rfind("_") :] if "_" in name else "" for name in names}
    return min(ends) if len(ends) == 1 else ""

"""Where the masks of images lie: folders of either, as the field lays them out, and files named alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.data.image_files import survey, tell_aside
from limbeck.data.names_alike import by_stem, matched, more
from limbeck.data.splits import part_of, split_folders
from limbeck.errors import DataError, nearest

Masks = dict[str, Path]  # the mask files of an image by class; "" for one file of all classes
KINDS = (  # the folders of images and of masks: ours, others', PASCAL VOC's, mmsegmentation's, Cityscapes'
    ("images", "masks"),
    ("images", "labels"),
    ("images", "annotations"),
    ("JPEGImages", "SegmentationClass"),
    ("img_dir", "ann_dir"),
    ("leftImg8bit", "gtFine"),
)
LISTS = {"train": ("train", "trainval"), "validation": ("val",), "test": ("test",)}  # of VOC's ImageSets/Segmentation


@dataclass(frozen=True)
class Layout:
    """Where images and masks lie in a folder, and how files of masks are named.

    Attributes:
        images: The subfolder of the images; null for `images`, or that of another usual layout: PASCAL VOC's
            `JPEGImages`, mmsegmentation's `img_dir`, Cityscapes' `leftImg8bit`.
        masks: The subfolder of the masks; null for the one that goes with it: `masks`, `labels` or `annotations`;
            `SegmentationClass`, `ann_dir`, `gtFine`.
        suffix: What the name of a mask has after that of its image, such as "_mask" in `0_mask.png`; files without it
            are left aside. Null: "", or the one that the masks have. Where all images end alike, as in
            `0_leftImg8bit.png`, that end may be missing in the masks.
    """

    images: str | None = None
    masks: str | None = None
    suffix: str | None = None


def masked_parts(path: Path, layout: Layout, classes: Sequence[str]) -> dict[str, dict[Path, Masks]]:
    """Return the mask files of every image, by split or as "all" where a folder is not divided; relative to `path`.

    PASCAL VOC divides by lists of names, `ImageSets/Segmentation/train.txt`; images in none are left aside.

    Raises:
        DataError: A folder is missing or has no images, an image has no mask, or a mask has no image.
    """
    images, masks = _kinds(path, layout)
    lists = _lists(path)
    folders = dict.fromkeys(lists, (path / images, path / masks)) or _folders(path, images, masks)
    return {
        part: paired(own, theirs, path, classes, suffix=layout.suffix, only=lists.get(part))
        for part, (own, theirs) in folders.items()
    }


def _kinds(path: Path, layout: Layout) -> tuple[str, str]:
    """Return the names of the subfolders of images and of masks, which may lie in those of the splits."""
    tops = [path, *(folder for folder in sorted(path.iterdir()) if folder.is_dir())]
    known = [(layout.images or images, layout.masks or masks) for images, masks in KINDS]
    there = (kinds for kinds in known if any((top / kinds[0]).is_dir() and (top / kinds[1]).is_dir() for top in tops))
    return next(there, known[0])


def _folders(path: Path, images: str, masks: str) -> Mapping[str, tuple[Path, ...]]:
    """Return the folder of images and that of masks, of every split where they are divided."""
    both = path / images, path / masks
    whole = all(folder.is_dir() for folder in both) and not any(part_of(f.name) for f in both[0].iterdir())
    return {"all": both} if whole else split_folders(path, images, masks)


def _lists(path: Path) -> dict[str, set[str]]:
    """Return the names of the images of each split that VOC's lists have."""
    folder, found = path / "ImageSets" / "Segmentation", {}
    for part, names in LISTS.items():
        file = next((file for name in names if (file := folder / f"{name}.txt").is_file()), None)
        if file is not None:
            found[part] = {line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()}
    if found and "train" not in found:
        raise DataError(f"{folder}: expected a list train.txt, found {', '.join(found)} alone; add it")
    return found


def paired(
    image_folder: Path,
    mask_folder: Path,
    base: Path,
    classes: Sequence[str],
    *,
    suffix: str | None = None,
    only: Collection[str] | None = None,
) -> dict[Path, Masks]:
    """Return the mask files in one folder of every image in another, all relative to `base`.

    Args:
        image_folder: The folder of the images.
        mask_folder: The folder of the masks.
        base: What paths are relative to.
        classes: Their names, which may be those of folders of masks.
        suffix: What the name of a mask has after that of its image; None for what they have.
        only: Names of the images, without ending, that count; None for all.

    Raises:
        DataError: There are no images, one has no mask, or a mask has no image.
    """
    images, masks = _listed(image_folder), _listed(mask_folder, arrays=True)
    own = _chosen(by_stem(images, image_folder), only, image_folder)
    within, tops = {*map(_top, own.values())} - {""}, {*map(_top, masks)}
    found: dict[Path, Masks] = {stem: {} for stem in own}
    if "" not in tops and tops & set(classes) and not tops & within:  # one file a class
        folders = {top: mask_folder / _known(top, classes, mask_folder) for top in sorted(tops)}
    else:
        folders = {"": mask_folder}
    end = ""
    for name, folder in folders.items():
        inner = [mask_folder.joinpath(file).relative_to(folder) for file in masks if name in ("", file.parts[0])]
        alike = matched(own, by_stem(inner, folder), folder, suffix)
        if alike.stray and only is None:
            raise DataError(
                f"{folder / alike.stray[0]}: expected an image of this name, found none{more(alike.stray)}; if masks of"
                " another kind are meant, say so by `suffix`"
            )
        for stem, file in alike.files.items():
            found[stem][name] = folder / file
        end = alike.end
    _check_all_masked(image_folder, mask_folder, [own[stem] for stem, some in found.items() if not some], end)
    return {
        (image_folder / own[stem]).relative_to(base): {n: f.relative_to(base) for n, f in some.items()}
        for stem, some in found.items()
    }


def _check_all_masked(image_folder: Path, mask_folder: Path, bare: Sequence[Path], end: str) -> None:
    """Refuse images without a mask."""
    if bare:
        raise DataError(
            f"{image_folder / bare[0]}: expected its mask {mask_folder / bare[0].stem}{end}.*, found none{more(bare)}"
        )


def _known(top: str, classes: Sequence[str], folder: Path) -> str:
    """Return the name of a folder of masks, which has to be that of a class."""
    if top not in classes:
        raise DataError(
            f"{folder / top}: expected a folder of the class {', '.join(classes)}, found {top!r}{nearest(top, classes)}"
        )
    return top


def _chosen(own: Mapping[Path, Path], only: Collection[str] | None, folder: Path) -> Mapping[Path, Path]:
    """Return the images of these names, or all of them."""
    if only is None:
        return own
    stranger = next((name for name in sorted(only) if Path(name) not in own), None)
    if stranger is not None:
        raise DataError(f"{folder}: expected the image {stranger}.*, which is in a list of ImageSets, found none")
    return {stem: file for stem, file in own.items() if stem.as_posix() in only}


def _listed(folder: Path, *, arrays: bool = False) -> list[Path]:
    """Return the images below a folder, relative to it, and perhaps arrays of NumPy."""
    if not folder.is_dir():
        raise DataError(
            f"{folder.parent}: expected subfolders images and masks, found no {folder.name}; say by `images` and"
            " `masks` what they are called"
        )
    images, aside = survey(folder, folder)
    stored = [file for file in aside if arrays and file.suffix.lower() == ".npy"]
    files = sorted(images + stored)
    tell_aside(folder, files, [file for file in aside if file not in set(stored)])
    if not files:
        raise DataError(f"{folder}: expected images, found none")
    return files


def _top(file: Path) -> str:
    """Return the first folder of a relative path, or ""."""
    return file.parts[0] if len(file.parts) > 1 else ""

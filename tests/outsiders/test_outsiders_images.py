"""What outsiders bring as images: numbers of any range, files of any kind, folders divided in any way."""

from __future__ import annotations

import os
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from limbeck.cli import main
from limbeck.data.base import Data, Split
from limbeck.data.folder import ImageFolder
from limbeck.data.mask_folder import MaskFolder
from limbeck.data.masks import opened_mask
from limbeck.data.pairs import LatentPairs
from limbeck.data.photo_crops import PhotoCrops
from limbeck.data.photo_set import PhotoSet
from limbeck.data.pictures import picture
from limbeck.data.side_by_side import SideBySide
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError, LimbeckError
from limbeck.run.applying import apply_to


def uniform(low: float, high: float, count: int = 30) -> Tensor:
    """Images (count, 3, 4, 4) whose values reach from low to high."""
    return torch.linspace(low, high, count * 48).reshape(count, 3, 4, 4)


def tensors(folder: Path, image: Tensor, **options: Any) -> TensorImages:
    return TensorImages(image, **options)


def targets(folder: Path, image: Tensor, **options: Any) -> TensorImages:
    """The values are those of the targets."""
    return TensorImages(torch.zeros(len(image), 1, 4, 4, dtype=torch.uint8), target=image, **options)


def pairs(folder: Path, image: Tensor, **options: Any) -> LatentPairs:
    np.savez(folder / "pairs.npz", latent=np.zeros((len(image), 2), np.float32), image=image.numpy())
    return LatentPairs(str(folder / "pairs.npz"), **options)


def halves(folder: Path, image: Tensor, **options: Any) -> LatentPairs:
    """Two files, of which one is dark and one bright: the whole set counts."""
    (folder / "both").mkdir()
    for k, part in enumerate(image.flatten(1).mean(1).argsort().chunk(2)):
        np.savez(folder / f"both/{k}.npz", latent=np.zeros((len(part), 2), np.float32), image=image[part].numpy())
    return LatentPairs(str(folder / "both"), **options)


def extent(data: Data, field: str = "image") -> tuple[float, float]:
    """Return the lowest and highest value of all images that are read."""
    splits: tuple[Split, ...] = ("train", "validation", "test")
    images = [data.split(name) for name in splits]
    values = torch.cat([getattr(some.read(torch.arange(len(some))), field) for some in images])
    return round(values.min().item(), 5), round(values.max().item(), 5)


HOLDERS = (tensors, targets, pairs, halves)
UNIT, BITS12, BITS16 = {"image_range": (0, 1)}, {"image_range": (0, 4095)}, {"image_range": (0, 65535)}
# Values, arguments, and the extent that is read, or words of the message.
RANGES: dict[str, tuple[tuple[float, float], dict[str, Any], tuple[float, float] | str]] = {
    "signed": ((-1, 1), {}, (-1, 1)),
    "low contrast": ((-0.1, 0.3), {}, (-0.1, 0.3)),
    "unit": ((0, 1), {}, r"use \[-1, 1\], found 0..1; say .*image_range.*0, 1"),
    "unit, declared": ((0, 1), UNIT, (-1, 1)),
    "bright unit": ((0.5, 0.9), {}, "use .* found 0.5..0.9; say"),
    "unit declared as signed": ((0, 1), {"image_range": (-1, 1)}, r"use \[-1, 1\]"),
    "signed declared as unit": ((-1, 1), UNIT, r"in \[0, 1\], found -1..1; say .*-1, 1"),
    "8 bits": ((0, 255), {}, r"found 0..255; say .*0, 255"),
    "8 bits, declared": ((0, 255), {"image_range": (0, 255)}, (-1, 1)),
    "unit declared as 8 bits": ((0, 1), {"image_range": (0, 255)}, r"use \[0, 255\], found 0..1; say .*0, 1"),
    "12 bits declared as 16": ((0, 4095), BITS16, r"use \[0, 65535\], found 0..4095; say .*0, 4095"),
    "12 bits, declared": ((0, 4095), BITS12, (-1, 1)),
    "14 bits declared as 12": ((0, 16383), BITS12, r"in \[0, 4095\], found 0..1.638e\+04; say .*0, 16383"),
    "standardized": ((-2.1, 2.6), {}, r"found -2.1..2.6; say their range, or scale"),
    "standardized, declared": ((-2, 3), {"image_range": (-2, 3)}, (-1, 1)),
    "no range": ((-1, 1), {"image_range": (1, -1)}, r"image_range: expected \[low, high\] with low < high"),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", RANGES)
def test_ranges_of_floats(tmp_path: Path, holder: Callable[..., Data], name: str) -> None:
    (low, high), options, expected = RANGES[name]

    def act() -> tuple[float, float]:
        return extent(holder(tmp_path, uniform(low, high), **options), "image" if holder is tensors else "target")

    if isinstance(expected, str):
        with pytest.raises(LimbeckError, match=expected) as raised:
            act()
        assert "\n" not in str(raised.value)
    else:
        assert act() == pytest.approx(expected)


KINDS: dict[str, tuple[Tensor, dict[str, Any], str]] = {
    "uint16": (torch.zeros(9, 1, 4, 4, dtype=torch.uint16), {}, r"found torch.uint16; give image.float\(\) with"),
    "int32": (torch.zeros(9, 1, 4, 4, dtype=torch.int32), {}, "found torch.int32"),
    "booleans": (torch.zeros(9, 1, 4, 4, dtype=torch.bool), {}, "found torch.bool"),
    "bytes of 0 and 1": (uniform(0, 1).round().byte(), {}, "expected uint8 images in 0..255, found 0..1; multiply"),
    "NaN": (torch.where(uniform(-1, 1) > 0.99, torch.nan, uniform(-1, 1)), {}, "finite float images, found NaN"),
    "infinity": (torch.where(uniform(0, 1) > 0.99, torch.inf, uniform(0, 1)), UNIT, "finite float images, found NaN"),
}


@pytest.mark.parametrize("name", KINDS)
def test_numbers_that_are_no_images(tmp_path: Path, name: str) -> None:
    image, options, words = KINDS[name]
    with pytest.raises(LimbeckError, match=words):
        tensors(tmp_path, image, **options)


def write(file: Path, pixels: np.ndarray | None = None, **options: Any) -> Path:
    """Write a picture of 8x8, or one of these pixels; files of endings that Pillow does not know get some bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() in (".png", ".jpg", ".tif", ".pgm"):
        noise = np.random.default_rng(len(str(file))).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise if pixels is None else pixels).save(file, **options)
    else:
        file.write_bytes(b"something")
    return file


def tree(folder: Path, text: str) -> Path:
    """Write three pictures, or one, into each folder, or at each file, of a text."""
    for name in text.split():
        for file in [name] if Path(name).suffix else [f"{name}/{k}.png" for k in range(3)]:
            write(folder / file)
    return folder


def splits_of(data: Any) -> dict[str, set[str]]:
    """Return the folders in which the files of each split lie, relative to the data's path."""
    return {part: {file.parent.as_posix() for file in data._files[part]} for part in PARTS}


def count(data: Any) -> int:
    return sum(len(data._files[part]) for part in PARTS)


def in_parts(train: str, validation: str = "", test: str = "") -> dict[str, set[str]]:
    """Return the folders of each split; one that is not given is held out of the training images."""
    parts = {"train": train, "validation": validation or train, "test": test or train}
    return {part: set(folders.split()) for part, folders in parts.items()}


PARTS: tuple[Split, ...] = ("train", "validation", "test")
PAIR = ("cat", "dog")
# A tree of folders; the classes and the folders of each split, or words of the message.
DIVIDED: dict[str, tuple[str, tuple[tuple[str, ...], dict[str, set[str]]] | str]] = {
    "training and testing": (
        "training/cat training/dog testing/cat testing/dog",
        (PAIR, in_parts("training/cat training/dog", "", "testing/cat testing/dog")),
    ),
    "trn, dev and tst": ("trn/a dev/a tst/a", (("a",), in_parts("trn/a", "dev/a", "tst/a"))),
    "train and eval": ("train/a eval/a", (("a",), in_parts("train/a", "eval/a"))),
    "capitals": ("Train/a VALID/a Test/a", (("a",), in_parts("Train/a", "VALID/a", "Test/a"))),
    "years of COCO": ("train2017 val2017", ((), in_parts("train2017", "val2017"))),
    "words around": (
        "train_images val-set TestDataset",
        ((), in_parts("train_images", "val-set", "TestDataset")),
    ),
    "trainval of VOC": ("trainval test", ((), in_parts("trainval", "", "test"))),
    "classes above splits": (
        "cat/train cat/val dog/train dog/val",
        (PAIR, in_parts("cat/train dog/train", "cat/val dog/val")),
    ),
    "images below splits": (
        "train/images/cat train/images/dog test/images/cat",
        (PAIR, in_parts("train/images/cat train/images/dog", "", "test/images/cat")),
    ),
    "images above splits": (
        "images/train/cat images/val/cat",
        (("cat",), in_parts("images/train/cat", "images/val/cat")),
    ),
    "labels in text beside": (
        "images/train images/val labels/train/1.txt",
        ((), in_parts("images/train", "images/val")),
    ),
    "images above classes": ("images/cat images/dog", (PAIR, in_parts("images/cat images/dog"))),
    "a folder around all": (
        "pets/train/cat pets/test/cat",
        (("cat",), in_parts("pets/train/cat", "", "pets/test/cat")),
    ),
    "no splits": ("cat dog", (PAIR, in_parts("cat dog"))),
    "words of splits in classes": ("bullet_train cat test_tube dog teddy", (
        ("bullet_train", "cat", "dog", "teddy", "test_tube"), in_parts("bullet_train cat test_tube dog teddy"),
    )),
    "two for one": ("train val valid", "expected one folder for validation, found val, valid"),
    "two for training": ("train training", "expected one folder for train, found train, training"),
    "no training": ("val test", "expected a folder train beside test, val"),
    "a class named test": ("cat dog test", "expected a folder train beside test, found cat, dog"),
    "a class named train": ("bus car train", "either splits or classes, found train beside bus, car; name all by"),
    "unpaired": ("trainA trainB testA testB", "found testA, testB, trainA, trainB, which cannot be told apart"),
    "resolutions": ("DIV2K_train_HR DIV2K_valid_HR", "found DIV2K_train_HR, DIV2K_valid_HR, which cannot be told"),
    "versions": ("train train_v2_old test", "found train_v2_old, which cannot be told apart; rename them"),
    "one class divided": ("cat/train cat/test dog", "every folder to be divided as cat is, found dog without splits"),
    "images beside masks": ("images masks", "found images beside masks; give .*images, or read them as MaskFolder"),
    "images beside masks in splits": ("train/images train/masks", "found images beside masks"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIVIDED)
def test_divided_folders(tmp_path: Path, name: str) -> None:
    text, expected = DIVIDED[name]
    tree(tmp_path, text)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected) as raised:
            ImageFolder(str(tmp_path), 8)
        assert "\n" not in str(raised.value)
        return
    data = ImageFolder(str(tmp_path), 8)
    classes, folders = expected
    assert data.classes == classes
    check_parts(splits_of(data), folders)
    label = data.split("train").labels()
    if label is not None:
        inside = [file.parent.parts for file in data._files["train"]]
        assert all(data.classes[k] in parts for k, parts in zip(label, inside, strict=True))


def check_parts(found: dict[str, set[str]], expected: dict[str, set[str]]) -> None:
    """A split with folders of its own has all of them; what is held out comes from those of training."""
    for part, folders in expected.items():
        whole = part == "train" or not folders & expected["train"]
        assert found[part] == folders if whole else found[part] <= folders


def test_classes_that_are_named_are_no_splits(tmp_path: Path) -> None:
    data = ImageFolder(str(tree(tmp_path, "bus car train")), 8, classes=["train", "bus", "car"])
    assert data.classes == ("train", "bus", "car") and splits_of(data)["train"] <= {"bus", "car", "train"}


def test_what_is_in_no_split_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ImageFolder(str(tree(tmp_path, "train/cat test/cat unlabelled preview.png")), 8)
    assert data.classes == ("cat",) and "3 more left aside" in " ".join(capsys.readouterr().err.split())


def crops(folder: Path) -> PhotoCrops:
    return PhotoCrops(str(folder), 8)


def sides(folder: Path) -> SideBySide:
    return SideBySide(str(folder), 8)


def masked(folder: Path) -> MaskFolder:
    return MaskFolder(str(folder), ["a", "b"], 8, streaming=True)


OTHERS: dict[str, tuple[Callable[[Path], Any], str, dict[str, set[str]] | str]] = {
    "crops": (crops, "training dev testing", in_parts("training", "dev", "testing")),
    "crops, kinds above": (crops, "images/trn images/tst", in_parts("images/trn", "", "images/tst")),
    "crops, odd": (crops, "train_HR valid_HR", "which cannot be told apart"),
    "pairs": (sides, "trn dev tst", in_parts("trn", "dev", "tst")),
    "pairs in a folder": (sides, "maps/train maps/val", in_parts("maps/train", "maps/val")),
    "pairs, kinds above": (sides, "images/train images/eval", in_parts("images/train", "images/eval")),
    "unpaired": (sides, "trainA trainB testA testB", "found folders testA and testB"),
    "unpaired, split below": (sides, "A/train B/train", "found folders A and B"),
    "masks": (
        masked,
        "train/images train/masks testing/images testing/masks",
        in_parts("train/images", "", "testing/images"),
    ),
    "masks, kinds above": (
        masked,
        "images/trn masks/trn images/val masks/val",
        in_parts("images/trn", "images/val"),
    ),
    "masks of other splits": (masked, "images/train masks/train images/val", "masks with the splits of images"),
    "no masks at all": (masked, "images/train images/val", "expected masks with the splits of images: train, val"),
    "masks, a class named train": (masked, "images masks/train masks/b", "folder of the class a, b, found 'train'"),
    "masks, odd": (masked, "train_a/images train_b/images", "which cannot be told apart"),
    "photographs of a split": (lambda folder: PhotoSet(str(folder / "test")), "train test", {}),
    "photographs of two": (lambda folder: PhotoSet(str(folder)), "train test", "of one split, found test, train; give"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_divided_folders(tmp_path: Path, name: str) -> None:
    make, text, expected = OTHERS[name]
    tree(tmp_path, text)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            make(tmp_path)
        return
    data = make(tmp_path)
    if not expected:
        assert len(data) == 3
        return
    inside = {part: [tmp_path / file for file in data._files[part]] for part in PARTS}
    check_parts(
        {part: {str(f.parent.relative_to(tmp_path)) for f in files} for part, files in inside.items()}, expected
    )


def test_an_archive_is_divided_as_a_folder_is(tmp_path: Path) -> None:
    for name, text in (("good", "maps/training maps/testing"), ("bad", "trainA trainB")):
        folder = tree(tmp_path / name, text)
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for file in folder.rglob("*.png"):
                archive.write(file, file.relative_to(folder))
    good = SideBySide(str(tmp_path / "good.zip"), 8)
    assert splits_of(good)["test"] == {"maps/testing"} and len(good.split("test")) == 3
    with pytest.raises(DataError, match="found folders trainA and trainB"):
        SideBySide(str(tmp_path / "bad.zip"), 8)


ORDERS: dict[str, tuple[str, list[str] | None, str]] = {
    "numbers": ("0 1 2 3 4 5 6 7 8 9 10 11", None, "0 1 2 3 4 5 6 7 8 9 10 11"),
    "leading zeros": ("00 01 02 9 10", None, "00 01 02 9 10"),
    "the same number twice": ("1 01 2", None, "01 1 2"),
    "numbers in splits": ("train/2 train/10 test/2", None, "2 10"),
    "words among them": ("1 10 2 other", None, "1 10 2 other"),
    "as is wanted": ("cat dog eel", ["eel", "cat", "dog"], "eel cat dog"),
    "one left out": ("cat dog eel", ["eel", "cat"], "name each of its 3 classes once, found 'dog' left out"),
    "one too many": ("cat dog", ["cat", "dog", "eel"], "found 'eel' without images"),
    "misspelt": ("cat dog", ["cat", "dgo"], r"found 'dgo' without images \(did you mean 'dog'\?\)"),
    "twice": ("cat dog", ["cat", "dog", "cat"], "found 'cat' twice"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_classes(tmp_path: Path, name: str) -> None:
    text, wanted, expected = ORDERS[name]
    tree(tmp_path, text)
    if "found" in expected:
        with pytest.raises(DataError, match=expected):
            ImageFolder(str(tmp_path), 8, classes=wanted)
        return
    data = ImageFolder(str(tmp_path), 8, classes=wanted, test=0, validation=0 if "splits" not in name else 0.1)
    assert " ".join(data.classes) == expected
    label = data.split("train").labels()
    assert label is not None
    assert [data.classes[k] for k in label] == [file.parent.name for file in data._files["train"]]


ASIDE: dict[str, tuple[str, str, bool]] = {
    "some heic": ("0.png 1.png 2.png 3.heic 4.HEIC", "2 .heic left aside", False),
    "several kinds": ("a/0.png a/1.png a/2.png a/3.avif a/4.jp2 a/5.avif", "2 .avif and 1 .jp2 left aside", False),
    "arrays": ("0.png 1.png 2.png 3.npy", "1 .npy left aside", False),
    "nothing else": ("0.heic 1.heic", "expected images .* found 2 .heic; convert them", True),
    "a class": ("cat dog eel/0.heic", "read of every class, found .heic alone of eel; convert them", True),
    "a class of arrays in splits": ("train/cat train/dog/0.npy", "found .npy alone of dog", True),
    "a split": ("train/cat test/cat/0.jp2", "can be read for test, found such as test/cat/0.jp2 alone", True),
    "other files": ("0.png 1.png 2.png .hidden.heic Thumbs.db notes.txt labels.json", "", False),
}


@pytest.mark.parametrize("name", ASIDE)
def test_files_that_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    text, words, refused = ASIDE[name]
    tree(tmp_path, text)
    if refused:
        with pytest.raises(DataError, match=words):
            ImageFolder(str(tmp_path), 8)
        return
    data = ImageFolder(str(tmp_path), 8)
    assert count(data) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert words in said if words else not said


@pytest.mark.parametrize("make", [PhotoCrops, PhotoSet, SideBySide])
def test_others_say_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[..., Any]) -> None:
    make(str(tree(tmp_path / "some", "0.png 1.png 2.png 3.heic")))
    assert "1 .heic left aside" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(DataError, match=r"found 2 \.avif; convert them"):
        make(str(tree(tmp_path / "none", "0.avif 1.avif")))


def test_pipes_and_sockets_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Opened, a named pipe waits for ever."""
    tree(tmp_path, "0.png 1.png 2.png")
    os.mkfifo(tmp_path / "3.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "4.png"))
        (tmp_path / "5.png").symlink_to("/dev/zero")
        data = ImageFolder(str(tmp_path), 8, streaming=True)
    assert count(data) == 3 and data.split("train").fingerprint()
    assert "3 .png left aside" in " ".join(capsys.readouterr().err.split())
    assert len(PhotoSet(str(tmp_path))) == 3
    (tmp_path / "6.png").symlink_to("nowhere.png")  # a file that is lost is no such thing, and is named
    with pytest.raises(DataError, match=r"6\.png: cannot be"):
        ImageFolder(str(tmp_path), 8, test=0, validation=0).split("train")


def ramp(top: int, dtype: type = np.uint16, size: int = 8) -> np.ndarray:
    return np.linspace(0, top, size * size).reshape(size, size).astype(dtype)


def deep_colour(file: Path, top: int) -> Path:
    """Write a PNG of 16 bits in RGB, which Pillow can read and not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = np.repeat(ramp(top)[..., None], 3, 2).astype(">u2")
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return file


# The brightest value of each of three files of 16 bits, arguments, and the brightest level of the first, or words.
DEPTHS: dict[str, tuple[tuple[int, ...], dict[str, Any], int | str]] = {
    "12 bits": ((4095, 3000, 2000), {}, "use their 16 bits, found 4095 as the brightest value of 3; say bits: 12"),
    "10 bits": ((1023, 1000, 900), {}, "say bits: 10, or bits: 16 if they are that dark"),
    "14 bits": ((16383, 9000, 10), {}, "say bits: 14"),
    "8 bits": ((255, 255, 255), {}, "say bits: 8"),
    "12 bits, said": ((4095, 3000, 2000), {"bits": 12}, 255),
    "14 bits, said": ((16383, 16383, 0), {"bits": 14}, 255),
    "16 bits": ((65535, 65535, 65535), {}, 255),
    "one dark image of three": ((3000, 65535, 60000), {}, 12),
    "dark, said": ((4095, 4095, 4095), {"bits": 16}, 16),
    "beyond what is said": ((5000, 4095, 4095), {"bits": 12}, "beyond 12 bits: found 5000, expected at most 4095"),
    "black": ((0, 0, 0), {}, 0),
    "bits that no file has": ((0, 0, 0), {"bits": 17}, "bits: expected 8 to 16, or null, found 17"),
}
HELD = {"test": 0, "validation": 0}


@pytest.mark.parametrize("ending", ["tif", "png"])
@pytest.mark.parametrize("name", DEPTHS)
def test_depths(tmp_path: Path, ending: str, name: str) -> None:
    tops, options, expected = DEPTHS[name]
    for k, top in enumerate(tops):
        write(tmp_path / f"{k}.{'tif' if ending == 'tif' else 'png'}", ramp(top))
    if isinstance(expected, str):
        with pytest.raises(LimbeckError, match=expected):
            ImageFolder(str(tmp_path), 8, 1, **HELD, **options).split("train")
        return
    image = ImageFolder(str(tmp_path), 8, 1, **HELD, **options).split("train").read(torch.arange(3)).image
    assert image is not None and round((image[0].max().item() + 1) * 127.5) == expected


@pytest.mark.parametrize("make", [PhotoCrops, PhotoSet, SideBySide])
def test_depths_elsewhere(tmp_path: Path, make: Callable[..., Any]) -> None:
    for k in range(4):
        write(tmp_path / f"{k}.tif", ramp(4095))
    with pytest.raises(DataError, match="say bits: 12"):
        make(str(tmp_path), 8) if make is not PhotoSet else make(str(tmp_path))
    if make is PhotoSet:
        whole, _ = next(PhotoSet(str(tmp_path), bits=12, channels=1).photographs())
        assert whole.max() == 1


def test_colours_of_12_bits_in_16_are_refused(tmp_path: Path) -> None:
    for k in range(3):
        deep_colour(tmp_path / f"{k}.png", 4095)
    with pytest.raises(DataError, match="say bits: 12"):
        ImageFolder(str(tmp_path), 8)
    with pytest.raises(DataError, match="of colour in 16 bits the upper 8 are read: convert it"):
        ImageFolder(str(tmp_path), 8, bits=12, **HELD).split("train")
    for k in range(3):
        deep_colour(tmp_path / f"{k}.png", 65535)
    assert ImageFolder(str(tmp_path), 8, **HELD).split("train").read(torch.arange(1)).image.max() == 1  # type: ignore[union-attr]


def test_a_grey_map_that_states_its_depth_needs_no_bits(tmp_path: Path) -> None:
    for k in range(3):
        values = ramp(4095).astype(">u2").tobytes()
        (tmp_path / f"{k}.pgm").write_bytes(b"P5 8 8 4095\n" + values)
    image = ImageFolder(str(tmp_path), 8, 1, **HELD).split("train").read(torch.arange(1)).image
    assert image is not None and image.max() == 1


def four(last: int, mode: str = "RGBA") -> Image.Image:
    """A picture of (10, 20, 30) with a fourth band."""
    return Image.fromarray(np.full((8, 8, 4), (10, 20, 30, last), np.uint8), mode)


def four_tiff(file: Path, tag: bool, last: int = 0) -> None:
    """A TIFF of four bands, with the tag that says that the fourth is transparency, or without."""
    four(last).save(file)
    if not tag:
        content, entry = bytearray(file.read_bytes()), struct.pack("<HHI", 338, 3, 1)
        place = content.index(entry)
        content[place : place + 2] = struct.pack("<H", 65000)  # some tag of a maker
        file.write_bytes(content)


# How the files are written, arguments, and the level of each channel, or words.
BANDS: dict[str, tuple[Callable[[Path], None], dict[str, Any], list[int] | str]] = {
    "unknown": (lambda f: four_tiff(f, tag=False), {}, "fourth band is transparency or another one .* say bands: "),
    "left out": (lambda f: four_tiff(f, tag=False), {"bands": [1, 2, 3]}, [10, 20, 30]),
    "transparency": (lambda f: four_tiff(f, tag=False), {"bands": [1, 2, 3, 4]}, [255, 255, 255]),
    "tagged": (lambda f: four_tiff(f, tag=True), {}, [255, 255, 255]),
    "tagged, left out": (lambda f: four_tiff(f, tag=True), {"bands": [1, 2, 3]}, [10, 20, 30]),
    "false colour": (lambda f: four_tiff(f, tag=False, last=200), {"bands": [4, 1, 2]}, [200, 10, 20]),
    "near infrared alone": (lambda f: four_tiff(f, tag=False, last=200), {"bands": [4], "channels": 1}, [200]),
    "a PNG has transparency": (lambda f: four(0).save(f, "PNG"), {}, [255, 255, 255]),
    "grey and transparency": (lambda f: Image.new("LA", (8, 8), (9, 0)).save(f, "PNG"), {}, [255, 255, 255]),
    "grey alone": (lambda f: Image.new("LA", (8, 8), (9, 0)).save(f, "PNG"), {"bands": [1]}, [9, 9, 9]),
    "a palette": (
        lambda f: Image.new("RGB", (8, 8), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE).save(f, "PNG"),
        {"bands": [3, 2, 1]}, [7, 8, 9],
    ),
    "four inks": (lambda f: Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(f, "TIFF"), {}, [255, 0, 0]),
    "a band too many": (
        lambda f: Image.new("RGB", (8, 8)).save(f), {"bands": [4]}, "bands: expected at least 4, found 3, R G B",
    ),
    "from 0": (lambda f: four(0).save(f), {"bands": [0, 1, 2]}, r"bands: expected one to four numbers from 1"),
    "floats": (
        lambda f: Image.fromarray(np.zeros((8, 8), np.float32)).save(f), {}, "floating-point numbers of unknown range",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BANDS)
def test_bands(tmp_path: Path, name: str) -> None:
    save, options, expected = BANDS[name]
    for k in range(3):
        save(tmp_path / f"{k}.tif")
    if isinstance(expected, str):
        with pytest.raises(LimbeckError, match=expected):
            ImageFolder(str(tmp_path), 8, **HELD, **options).split("train")
        return
    image = ImageFolder(str(tmp_path), 8, **HELD, **options).split("train").read(torch.arange(1)).image
    assert image is not None
    assert ((image[0, :, 4, 4] + 1) * 127.5).round().int().tolist() == expected


def bomb(file: Path, side: int = 12000) -> Path:
    """Write a PNG that claims 144 megapixels in a few bytes: decoding it must not even begin."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    data = b"IDAT" + zlib.compress(b"\0")
    content += struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return file


def load(data: Data) -> object:
    return data.split("train")


OPENERS: dict[str, Callable[[Path], Any]] = {
    "folder": lambda p: load(ImageFolder(str(p), 8, **HELD)),
    "stream": lambda p: ImageFolder(str(p), 8, streaming=True, **HELD).split("train").read(torch.arange(3)),
    "crops": lambda p: load(PhotoCrops(str(p), 8, test=0.1)),
    "photographs": lambda p: list(PhotoSet(str(p)).photographs()),
    "pairs": lambda p: load(SideBySide(str(p), 8, **HELD)),
    "masks": lambda p: opened_mask(p / "0.png"),
    "a style": lambda p: picture(str(p / "0.png"), 8),
    "apply": lambda p: list(apply_to(torch.nn.Identity(), p, p.parent / "out", torch.device("cpu"))),
}


@pytest.mark.parametrize("name", OPENERS)
def test_bombs(tmp_path: Path, name: str) -> None:
    for k in range(3):
        bomb(tmp_path / f"in/{k}.png")
    with pytest.raises(
        DataError, match=r"\d\.png: expected at most 89478485 pixels, found 12000x12000; make it smaller"
    ):
        OPENERS[name](tmp_path / "in")


@pytest.mark.parametrize(("largest", "fits"), [(63, False), (64, True)])
def test_the_limit_is_an_argument(tmp_path: Path, largest: int, fits: bool) -> None:
    tree(tmp_path / "in", " ".join(f"{k}.png" for k in range(12)))
    acts: list[Callable[[], Any]] = [
        lambda: load(ImageFolder(str(tmp_path / "in"), 8, largest=largest, **HELD)),
        lambda: load(PhotoCrops(str(tmp_path / "in"), 8, largest=largest, test=0.4, validation=0.3)),
        lambda: list(PhotoSet(str(tmp_path / "in"), largest=largest).photographs()),
        lambda: load(SideBySide(str(tmp_path / "in"), 8, largest=largest, **HELD)),
    ]
    for act in acts:
        if fits:
            act()
        else:
            with pytest.raises(DataError, match="expected at most 63 pixels, found 8x8"):
                act()


def test_a_limit_above_that_of_pillow_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns at its own limit and raises at twice that; ours decides alone, and Pillow's is as it was."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    tree(tmp_path, "0.png 1.png 2.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(ImageFolder(str(tmp_path), 8, **HELD))
    assert Image.MAX_IMAGE_PIXELS == 10


# Files in a folder, flags of `limbeck apply`, and words of the message; "" where all is well.
APPLIED: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "a bomb": (bomb, [], "expected at most 89478485 pixels"),
    "a limit": (write, ["--largest", "63"], "expected at most 63 pixels"),
    "12 bits": (lambda f: write(f, ramp(4095)), [], "say bits: 12"),
    "12 bits, said": (lambda f: write(f, ramp(4095)), ["--bits", "12"], ""),
    "an unknown band": (lambda f: four_tiff(f.with_suffix(".tif"), tag=False), [], "say bands"),
    "bands": (lambda f: four_tiff(f.with_suffix(".tif"), tag=False), ["--bands", "1,2,3"], ""),
    "no bands": (write, ["--bands", "rgb"], "--bands: expected whole numbers with commas"),
    "too many bits": (write, ["--bits", "32"], "--bits: expected 8 to 16"),
}


@pytest.mark.parametrize("name", APPLIED)
def test_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str) -> None:
    save, flags, words = APPLIED[name]
    (tmp_path / "in").mkdir()
    save(tmp_path / "in/a.png")
    monkeypatch.setattr("limbeck.run.applying.exported", lambda *_, **__: torch.nn.Identity())
    status = main(["apply", "x.safetensors", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *flags])
    said = " ".join(capsys.readouterr().err.split())
    assert (status == 0 and (tmp_path / "out/a.png").exists()) if not words else (status == 2 and words in said)

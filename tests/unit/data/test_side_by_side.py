"""Pairs side by side: the real facades, folders and archives, which half is which, and damaged files."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import encoded, toy_scene, write_facades

from limbeck.data.side_by_side import Facades, SideBySide
from limbeck.errors import DataError, RecipeError

ROOT = os.environ.get("LIMBECK_DATA", "")
real = pytest.mark.skipif(
    not (ROOT and Path(ROOT, "facades", "facades_110.zip").is_file()), reason="LIMBECK_DATA with facades is not there"
)
SPLITS = ("train", "validation", "test")


def picture(seed: int) -> np.ndarray:
    """Return two halves of 16x12, the right one darker."""
    left, _ = toy_scene(seed, 12, 16)
    return np.hstack([left, left // 2])


def write(folder: Path, names: list[str]) -> Path:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(folder / name)
    return folder


@real
def test_the_real_facades_go_from_flat_labels_to_photographs() -> None:
    data = Facades("pack", root=ROOT)
    assert data.name == "facades-110" and [len(data.split(name)) for name in SPLITS] == [80, 10, 20]
    images = data.split("test")
    assert images.target is not None and images.image.shape == images.target.shape == (20, 3, 256, 256)
    # Labels are flat: most neighbours differ by less than JPEG's noise, which is so of no photograph.
    flat = [(x.float().diff(dim=3).abs() < 6).float().mean().item() for x in (images.image, images.target)]
    assert flat[0] > 0.8 and flat[1] < 0.7
    turned = Facades("pack", reverse=True, root=ROOT).split("test")
    assert torch.equal(turned.image, images.target) and torch.equal(turned.target, images.image)  # type: ignore[arg-type]


def test_halves_are_image_and_target(tmp_path: Path) -> None:
    write(tmp_path, [f"train/{i}.png" for i in range(5)] + ["val/a.png", "test/b.png"])
    for left in (True, False):
        images = SideBySide(str(tmp_path), (16, 12), "left" if left else "right").split("validation")
        assert images.target is not None and len(images) == 1
        halves = picture(5)[:, :12].transpose(2, 0, 1), picture(5)[:, 12:].transpose(2, 0, 1)
        assert np.array_equal(images.image[0], halves[not left]) and np.array_equal(images.target[0], halves[left])


def test_a_folder_and_an_archive_give_the_same(tmp_path: Path) -> None:
    names = [f"{part}/{i}.png" for part in ("train", "val", "test") for i in range(3)]
    folder = write(tmp_path / "pairs", names)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for name in reversed(names):
            archive.write(folder / name, name)
        archive.writestr("readme.txt", "no picture")
    one, other = SideBySide(str(folder), 8), SideBySide(str(tmp_path / "archive.zip"), 8)
    assert (one.name, other.name) == ("pairs", "archive")
    for name in SPLITS:
        assert one.split(name).fingerprint() == other.split(name).fingerprint()  # type: ignore[arg-type]


def test_what_has_no_folder_is_held_out(tmp_path: Path) -> None:
    write(tmp_path / "flat", [f"{i}.png" for i in range(30)])
    data = SideBySide(str(tmp_path / "flat"), 8)
    counts = [len(data.split(name)) for name in SPLITS]  # type: ignore[arg-type]
    assert sum(counts) == 30 and min(counts) >= 1
    write(tmp_path / "parts", [f"train/{i}.png" for i in range(20)] + [f"val/{i}.png" for i in range(4)])
    data = SideBySide(str(tmp_path / "parts"), 8)
    assert len(data.split("validation")) == 4 and len(data.split("train")) + len(data.split("test")) == 20


def test_halves_are_cut_and_resized_alike(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 4:20], pixels[:, 28:44] = 100, 200  # the middle square of either half
    (tmp_path / "train").mkdir()
    Image.fromarray(pixels).save(tmp_path / "train" / "a.png")
    images = SideBySide(str(tmp_path), 4, validation=0, test=0).split("train")
    assert images.target is not None
    for half, level in ((images.image, 100), (images.target, 200)):  # the kernel sees a little of what was cut off
        assert (half[..., 1:3].int() - level).abs().max() <= 4 and half.min() > 0.85 * level


def test_facades_are_found_in_both_layouts(tmp_path: Path) -> None:
    write_facades(tmp_path)
    data = Facades(size=16, root=str(tmp_path))
    assert data.name == "facades-110" and [len(data.split(name)) for name in SPLITS] == [6, 2, 3]
    write(tmp_path / "facades", [f"{part}/{i}.jpg" for part in ("train", "val", "test") for i in range(2)])
    data = Facades(size=16, root=str(tmp_path))
    assert data.name == "facades" and [len(data.split(name)) for name in SPLITS] == [2, 2, 2]
    assert Facades("pack", root=str(tmp_path)).name == "facades-110"


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"facades/train, val and test .*, or .*facades_110\.zip, found none"):
        Facades(root=str(tmp_path))
    with pytest.raises(DataError, match=r"no such folder or archive of pairs: .*maps"):
        SideBySide(str(tmp_path / "maps"))
    with pytest.raises(DataError, match=r"expected pictures .*found none"):
        SideBySide(str(tmp_path))
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"a\.zip: expected a folder or a zip archive of pairs"):
        SideBySide(str(tmp_path / "a.zip"))
    for content, words in (
        (encoded(picture(0)[:, 1:], "PNG"), r"b\.zip/train/a\.png: expected two halves .*found 23"),
        (encoded(picture(0), "PNG")[:-300], r"b\.zip/train/a\.png: cannot be decoded"),
    ):
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
            archive.writestr("train/a.png", content)
        with pytest.raises(DataError, match=words):
            SideBySide(str(tmp_path / "b.zip"), validation=0, test=0).split("train")


def test_bad_arguments(tmp_path: Path) -> None:
    write(tmp_path, ["a.png"])
    for arguments in ({"size": 0}, {"size": (4, 0)}, {"input": "top"}):
        with pytest.raises(RecipeError, match=r"SideBySide\.\w+: expected .*, found"):
            SideBySide(str(tmp_path), **arguments)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="SideBySide: expected parts"):
        SideBySide(str(tmp_path), validation=0.5, test=0.5)
    with pytest.raises(RecipeError, match=r"Facades\.part: expected 'full', 'pack' or null, found 'half'"):
        Facades("half")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no picture is left for the train split"):
        SideBySide(str(tmp_path)).split("train")

"""What outsiders bring as pairs: photographs in one folder, what a camera or a compressor made of them in another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from limbeck.cli import main
from limbeck.data.degradations.downscale import Downscale
from limbeck.data.photo_crops import PhotoCrops
from limbeck.data.photo_set import PhotoSet
from limbeck.errors import LimbeckError

COUNT = 12


def write(file: Path, level: int, height: int = 16, width: int = 24) -> None:
    """One level in all of a file says which photograph it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(file)


def pairs(folder: Path, whole: str, small: str, scale: int = 2, size: tuple[int, int] = (16, 24)) -> None:
    """Write photographs and smaller ones; names have a place for their number."""
    for number in range(1, COUNT + 1):
        write(folder / "whole" / whole.format(number), 10 * number, *size)
        write(folder / "small" / small.format(number), 10 * number, size[0] // scale, size[1] // scale)


# What photographs and their smaller forms are called.
NAMES: dict[str, tuple[str, str]] = {
    "alike": ("{:04}.png", "{:04}.png"),
    "as DIV2K": ("{:04}.png", "{:04}x2.png"),
    "1 and 10": ("{}.png", "{}x2.png"),
    "as RealSR": ("Canon_{:03}_HR.png", "Canon_{:03}_LR2.png"),
    "HR and LR": ("{:03}_HR.png", "{:03}_LR.png"),
    "compressed": ("{:03}.png", "{:03}.jpg"),
    "in subfolders": ("night/{:03}.png", "night/{:03}x2.png"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names(tmp_path: Path, name: str) -> None:
    pairs(tmp_path, *NAMES[name])
    whole, small = str(tmp_path / "whole"), str(tmp_path / "small")
    data, seen = PhotoCrops(whole, 8, degraded=small, test=0.2, validation=0.2), 0
    for split in ("train", "validation", "test"):
        images = data.split(split)  # type: ignore[arg-type]
        batch = images.read(torch.arange(len(images)))
        assert batch.image is not None
        same = batch.fields["degraded"][..., 0, 0] - batch.image[..., 0, 0]
        assert same.abs().max() < 3 / 127.5  # JPEG changes a level a little
        seen += len(images)
    assert seen == COUNT * 6
    found = list(PhotoSet(whole, small).photographs(2))
    assert len(found) == COUNT
    assert all(given is not None and float((given.mean() - image.mean()).abs()) < 3 / 127.5 for image, given in found)


def test_splits_of_both_folders(tmp_path: Path) -> None:
    for number in range(1, COUNT + 1):
        part = "train" if number < 9 else "val" if number < 11 else "test"
        write(tmp_path / "whole" / part / f"{number}.png", 10 * number)
        write(tmp_path / "small" / part / f"{number}x2.png", 10 * number, 8, 12)
    data = PhotoCrops(str(tmp_path / "whole"), 16, degraded=str(tmp_path / "small"))
    assert [len(data.split(part)) for part in ("train", "validation", "test")] == [8, 2, 2]  # type: ignore[arg-type]


def lacking(folder: Path) -> None:
    pairs(folder, "{:02}.png", "{:02}.png")
    (folder / "small/05.png").unlink()


def of_another_size(folder: Path) -> None:
    pairs(folder, "{:02}.png", "{:02}.png")
    for number in range(2, COUNT + 1):
        write(folder / f"small/{number:02}.png", number, 8, 11)


def two_kinds(folder: Path) -> None:
    pairs(folder, "{:02}.png", "{:02}x2.png")
    pairs(folder, "{:02}.png", "{:02}x4.png", 4)


def exchanged(folder: Path) -> None:
    pairs(folder, "{:02}.png", "{:02}.png")
    (folder / "whole").rename(folder / "other")
    (folder / "small").rename(folder / "whole")
    (folder / "other").rename(folder / "small")


def other_folder(folder: Path) -> None:
    pairs(folder, "{:02}.png", "{:02}.png")
    write(folder / "test/1.png", 1)


def of_scale(scale: int) -> Callable[[Path], None]:
    return lambda folder: pairs(folder, "{:02}.png", "{:02}.png", scale)


# How the folders are written, arguments, and words of the one line.
REFUSED: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "one without": (lacking, {}, r"whole/05\.png: expected its degraded form in .*/small, .* found none"),
    "another size": (of_another_size, {}, r"small/\d+\.png: expected 8x12 pixels, those of .*divided by 2, found 8x11"),
    "two of each": (two_kinds, {}, r"small: expected one file for each image, found x2\*, x4\* for each; leave one"),
    "exchanged folders": (exchanged, {}, r"small/\d+\.png: expected the 8x12 pixels of .*whole number, found 16x24"),
    "a size that is no multiple": (of_scale(2), {"size": 7}, r"PhotoCrops.size: expected a multiple of 2, by which"),
    "a stride that is no multiple": (
        of_scale(2),
        {"stride": 3},
        r"PhotoCrops.stride: expected a multiple of 2, ",
    ),
    "a test folder": (other_folder, {"test": "{}/test"}, r"PhotoCrops.test: expected a part to be held out"),
    "no folder": (of_scale(2), {"degraded": "{}/nowhere"}, "no such folder of images: .*/nowhere"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_line(tmp_path: Path, name: str) -> None:
    make, options, says = REFUSED[name]
    make(tmp_path)
    given = {k: v.format(tmp_path) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(LimbeckError, match=says) as raised:
        data = PhotoCrops(str(tmp_path / "whole"), **{"size": 8, "degraded": str(tmp_path / "small"), **given})
        for split in ("train", "validation", "test"):
            data.split(split)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def recipe(folder: Path, degradation: dict[str, Any], degraded: str | None, augmentation: str | None = "Flip") -> Path:
    network = {"class_path": "Espcn", "init_args": {"width": 8, "scale": 2}}
    data = {"path": str(folder / "whole"), "size": 16, "test": 0.2, "validation": 0.2, "degraded": degraded}
    arm = {"network": network, "training": {"steps": 20, "batch": 4}}
    content = {
        "name": "pairs",
        "data": {"class_path": "PhotoCrops", "init_args": data},
        "task": {"class_path": "Restoration", "init_args": {"degradation": degradation, "samples": 4}},
        "method": "Restore",
        "teacher": arm,
        "student": arm,
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(content | ({"augmentation": augmentation} if augmentation else {})))
    return file


def photographs(folder: Path) -> None:
    """Whole photographs of one cut-out each, and files that `Downscale` makes of them: there are no edges to differ."""
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
        small = ((Downscale(2)(image, torch.tensor([0]))[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        for name, array in (("whole", pixels), ("small", small)):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / name / f"{number}.png")


def test_a_student_learns_the_same_from_files_as_from_what_they_were_made_by(tmp_path: Path) -> None:
    photographs(tmp_path)
    learned = []
    for kind, degraded in (("Downscale", None), ("AsGiven", str(tmp_path / "small"))):
        file = recipe(tmp_path, {"class_path": kind, "init_args": {"scale": 2}}, degraded, None)
        assert main(["run", str(file), "--out", str(tmp_path / kind)]) == 0
        learned.append(load_file(next((tmp_path / kind).rglob("student*.safetensors"))))
    made, given = learned
    assert made.keys() == given.keys()
    for name, tensor in made.items():
        torch.testing.assert_close(given[name], tensor, rtol=0, atol=1e-6)


# The degradation, whether pairs are given, the augmentation, and words of the one line, or None where all is well.
RECIPES: dict[str, tuple[dict[str, Any], bool, str | None, str | None]] = {
    "mirrored": ({"class_path": "AsGiven", "init_args": {"scale": 2}}, True, "Flip", None),
    "cropped": ({"class_path": "AsGiven", "init_args": {"scale": 2}}, True, "Crop", "`degraded` in the images' size"),
    "another scale": ({"class_path": "AsGiven", "init_args": {"scale": 4}}, True, None, r"AsGiven.scale: expected"),
    "none given": ({"class_path": "AsGiven", "init_args": {"scale": 2}}, False, None, "AsGiven: expected data with"),
    "not taken": (
        {"class_path": "Downscale", "init_args": {"scale": 2}},
        True,
        None,
        "expected AsGiven, as",
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_check_says_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    degradation, given, augmentation, says = RECIPES[name]
    photographs(tmp_path)
    file = recipe(tmp_path, degradation, str(tmp_path / "small") if given else None, augmentation)
    assert main(["check", str(file)]) == (2 if says else 0)
    heard = capsys.readouterr().err
    assert "Traceback" not in heard
    if says:
        assert says in heard

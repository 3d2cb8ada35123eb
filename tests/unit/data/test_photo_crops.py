"""data/photo_crops.py: every cut-out is where it should be, and no photograph is in two splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.photo_crops import PhotoCrops
from limbeck.errors import DataError, RecipeError


def photograph(file: Path, height: int, width: int, number: int = 0) -> None:
    """Red counts rows, green columns, blue is the number of the photograph."""
    rows, columns = np.mgrid[:height, :width]
    file.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.stack([rows, columns, np.full_like(rows, number)], 2).astype(np.uint8)).save(file)


def test_cut_outs_lie_on_the_grid_and_are_not_resized(tmp_path: Path) -> None:
    for number in range(12):
        photograph(tmp_path / "photos" / f"{number}.png", 20, 27, number)
    photograph(tmp_path / "test" / "0.png", 20, 27, 99)
    data = PhotoCrops(str(tmp_path / "photos"), 8, stride=6, test=str(tmp_path / "test"), validation=0.3)
    assert data.image_shape == (3, 8, 8) and data.name == "photos"
    images = data.split("train")
    image = images.read(torch.arange(len(images))).image
    assert image is not None
    level = ((image + 1) * 127.5).round().long()
    corners = {tuple(one[:2, 0, 0].tolist()) for one in level}
    assert corners == {(y, x) for y in (0, 6, 12) for x in (0, 6, 12, 18)}
    assert (level[:, 0, 1:] - level[:, 0, :-1] == 1).all() and (level[:, 1, :, 1:] - level[:, 1, :, :-1] == 1).all()
    test = data.split("test")
    read = test.read(torch.arange(len(test))).image
    assert read is not None and len(read) == 2 * 3  # those that are measured on never overlap
    assert (((read[:, 2] + 1) * 127.5).round() == 99).all()


def test_no_photograph_is_in_two_splits(tmp_path: Path) -> None:
    for number in range(40):
        photograph(tmp_path / f"{number}.png", 9, 9, number)
    data = PhotoCrops(str(tmp_path), 8, test=0.2, validation=0.2)
    seen = []
    for name in ("train", "validation", "test"):
        images = data.split(name)  # type: ignore[arg-type]
        image = images.read(torch.arange(len(images))).image
        assert image is not None
        seen.append({int(number) for number in ((image[:, 2, 0, 0] + 1) * 127.5).round()})
    assert sum(map(len, seen)) == len(set().union(*seen)) == 40 and min(map(len, seen)) >= 3


def test_a_test_folder_inside_is_not_trained_on_and_no_split_is_empty(tmp_path: Path) -> None:
    for number in range(6):
        photograph(tmp_path / f"{number}.png", 9, 9, number)
    for number in range(6, 20):
        photograph(tmp_path / "test" / f"{number}.png", 9, 9, number)
    data = PhotoCrops(str(tmp_path), 8, test=str(tmp_path / "test"), validation=0.01)
    seen = {}
    for name in ("train", "validation", "test"):
        images = data.split(name)  # type: ignore[arg-type]
        image = images.read(torch.arange(len(images))).image
        assert image is not None
        seen[name] = {int(number) for number in ((image[:, 2, 0, 0] + 1) * 127.5).round()}
    assert seen["test"] == set(range(6, 20)) and seen["train"] | seen["validation"] == set(range(6))
    assert len(seen["validation"]) == 1 and not seen["train"] & seen["validation"]


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "photos" / "small.png", 7, 20)
    with pytest.raises(DataError, match=r"small\.png: expected at least 8x8 pixels, found 7x20"):
        PhotoCrops(str(tmp_path / "photos"), 8, test=str(tmp_path / "photos")).split("test")
    with pytest.raises(DataError, match="no photograph is left for the"):
        PhotoCrops(str(tmp_path / "photos"), 8, test=0.01, validation=0.01).split("validation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected photographs, found none"):
        PhotoCrops(str(tmp_path / "empty"))
    for options in ({"size": 0}, {"stride": 0}, {"channels": 2}, {"validation": 0.0}, {"test": 0.95}):
        with pytest.raises(RecipeError, match="PhotoCrops"):
            PhotoCrops(str(tmp_path / "photos"), **options)  # type: ignore[arg-type]


def test_degraded_forms_are_of_the_same_places(tmp_path: Path) -> None:
    for number in range(12):
        height, width = 23 + number, 35  # no multiples of the scale: what is left is cut off
        photograph(tmp_path / "whole" / f"{number}.png", height, width, number)
        with Image.open(tmp_path / "whole" / f"{number}.png") as whole:
            pixels = np.asarray(whole)[: height // 4 * 4 : 4, : width // 4 * 4 : 4]
        (tmp_path / "small").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "small" / f"{number}x4.png")
    data = PhotoCrops(str(tmp_path / "whole"), 16, degraded=str(tmp_path / "small"), stride=4, test=0.2, validation=0.2)
    for name in ("train", "validation", "test"):
        images = data.split(name)  # type: ignore[arg-type]
        batch = images.read(torch.arange(len(images)))
        assert batch.image is not None and batch.fields["degraded"].shape == (len(images), 3, 4, 4)
        assert torch.equal(batch.fields["degraded"], batch.image[..., ::4, ::4])
    assert len(data.split("train")) > 60 and data.gives() == ("image", "degraded", "index")
    before = data.split("train").fingerprint()
    for file in (tmp_path / "small").iterdir():  # other noise is other data
        with Image.open(file) as image:
            other = 255 - np.asarray(image)
        Image.fromarray(other).save(file)
    again = PhotoCrops(
        str(tmp_path / "whole"), 16, degraded=str(tmp_path / "small"), stride=4, test=0.2, validation=0.2
    )
    assert again.split("train").fingerprint() != before

"""CamVid: the real archive's statistics, both layouts, which scenes are held out, and damaged files."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import encoded, toy_scene, write_camvid

from limbeck.data.camvid import CamVid
from limbeck.errors import DataError, RecipeError
from limbeck.types import VOID

ROOT = os.environ.get("LIMBECK_DATA", "")
real = pytest.mark.skipif(
    not (ROOT and Path(ROOT, "camvid", "camvid_240x180.zip").is_file()), reason="LIMBECK_DATA with camvid is not there"
)
SPLITS = ("train", "validation", "test")


def write_folders(root: Path) -> None:
    for k, (part, count) in enumerate({"train": 5, "val": 2, "test": 3}.items()):
        for i in range(count):
            image, mask = toy_scene(100 * k + i)
            for folder, pixels in ((part, image), (f"{part}annot", mask)):
                (root / "CamVid" / folder).mkdir(parents=True, exist_ok=True)
                (root / "CamVid" / folder / f"{part}_{i}.png").write_bytes(encoded(pixels, "PNG"))


@real
def test_the_real_classes_are_where_their_names_say() -> None:
    data = CamVid("pack", root=ROOT)
    assert [len(data.split(name)) for name in SPLITS] == [160, 40, 60]
    train, test = data.split("train"), data.split("test")
    assert train.mask is not None and test.mask is not None and test.image.shape == (60, 3, 180, 240)
    assert test.mask.unique().tolist() == [*range(11), VOID]
    names = data.mask_classes
    share = {name: (train.mask == k).float().mean().item() for k, name in enumerate(names)}
    # Known of the set: road, building and sky cover most of it, in that order; bicyclists and pedestrians least.
    order = sorted(names, key=lambda name: -share[name])
    assert order[:4] == ["road", "building", "sky", "tree"] and order[-2:] == ["pedestrian", "bicyclist"]
    down = torch.arange(180.0)[None, :, None].expand_as(train.mask)
    height = {name: down[train.mask == k].mean().item() / 180 for k, name in enumerate(names)}
    assert sorted(names, key=lambda name: height[name])[0] == "sky" and max(height, key=height.__getitem__) == "road"
    assert height["tree"] < height["building"] < height["car"] < height["pavement"]
    light = {name: train.image.float().mean(1)[train.mask == k].mean().item() for k, name in enumerate(names)}
    assert max(light, key=light.__getitem__) == "sky" and light["sky"] > 200


def test_the_archive_is_read_as_written(tmp_path: Path) -> None:
    file = write_camvid(tmp_path, train=9)
    data = CamVid(validation=3, size=(36, 48), root=str(tmp_path))
    assert data.name == "camvid-260" and [len(data.split(name)) for name in SPLITS] == [6, 3, 3]
    with zipfile.ZipFile(file) as archive:
        written = {
            np.asarray(Image.open(io.BytesIO(archive.read(name)))).transpose(2, 0, 1).tobytes(): np.asarray(
                Image.open(io.BytesIO(archive.read(name.replace("images", "masks").replace("jpg", "png"))))
            )
            for name in archive.namelist()
            if "images" in name
        }
    for name in SPLITS:
        images = data.split(name)  # type: ignore[arg-type]
        assert images.mask is not None and images.mask.dtype == torch.uint8
        for image, mask in zip(images.image, images.mask, strict=True):
            expected = written.pop(image.numpy().tobytes())
            assert np.array_equal(mask, np.where(expected == 11, VOID, expected))
    assert not written


def test_more_validation_scenes_hold_the_fewer(tmp_path: Path) -> None:
    write_camvid(tmp_path, train=20)
    held = {
        count: {
            image.numpy().tobytes() for image in CamVid(validation=count, root=str(tmp_path)).split("validation").image
        }
        for count in (3, 8)
    }
    assert len(held[3]) == 3 and len(held[8]) == 8 and held[3] < held[8]
    with pytest.raises(DataError, match=r"expected scenes in every split, found none; .*hold out fewer than 20"):
        CamVid(validation=20, root=str(tmp_path)).split("train")


def test_the_folders_of_the_tutorial(tmp_path: Path) -> None:
    write_camvid(tmp_path)
    write_folders(tmp_path)
    data = CamVid(size=(36, 48), root=str(tmp_path))
    assert data.name == "camvid" and [len(data.split(name)) for name in SPLITS] == [5, 2, 3]
    image, mask = toy_scene(101)
    second = data.split("validation")
    assert second.mask is not None and np.array_equal(second.image[1], image.transpose(2, 0, 1))
    assert np.array_equal(second.mask[1], np.where(mask == 11, VOID, mask))
    assert CamVid(root=str(tmp_path)).image_shape == (3, 360, 480)
    assert CamVid("pack", root=str(tmp_path)).image_shape == (3, 180, 240)


def test_resizing_smooths_images_and_picks_the_nearest_class(tmp_path: Path) -> None:
    write_folders(tmp_path)
    small = CamVid(size=(12, 16), root=str(tmp_path)).split("test")
    image, mask = toy_scene(201)
    assert small.mask is not None and np.array_equal(small.mask[1], np.where(mask == 11, VOID, mask)[1::3, 1::3])
    expected = Image.fromarray(image).resize((16, 12), Image.Resampling.BICUBIC)
    assert np.array_equal(small.image[1], np.asarray(expected).transpose(2, 0, 1))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    data = CamVid(root=str(tmp_path))
    assert data.name == "camvid"  # nothing there: the whole set is asked for
    with pytest.raises(DataError, match=r"CamVid/train is missing: put it there .*SegNet.*camvid_240x180\.zip"):
        data.split("train")
    with pytest.raises(DataError, match=r"camvid_240x180\.zip is missing"):
        CamVid("pack", root=str(tmp_path)).split("test")
    file = write_camvid(tmp_path)
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"camvid_240x180\.zip: cannot be read as an archive"):
        CamVid(root=str(tmp_path)).split("test")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("test/other/a.jpg", b"")
    with pytest.raises(DataError, match=r"camvid_240x180\.zip: expected scenes in test/images, found none"):
        CamVid(root=str(tmp_path)).split("test")
    image, mask = toy_scene(0)
    for bad, words in (
        (
            encoded(np.full_like(mask, 12), "PNG"),
            r"a\.png: expected the values 0\.\.10 of 11 classes or void \[11\], found 12",
        ),
        (encoded(mask[:-1], "PNG"), r"a\.png: expected a mask of 48x36 pixels as its image has, found 48x35"),
        (b"", r"a\.png: cannot be decoded"),
        (None, r"a\.png: cannot be decoded"),
    ):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("test/images/a.jpg", encoded(image, "JPEG"))
            if bad is not None:
                archive.writestr("test/masks/a.png", bad)
        with pytest.raises(DataError, match=words):
            CamVid(root=str(tmp_path)).split("test")


def test_bad_arguments() -> None:
    for arguments in ({"part": "half"}, {"validation": 0}, {"size": (0, 8)}):
        with pytest.raises(RecipeError, match=r"CamVid\.\w+: expected .*, found"):
            CamVid(**arguments)  # type: ignore[arg-type]

"""Masks as outsiders bring them: values, layouts, turned photographs, files of labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from limbeck.cli import main
from limbeck.data.mask_folder import MaskFolder
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError

SQUARE = np.zeros((20, 24), np.uint8)
SQUARE[5:15, 5:15] = 1


def folder(
    path: Path, mask: np.ndarray[Any, Any], count: int = 6, at: tuple[str, str] = ("images", "masks"), end: str = ""
) -> Path:
    """Write photographs and their masks, all alike."""
    for name in at:
        (path / name).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*mask.shape[:2], 3), dtype=np.uint8)
    for k in range(count):
        Image.fromarray(pixels).save(path / at[0] / f"{k}.png")
        if end.endswith(".npy"):
            np.save(path / at[1] / f"{k}{end}", mask)
        else:
            Image.fromarray(mask).save(path / at[1] / f"{k}{end or '.png'}")
    return path


def read(path: Path, classes: Any = ("bg", "fg"), **options: Any) -> torch.Tensor:
    """Return the first mask of the training split."""
    data = MaskFolder(str(path), classes, size=(20, 24), validation=0.2, test=0.2, **options)
    found = data.split("train").read(torch.arange(1)).mask
    assert found is not None
    return found[0]


REFUSED: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any], str]] = {
    "0 and 255": (SQUARE * 255, {}, r"found no pixel of fg; 255 is taken for void: .* values: \[0, 255\]"),
    "255 alone": (np.full_like(SQUARE, 255), {}, "found void alone; 255 is taken for void"),
    "0 and 128": (
        SQUARE * 128,
        {},
        r"values 0..1 of 2 classes or void \[255\], found 128; say by `values`",
    ),
    "from 1 on": (SQUARE + 1, {}, "found 2; say by `values`"),
    "0, 128 and 255": (
        SQUARE * 128 + np.roll(SQUARE, 9, 1) * 127,
        {},
        r"0..1 of 2 classes or void \[255\], found 12[78]; say",
    ),
    "one class that is named and missing": (SQUARE, {"classes": ("bg", "fg", "sky")}, "no pixel of sky"),
    "nothing but background": (SQUARE * 0, {}, "no pixel of fg"),
    "values of other classes": (
        SQUARE * 255,
        {"values": [0, 200]},
        r"found no pixel of fg; 255 is taken for void: .* values: \[0, 255\]",
    ),
    "too few values": (SQUARE * 255, {"values": [0]}, "values: expected one for each of the 2 classes, found 1"),
    "colours read as values": (np.repeat(SQUARE[..., None], 3, 2), {}, "expected a grey or palette mask"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_masks_that_mean_something_else(tmp_path: Path, name: str) -> None:
    mask, options, words = REFUSED[name]
    with pytest.raises(Exception, match=words) as caught:
        read(folder(tmp_path, mask), **options)
    assert "\n" not in str(caught.value) and type(caught.value).__module__ == "limbeck.errors"


READ: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any]]] = {
    "0 and 1": (SQUARE, {}),
    "0 and 255, said": (SQUARE * 255, {"values": [0, 255]}),
    "from 1 on, said": (SQUARE + 1, {"values": [1, 2]}),
    "void of another value": (SQUARE, {"void": [7]}),
    "a class that is known to be missing": (SQUARE, {"classes": ("bg", "fg", "sky"), "absent": ["sky"]}),
    "colours": (np.repeat(SQUARE[..., None] * 200, 3, 2), {"colours": [[0, 0, 0], [200, 200, 200]]}),
}


@pytest.mark.parametrize("name", READ)
def test_masks_that_are_said(tmp_path: Path, name: str) -> None:
    mask, options = READ[name]
    assert np.array_equal(read(folder(tmp_path, mask), **options).numpy(), SQUARE)


@pytest.mark.parametrize(
    "end", ["_mask.png", "_gt.png", "_seg.png", "_label.png", "_labelIds.png", "_L.png", "-mask.png"]
)
def test_masks_with_a_suffix(tmp_path: Path, end: str) -> None:
    assert np.array_equal(read(folder(tmp_path, SQUARE, end=end)).numpy(), SQUARE)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_])
def test_masks_of_numpy(tmp_path: Path, kind: type) -> None:
    assert np.array_equal(read(folder(tmp_path, SQUARE.astype(kind), end=".npy")).numpy(), SQUARE)


def test_masks_of_floats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected an array .* of whole numbers, found"):
        read(folder(tmp_path, SQUARE.astype(np.float32), end=".npy"))


LAYOUTS = {
    "labels": ("images", "labels"),
    "annotations": ("images", "annotations"),
    "mmseg": ("img_dir", "ann_dir"),
    "VOC": ("JPEGImages", "SegmentationClass"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_the_field(tmp_path: Path, name: str) -> None:
    assert np.array_equal(read(folder(tmp_path, SQUARE, at=LAYOUTS[name])).numpy(), SQUARE)


def test_mmseg_is_divided(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        folder(tmp_path, SQUARE, count, at=(f"img_dir/{part}", f"ann_dir/{part}"))
    data = MaskFolder(str(tmp_path), ["bg", "fg"], size=(20, 24))
    assert [len(data.split(part)) for part in ("train", "validation", "test")] == [4, 2, 3]


def test_voc_is_divided_by_its_lists(tmp_path: Path) -> None:
    folder(tmp_path, SQUARE, 8, at=LAYOUTS["VOC"])
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("3\n4\n")
    data = MaskFolder(str(tmp_path), ["bg", "fg"], size=(20, 24), test=0.34)
    assert len(data.split("validation")) == 2 and len(data.split("train")) + len(data.split("test")) == 3


LABELS: dict[str, tuple[Any, int]] = {
    "a list": (["bg", "fg"], 1),
    "numbers with names": ({"0": "bg", "255": "fg"}, 255),
    "names with numbers": ({"bg": 0, "fg": 7}, 7),
    "a list with ids": ([{"name": "bg", "id": 0}, {"name": "fg", "id": 9}], 9),
    "labels of a tool": ({"labels": [{"name": "bg", "id": 0}, {"name": "fg", "id": 3}]}, 3),
}


@pytest.mark.parametrize("name", LABELS)
def test_classes_named_by_json(tmp_path: Path, name: str) -> None:
    content, value = LABELS[name]
    folder(tmp_path, SQUARE * value)
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert np.array_equal(read(tmp_path, "labels.json").numpy(), SQUARE)


@pytest.mark.parametrize(("content", "words"), [("3", "expected names of classes"), ("{", "cannot be read as JSON")])
def test_json_of_something_else(tmp_path: Path, content: str, words: str) -> None:
    (folder(tmp_path, SQUARE) / "labels.json").write_text(content)
    with pytest.raises(DataError, match=words):
        read(tmp_path, "labels.json")


TURNED = {"both turned": (True, True), "an upright mask": (True, False), "neither": (False, False)}


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("shape", [(20, 20), (20, 32)])
def test_photograph_and_mask_are_upright(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    """A mask is turned as its own EXIF says; one without that tag belongs to the photograph as it is seen."""
    photograph, own = TURNED[name]
    stored = np.zeros(shape, np.uint8)
    stored[:5] = 1
    exif = Image.Exif()
    exif[274] = 6
    upright = np.rot90(stored, -1) if photograph else stored
    for place in ("images", "masks"):
        (tmp_path / place).mkdir()
    for k in range(6):
        Image.fromarray(np.repeat(stored[..., None] * 255, 3, 2)).save(
            tmp_path / f"images/{k}.png", exif=exif if photograph else Image.Exif()
        )
        Image.fromarray(np.ascontiguousarray(stored if own or not photograph else upright)).save(
            tmp_path / f"masks/{k}.png", exif=exif if own else Image.Exif()
        )
    data = MaskFolder(str(tmp_path), ["bg", "fg"], size=upright.shape, validation=0.2, test=0.2)
    batch = data.split("train").read(torch.arange(2))
    assert batch.image is not None and batch.mask is not None
    assert torch.equal((batch.image.mean(1) > 0).long(), batch.mask.long())
    assert np.array_equal(batch.mask[0].numpy(), upright)


def test_a_mask_that_is_not_turned_with_its_photograph(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    folder(tmp_path, SQUARE)
    for file in (tmp_path / "images").iterdir():
        Image.open(file).copy().save(file, exif=exif)
    with pytest.raises(DataError, match=r"expected a mask of 20x24 .* found 24x20; turn it as the EXIF"):
        read(tmp_path)


IMAGES = torch.zeros(12, 3, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize("value", [255, 2])
def test_tensors_with_a_gap_in_their_classes(value: int) -> None:
    mask = torch.zeros(12, 4, 4, dtype=torch.uint8)
    mask[:, 2:] = value
    with pytest.raises(DataError, match=r"found no pixel of|found void alone|expected") as caught:
        TensorImages(IMAGES, mask=mask, classes=["bg", "fg"])
    assert "\n" not in str(caught.value)


def test_a_segmenter_of_0_and_255(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused with status 2 and its way out; with that way out it trains on two classes."""
    rng = np.random.default_rng(0)
    folder(tmp_path / "set", np.where(rng.random((16, 16)) < 0.5, 0, 255).astype(np.uint8), 8)
    data = {"path": str(tmp_path / "set"), "classes": ["bg", "fg"], "size": 16, "validation": 0.2, "test": 0.2}
    unet = {"class_path": "UNet", "init_args": {"width": 2, "depth": 2, "classes": 2}}
    recipe = {
        "name": "s",
        "data": {"class_path": "MaskFolder", "init_args": data},
        "task": "Segmentation",
        "method": "Segment",
        "student": {"network": unet, "training": {"steps": 2, "batch": 4}},
    }
    words = ["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run"), "--accelerator", "cpu"]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert main(words) == 2 and "values: [0, 255]" in capsys.readouterr().err
    data["values"] = [0, 255]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert main(words) == 0
    shown = re.search(r"miou ([\d.]+)", capsys.readouterr().err)
    assert shown and float(shown[1]) < 0.9  # of random masks nobody is right everywhere


def test_tensors_of_0_and_255_without_names() -> None:
    mask = torch.zeros(12, 4, 4, dtype=torch.uint8)
    mask[:, 2:] = 255
    with pytest.raises(DataError, match="found 255, which is void, beside class 0 alone") as caught:
        TensorImages(IMAGES, mask=mask)
    assert "\n" not in str(caught.value)
    assert TensorImages(IMAGES, mask=mask, classes=["bg"]).mask_classes == ("bg",)  # one class, if somebody says so

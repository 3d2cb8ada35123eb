"""Pairs side by side: the real facades, folders and archives, which half is which, and damaged files."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import maximum_filter
from toys import encoded, toy_scene, write_facades

from limbeck.data.augmentations.augmentation import AugmentationSequence, Flip
from limbeck.data.augmentations.warp import Crop
from limbeck.data.base import InMemory
from limbeck.data.side_by_side import COLOURS, Facades, SideBySide
from limbeck.errors import DataError, RecipeError
from limbeck.types import KINDS, VOID

MASK, TARGET = KINDS["mask"], KINDS["target"]

ROOT = os.environ.get("LIMBECK_DATA", "")
real = pytest.mark.skipif(
    not (ROOT and Path(ROOT, "facades", "facades_110.zip").is_file()), reason="LIMBECK_DATA with facades is not there"
)
PALETTE = np.array(list(COLOURS.values()), np.uint8)
SPLITS = ("train", "validation", "test")


def picture(seed: int) -> np.ndarray:
    """Return two halves of 16x12, the right one darker."""
    left, _ = toy_scene(seed, 12, 16)
    return np.hstack([left, left // 2])


def houses(root: Path, labels: np.ndarray, photograph: np.ndarray | None = None) -> Path:
    """Write a picture of labels (H, W, 3) into every split, beside its negative in place of a photograph."""
    picture = encoded(np.hstack([255 - labels if photograph is None else photograph, labels]), "JPEG")
    for part in ("train", "val", "test"):
        (root / "facades" / part).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            (root / "facades" / part / f"{number}.jpg").write_bytes(picture)
    return root


def blocks(side: int, seed: int = 0) -> np.ndarray:
    """Return the classes (96, 96) of a picture of squares, all twelve among them."""
    count = 96 // side
    classes = np.resize(np.arange(12), count * count)
    np.random.default_rng(seed).shuffle(classes)
    return np.kron(classes.reshape(count, count), np.ones((side, side), np.int64))


def around(classes: np.ndarray, reach: int) -> np.ndarray:
    """Return which classes (12, H, W) there are at most `reach` pixels away."""
    one_hot = classes == np.arange(12)[:, None, None]
    return maximum_filter(one_hot.astype(np.uint8), (1, 2 * reach + 1, 2 * reach + 1)) > 0


def masks(images: InMemory) -> np.ndarray:
    assert images.mask is not None
    return images.mask.numpy()


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


def test_an_archive_of_one_folder_and_what_a_mac_adds_to_it(tmp_path: Path) -> None:
    names = [f"{part}/{i}.png" for part in ("Train", "Val", "Test") for i in range(3)]
    folder = write(tmp_path / "pairs", names)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for name in names:
            archive.write(folder / name, f"facades/{name}")
            archive.writestr(f"__MACOSX/facades/{name.replace('/', '/._')}", "no picture")
    one, other = SideBySide(str(folder), 8), SideBySide(str(tmp_path / "archive.zip"), 8)
    for name in SPLITS:
        assert len(one.split(name)) == len(other.split(name)) == 3  # type: ignore[arg-type]


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
    houses(tmp_path, PALETTE[np.zeros((16, 16), int)])
    data = Facades(size=16, root=str(tmp_path))
    assert data.name == "facades" and [len(data.split(name)) for name in SPLITS] == [2, 2, 2]
    assert Facades("pack", root=str(tmp_path)).name == "facades-110"


@real
def test_the_real_masks_are_read_off_the_labels() -> None:
    data = Facades("pack", root=ROOT)
    images = data.split("test")
    assert images.mask is not None and images.target is not None and data.mask_classes == tuple(COLOURS)
    assert (images.mask == VOID).float().mean() < 0.015 and set(images.mask.unique().tolist()) == {*range(12), VOID}
    labels = images.image.movedim(1, 3)
    for number, colour in enumerate(COLOURS.values()):  # most are not at an edge
        found = labels[images.mask == number].float().median(0).values
        assert (found - torch.tensor(colour)).abs().max() < 40, data.mask_classes[number]
    share = {name: (images.mask == number).float().mean().item() for number, name in enumerate(data.mask_classes)}
    assert max(share, key=share.__getitem__) == "facade" and share["window"] > share["door"] > 0.01
    turned = Facades("pack", reverse=True, root=ROOT).split("test").mask
    assert turned is not None and torch.equal(turned, images.mask)


def test_masks_are_the_classes_that_jpeg_has_blurred(tmp_path: Path) -> None:
    truth = blocks(24)
    images = Facades(size=96, root=str(houses(tmp_path, PALETTE[truth]))).split("train")
    mask = masks(images)[0]
    plain = around(truth, 3).sum(0) == 1  # away from edges every pixel is right, and near them most are
    assert plain.mean() > 0.6 and np.array_equal(mask[plain], truth[plain])
    assert (mask == truth).mean() > 0.98
    labels = images.image[0].movedim(0, 2).numpy().astype(int)
    nearest = ((labels[..., None, :] - PALETTE) ** 2).sum(3).argmin(2)  # the colour alone errs away from edges too
    assert not np.array_equal(nearest[plain], truth[plain])
    assert 2 * (mask != truth).sum() < (nearest != truth).sum()


@pytest.mark.parametrize("reverse", [False, True])
def test_masks_are_resized_to_the_nearest_pixel_and_lie_on_the_images(tmp_path: Path, reverse: bool) -> None:
    truth = blocks(16)
    data = Facades(size=(24, 48), reverse=reverse, root=str(houses(tmp_path, PALETTE[truth])))
    images = data.split("train")
    mask, middle = masks(images)[0], truth[24:72]  # what is too long is cut off
    assert mask.shape == (24, 48) and set(mask.flatten()) <= {*range(12), VOID}
    inside = around(middle, 4)[:, 1::2, 1::2].sum(0) == 1
    assert inside.mean() > 0.1 and np.array_equal(mask[inside], middle[1::2, 1::2][inside])
    assert images.target is not None
    labels = (images.target if reverse else images.image)[0].movedim(0, 2).numpy().astype(int)
    photograph = (images.image if reverse else images.target)[0].movedim(0, 2).numpy().astype(int)
    for pixels in (labels, 255 - photograph):
        assert np.abs(pixels - PALETTE[mask % 12])[inside].max() < 24


def test_masks_are_moved_with_labels_and_photographs(tmp_path: Path) -> None:
    images = Facades(size=96, root=str(houses(tmp_path, PALETTE[blocks(16)]))).split("train")
    batch = images.read(torch.tensor([0, 1]))
    assert batch.image is not None and batch.target is not None and batch.mask is not None
    change, drawn = AugmentationSequence([Flip(), Crop(8)]), {"flip": torch.tensor([0.1, 0.9])}
    drawn["crop"] = torch.tensor([[1, 14], [16, 6]])
    image = change(batch.image, drawn)
    target, mask = change.move(batch.target, drawn, TARGET), change.move(batch.mask, drawn, MASK)
    known = (mask != VOID).numpy() & np.stack([around(one, 6).sum(0) == 1 for one in mask.numpy()])
    assert known.mean() > 0.05 and not torch.equal(mask[0], mask[1])
    colours = PALETTE[mask.numpy() % 12].astype(float)
    for pixels in (image, -target):
        assert (
            np.abs((pixels.movedim(1, 3).numpy() + 1) * 127.5 - colours)[known].max() < 60
        )  # where the halves meet, they blur


def test_what_has_no_colour_of_a_class_is_void_and_exchanged_halves_are_refused(tmp_path: Path) -> None:
    labels = np.full((48, 48, 3), PALETTE[0])
    labels[8:24, 8:24] = 128
    mask = masks(Facades(size=48, root=str(houses(tmp_path, labels))).split("train"))[0]
    assert (mask[11:21, 11:21] == VOID).all() and (mask[:7] == 0).all() and set(mask.flatten()) == {0, VOID}
    houses(tmp_path, toy_scene(0, 48, 48)[0], labels)
    with pytest.raises(DataError, match=r"0\.jpg: expected a right half in the 12 colours .* exchanged\?"):
        Facades(size=48, root=str(tmp_path)).split("train")


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

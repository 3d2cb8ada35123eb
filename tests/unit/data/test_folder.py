"""Folders of images: every kind of image that a folder may hold, ways to divide it, and what is wrong with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.base import InMemory
from limbeck.data.folder import ImageFolder
from limbeck.data.image_files import FileImages, decode
from limbeck.data.pixels import Reading
from limbeck.errors import DataError, RecipeError


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(file: Path, seed: int = 0, size: int = 16) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(size, size, 3, seed=seed)).save(file)
    return file


def fill(root: Path, names: list[str]) -> Path:
    for i, name in enumerate(names):
        save(root / name, seed=i)
    return root


FLAT = [f"{i:03}.png" for i in range(40)]


def split_names(data: ImageFolder) -> dict[str, list[str]]:
    streamed = ImageFolder(str(data.path), streaming=True, validation=data.validation, test=data.test)
    parts = {name: streamed.split(name) for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    return {name: [f.as_posix() for f in images.files] for name, images in parts.items()}  # type: ignore[attr-defined]


class TestDecoding:
    def test_rgb_of_the_right_size_is_untouched(self, tmp_path: Path) -> None:
        file = save(tmp_path / "a.png")
        assert np.array_equal(decode(file, 16, 3), noise(16, 16, 3).transpose(2, 0, 1))

    def test_grey_and_colour_become_each_other(self, tmp_path: Path) -> None:
        Image.fromarray(noise(16, 16)).save(tmp_path / "grey.png")
        colour = decode(tmp_path / "grey.png", 16, 3)
        assert all(np.array_equal(channel, noise(16, 16)) for channel in colour)
        luma = decode(save(tmp_path / "a.png"), 16, 1)[0]
        assert np.abs(luma - noise(16, 16, 3) @ [0.299, 0.587, 0.114]).max() <= 1

    def test_16_bits_are_scaled_and_not_clipped(self, tmp_path: Path) -> None:
        values = np.array([[0, 257, 128 * 257], [255 * 257, 1000, 40000], [100, 128, 129]], np.uint16)
        for name in ("a.png", "a.tif"):
            Image.fromarray(values).save(tmp_path / name)
            assert np.array_equal(decode(tmp_path / name, 3, 1)[0], np.rint(values / 257))

    def test_floating_point_is_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(DataError, match=r"a\.tif: cannot be decoded \(its pixels are floating-point"):
            decode(tmp_path / "a.tif", 4, 3)

    def test_32_bits_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "a.tif")
        with pytest.raises(DataError, match="beyond 16 bits"):
            decode(tmp_path / "a.tif", 4, 3)

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_transparency_lies_on_white(self, tmp_path: Path, mode: str) -> None:
        channels = len(mode)
        pixels = noise(8, 8, channels)
        Image.fromarray(pixels, mode).save(tmp_path / "a.png")
        share = pixels[..., -1:] / 255
        expected = pixels[..., :-1] * share + 255 * (1 - share)
        assert np.abs(decode(tmp_path / "a.png", 8, 3).transpose(1, 2, 0) - expected).max() <= 1

    def test_a_transparent_colour_of_a_palette_or_grey_is_white(self, tmp_path: Path) -> None:
        image = Image.new("P", (4, 4), 1)
        image.putpalette([0, 0, 0, 200, 10, 30])
        image.putpixel((0, 0), 0)
        image.save(tmp_path / "opaque.png")
        image.save(tmp_path / "clear.png", transparency=0)
        image.save(tmp_path / "clear.gif", transparency=0)
        assert decode(tmp_path / "opaque.png", 4, 3)[:, 0, 0].tolist() == [0, 0, 0]
        for name in ("clear.png", "clear.gif"):
            assert decode(tmp_path / name, 4, 3)[:, 0, 0].tolist() == [255] * 3
            assert decode(tmp_path / name, 4, 3)[:, 1, 1].tolist() == [200, 10, 30]
        Image.new("L", (4, 4), 7).save(tmp_path / "grey.png", transparency=7)
        assert (decode(tmp_path / "grey.png", 4, 1) == 255).all()

    def test_one_bit_and_cmyk(self, tmp_path: Path) -> None:
        Image.fromarray(np.eye(4) > 0).save(tmp_path / "a.png")
        assert np.array_equal(decode(tmp_path / "a.png", 4, 1)[0], np.eye(4) * 255)
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
        assert np.abs(decode(tmp_path / "a.jpg", 8, 3)[:, 4, 4].astype(int) - [255, 0, 0]).max() <= 3

    @pytest.mark.parametrize(
        ("orientation", "undo"),
        [
            (1, lambda a: a),
            (2, lambda a: a[:, ::-1]),
            (3, lambda a: a[::-1, ::-1]),
            (4, lambda a: a[::-1]),
            (6, lambda a: np.rot90(a, -1)),
            (8, lambda a: np.rot90(a, 1)),
        ],
    )
    def test_exif_rotation(self, tmp_path: Path, orientation: int, undo: Callable[[np.ndarray], np.ndarray]) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
        Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
        assert np.array_equal(decode(tmp_path / "a.png", 4, 1)[0], undo(stored))

    @pytest.mark.parametrize("shape", [(24, 10), (10, 24), (5, 40), (300, 301), (7, 7)])
    def test_odd_sizes_keep_their_centre_and_shape(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        height, width = shape
        pixels = np.zeros((height, width), np.uint8)
        side = min(shape)
        top, left = (height - side) // 2, (width - side) // 2
        pixels[top : top + side, left : left + side] = 200  # the square that is kept
        Image.fromarray(pixels).save(tmp_path / "a.png")
        result = decode(tmp_path / "a.png", 8, 1)
        assert result.shape == (1, 8, 8) and (result[0, 2:-2, 2:-2] >= 190).all()

    def test_a_truncated_file_is_named(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.jpg", "c.webp", "d.bmp"):
            file = save(tmp_path / name, size=64)
            file.write_bytes(file.read_bytes()[:-200])
            with pytest.raises(DataError, match=rf"{name}: cannot be decoded .*repair or remove it"):
                decode(file, 8, 3)
        (tmp_path / "empty.png").touch()
        with pytest.raises(DataError, match=r"empty\.png: cannot be decoded"):
            decode(tmp_path / "empty.png", 8, 3)

    def test_an_image_of_absurd_size_is_refused(self, tmp_path: Path) -> None:
        file = save(tmp_path / "a.png", size=64)
        with pytest.raises(DataError, match=r"a\.png: expected at most 100 pixels, found 64x64"):
            decode(file, 8, 3, Reading(largest=100))


class TestDividing:
    def test_flat(self, tmp_path: Path) -> None:
        data = ImageFolder(str(fill(tmp_path, FLAT)), size=16)
        names = split_names(data)
        assert sorted(names["train"] + names["validation"] + names["test"]) == FLAT and data.classes == ()
        assert all(files == sorted(files) and files for files in names.values())
        original = {noise(16, 16, 3, seed=i).transpose(2, 0, 1).tobytes(): i for i in range(40)}
        for name, files in names.items():
            images = data.split(name)  # type: ignore[arg-type]
            assert isinstance(images, InMemory) and images.label is None
            assert [original[one.numpy().tobytes()] for one in images.image] == [int(f[:3]) for f in files]

    def test_an_image_stays_in_its_split_when_others_come(self, tmp_path: Path) -> None:
        fill(tmp_path, [f"{i:04}.png" for i in range(300)])
        before = split_names(ImageFolder(str(tmp_path), test=0.2, validation=0.2))
        for name in ("train", "validation", "test"):
            assert len(before[name]) == pytest.approx(300 * {"train": 0.6}.get(name, 0.2), abs=30)
        fill(tmp_path, [f"more/{i}.png" for i in range(50)])
        after = split_names(ImageFolder(str(tmp_path), test=0.2, validation=0.2))
        for name, files in before.items():
            assert set(files) <= set(after[name])

    def test_the_place_of_the_folder_does_not_matter(self, tmp_path: Path) -> None:
        fill(tmp_path / "one", FLAT)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        one, two = (ImageFolder(str(tmp_path / name), streaming=True) for name in ("one", "two"))
        assert split_names(one) == split_names(two)
        assert one.split("train").fingerprint() == two.split("train").fingerprint()
        assert (one.name, two.name, ImageFolder(str(tmp_path / "two"), name="mine").name) == ("one", "two", "mine")

    @pytest.mark.parametrize("count", [3, 4, 5])
    def test_a_tiny_folder_has_an_image_for_every_split(self, tmp_path: Path, count: int) -> None:
        names = split_names(ImageFolder(str(fill(tmp_path, FLAT[:count]))))
        assert all(names.values()) and sum(map(len, names.values())) == count

    def test_too_few_images_are_said(self, tmp_path: Path) -> None:
        data = ImageFolder(str(fill(tmp_path, FLAT[:2])))
        with pytest.raises(DataError, match="no image is left for the train split"):
            data.split("train")

    def test_nothing_held_out(self, tmp_path: Path) -> None:
        data = ImageFolder(str(fill(tmp_path, FLAT)), size=4, test=0, validation=0)
        assert len(data.split("train")) == 40
        with pytest.raises(DataError, match="no image is left for the test split"):
            data.split("test")

    def test_classes(self, tmp_path: Path) -> None:
        fill(tmp_path, [f"{c}/{i}.png" for c in ("dog", "cat", "eel") for i in range(10)])
        data = ImageFolder(str(tmp_path), size=16)
        assert data.classes == ("cat", "dog", "eel")
        files = split_names(data)["train"]
        label = data.split("train").label  # type: ignore[attr-defined]
        assert [data.classes[k] for k in label] == [f.split("/")[0] for f in files]
        assert ImageFolder(str(tmp_path), by_class=False).classes == ()

    def test_a_stray_image_among_classes(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a/0.png", "b/1.png", "2.png"])
        assert ImageFolder(str(tmp_path)).classes == ()
        with pytest.raises(DataError, match=r"2\.png: expected every image in the subfolder of its class"):
            ImageFolder(str(tmp_path), by_class=True)

    @pytest.mark.parametrize("validation", ["val", "validation", "valid"])
    def test_subfolders_for_the_splits(self, tmp_path: Path, validation: str) -> None:
        fill(
            tmp_path, [f"{part}/{c}/{i}.png" for part in ("train", validation, "test") for c in "ab" for i in range(3)]
        )
        data = ImageFolder(str(tmp_path), size=4)
        assert data.classes == ("a", "b")
        for name, files in split_names(data).items():
            assert {f.split("/")[0] for f in files} == {validation if name == "validation" else name} and len(
                files
            ) == 6

    def test_a_missing_test_folder_is_held_out_of_train(self, tmp_path: Path) -> None:
        fill(tmp_path, [f"train/{i}.png" for i in range(20)] + [f"val/{i}.png" for i in range(4)])
        data = ImageFolder(str(tmp_path), size=4)
        names = split_names(data)
        assert data.classes == () and len(names["validation"]) == 4
        assert len(names["test"]) >= 1 and len(names["train"]) + len(names["test"]) == 20

    def test_other_files_and_hidden_ones_are_left_out(self, tmp_path: Path) -> None:
        fill(tmp_path, [*FLAT[:5], ".hidden.png", ".thumbs/a.png", "UPPER.PNG"])
        (tmp_path / "notes.txt").write_text("no image")
        names = split_names(ImageFolder(str(tmp_path)))
        assert sorted(file for files in names.values() for file in files) == [*FLAT[:5], "UPPER.PNG"]


class TestReading:
    def test_streaming_and_memory_give_the_same(self, tmp_path: Path) -> None:
        fill(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(10)])
        stream = ImageFolder(str(tmp_path), size=9, streaming=True).split("train")
        memory = ImageFolder(str(tmp_path), size=9, streaming=False).split("train")
        assert stream.streaming and not memory.streaming and isinstance(stream, FileImages)
        index = torch.tensor([4, 0, 2])
        one, other = stream.read(index), memory.read(index)
        assert torch.equal(one.image, other.image) and torch.equal(one.label, other.label)  # type: ignore[arg-type]

    def test_large_folders_stream_by_themselves(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(tmp_path, FLAT)
        monkeypatch.setattr("limbeck.data.splits.MEMORY", 40 * 3 * 8 * 8)
        assert not ImageFolder(str(tmp_path), size=8).split("train").streaming
        assert ImageFolder(str(tmp_path), size=9).split("train").streaming
        assert not ImageFolder(str(tmp_path), size=9, streaming=False).split("train").streaming

    def test_all_that_cannot_be_decoded_is_one_error(self, tmp_path: Path) -> None:
        fill(tmp_path, FLAT)
        for name in FLAT:
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-300])
        data = ImageFolder(str(tmp_path), size=8, test=0, validation=0)
        with pytest.raises(DataError, match=r"000\.png: cannot be decoded .*\(and 39 more of 40 images\)"):
            data.split("train")
        stream = ImageFolder(str(tmp_path), size=8, test=0, validation=0, streaming=True).split("train")
        with pytest.raises(DataError, match=r"007\.png: cannot be decoded"):
            stream.read(torch.tensor([7]))

    def test_the_fingerprint_of_a_stream_follows_content_names_and_shape(self, tmp_path: Path) -> None:
        fill(tmp_path, FLAT[:6])

        def fingerprint(size: int = 8) -> str:
            data = ImageFolder(str(tmp_path), size=size, test=0, validation=0, streaming=True)
            return data.split("train").fingerprint()

        prints = [fingerprint(), fingerprint(9)]
        os.utime(tmp_path / FLAT[0], (0, 0))
        assert fingerprint() == prints[0]  # when a file was written is not content
        save(tmp_path / FLAT[0], seed=99)
        prints.append(fingerprint())
        (tmp_path / FLAT[0]).rename(tmp_path / "z.png")
        prints.append(fingerprint())
        assert len(set(prints)) == 4

    def test_a_file_that_went_away(self, tmp_path: Path) -> None:
        images = ImageFolder(str(fill(tmp_path, FLAT)), streaming=True).split("train")
        shutil.rmtree(tmp_path)
        with pytest.raises(DataError, match="No such file"):
            images.fingerprint()
        with pytest.raises(DataError, match="No such file"):
            images.read(torch.tensor([0]))


class TestFinding:
    def test_relative_to_the_data_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(tmp_path / "root" / "photos", FLAT[:3])
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "root"))
        assert ImageFolder("photos").path == tmp_path / "root" / "photos"
        with pytest.raises(DataError, match=rf"no such folder of images: fotos or {tmp_path}/root/fotos"):
            ImageFolder("fotos")

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a\.png: expected a folder of images, found a file"):
            ImageFolder(str(save(tmp_path / "a.png")))

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(DataError, match=r"expected images \(\.bmp .*\), found none"):
            ImageFolder(str(tmp_path))

    @pytest.mark.parametrize("closed", ["", "inner"])
    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
        fill(tmp_path, ["inner/a.png", "b.png"])
        scan = os.scandir  # tests may run as root, whom no permission stops: so the system call is made to refuse

        def refuse(path: str) -> object:
            if Path(path) == tmp_path / closed:
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(DataError, match=rf"{tmp_path / closed}: cannot be read \(Permission denied\)"):
            ImageFolder(str(tmp_path))

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"size": 0}, r"ImageFolder\.size"),
            ({"channels": 4}, r"ImageFolder\.channels"),
            ({"test": 1.0}, "parts in"),
            ({"test": 0.5, "validation": 0.5}, "parts in"),
            ({"validation": -0.1}, "parts in"),
        ],
    )
    def test_bad_arguments(self, tmp_path: Path, arguments: dict[str, float], words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            ImageFolder(str(fill(tmp_path, FLAT[:3])), **arguments)  # type: ignore[arg-type]


def test_folders_of_splits_in_other_spellings_and_twice(tmp_path: Path) -> None:
    fill(tmp_path / "a", ["Train/cat/1.png", "Train/dog/2.png", "Test/cat/3.png", "Val/dog/4.png"])
    data = ImageFolder(str(tmp_path / "a"), size=16)
    names = split_names(data)
    assert data.classes == ("cat", "dog") and names["train"] == ["Train/cat/1.png", "Train/dog/2.png"]
    assert names["validation"] == ["Val/dog/4.png"] and names["test"] == ["Test/cat/3.png"]
    fill(tmp_path / "b", ["train/1.png", "val/2.png", "valid/3.png"])
    with pytest.raises(DataError, match="expected one folder for validation, found val, valid"):
        ImageFolder(str(tmp_path / "b"), size=16).split("train")


def test_a_link_to_a_folder_above_shows_nothing_twice(tmp_path: Path) -> None:
    fill(tmp_path, FLAT)
    (tmp_path / "latest").symlink_to(tmp_path)
    assert sum(map(len, split_names(ImageFolder(str(tmp_path), size=16)).values())) == len(FLAT)


def test_a_name_that_is_no_utf8_has_its_place(tmp_path: Path) -> None:
    fill(tmp_path, FLAT)
    strange = os.fsdecode(b"caf\xe9.png")
    try:
        (tmp_path / "000.png").rename(tmp_path / strange)
    except OSError:
        pytest.skip("this file system takes no such name")
    assert any(strange in names for names in split_names(ImageFolder(str(tmp_path), size=16)).values())

"""Folders of images and masks: every way to store a mask, ways to divide the folder, and what is wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import toy_scene

from limbeck.data.mask_folder import MaskFolder
from limbeck.errors import DataError, RecipeError
from limbeck.types import VOID

CLASSES = ["sky", "tree", "road"]
COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
GREY = (7, 7, 7)  # void, where masks have colours
WIDTH, HEIGHT = 20, 16


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and a mask of three classes with a corner of void."""
    image, mask = toy_scene(seed, WIDTH, HEIGHT, classes=3)
    mask[:3, :4] = VOID
    return image, mask


def save(file: Path, pixels: np.ndarray | Image.Image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(file)


def palette(mask: np.ndarray, colours: list[tuple[int, int, int]] | None = None) -> Image.Image:
    image = Image.fromarray(mask, "P")
    table = [level for colour in colours or COLOURS for level in colour]
    image.putpalette(table + [0] * (3 * VOID - len(table)) + [*GREY])
    return image


def coloured(mask: np.ndarray) -> np.ndarray:
    table = np.array([*COLOURS, *[GREY] * 253], np.uint8)
    return table[mask]


def write(
    root: Path, kind: Callable[[np.ndarray], np.ndarray | Image.Image] = lambda mask: mask, count: int = 8
) -> Path:
    for i in range(count):
        image, mask = scene(i)
        save(root / "images" / f"{i}.png", image)
        save(root / "masks" / f"{i}.png", kind(mask))
    return root


def write_parts(root: Path, count: int = 8) -> Path:
    for i in range(count):
        image, mask = scene(i)
        save(root / "images" / f"{i}.png", image)
        for k, name in enumerate(CLASSES):
            if k < 2 or i % 2:  # where a class does not occur, its file may be missing
                save(root / "masks" / name / f"{i}.png", ((mask == k) * 255).astype(np.uint8))
    return root


def whole(root: Path, **options: object) -> MaskFolder:
    options = {"size": (HEIGHT, WIDTH), "validation": 0.0, "test": 0.0} | options
    return MaskFolder(str(root), CLASSES, **options)  # type: ignore[arg-type]


def masks(data: MaskFolder) -> np.ndarray:
    images = data.split("train")
    mask = images.read(torch.arange(len(images))).mask
    assert mask is not None
    return mask.numpy()


EXPECTED = np.stack([scene(i)[1] for i in range(8)])


class TestKinds:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            (lambda mask: mask, {}),
            (palette, {}),
            (lambda mask: Image.fromarray(mask.astype(np.uint16)), {}),
            (lambda mask: Image.fromarray(np.where(mask == VOID, 1000, mask.astype(np.uint16))), {"void": [1000]}),
            (
                lambda mask: np.where(mask == VOID, 3, mask * 100).astype(np.uint8),
                {"values": [0, 100, 200], "void": [3]},
            ),
            (coloured, {"colours": COLOURS, "void_colours": [GREY]}),
            (palette, {"colours": COLOURS, "void_colours": [GREY]}),
            (
                lambda mask: Image.fromarray(coloured(mask)).convert("RGBA"),
                {"colours": COLOURS, "void_colours": [GREY]},
            ),
        ],
        ids=["grey", "palette", "16 bits", "16-bit void", "values", "RGB", "palette by colour", "RGBA"],
    )
    def test_all_kinds_give_the_same_classes(
        self, tmp_path: Path, kind: Callable[[np.ndarray], np.ndarray], options: dict[str, object]
    ) -> None:
        data = whole(write(tmp_path, kind), **options)
        assert np.array_equal(masks(data), EXPECTED) and data.mask_classes == tuple(CLASSES)
        images = data.split("train").read(torch.arange(8)).image
        levels = ((images + 1) * 127.5).round().to(torch.uint8)  # type: ignore[operator]
        assert np.array_equal(levels, np.stack([scene(i)[0].transpose(2, 0, 1) for i in range(8)]))

    def test_one_file_a_class(self, tmp_path: Path) -> None:
        expected = EXPECTED.copy()
        expected[::2][expected[::2] == 2] = VOID  # the class without a file
        assert np.array_equal(masks(whole(write_parts(tmp_path))), expected)
        rest = masks(whole(tmp_path, rest="road"))
        assert np.array_equal(rest, np.where(EXPECTED == VOID, 2, EXPECTED))

    def test_of_files_that_overlap_the_last_class_counts(self, tmp_path: Path) -> None:
        write_parts(tmp_path, 1)
        save(tmp_path / "masks" / "road" / "0.png", np.eye(HEIGHT, WIDTH, dtype=np.uint8))
        assert (masks(whole(tmp_path))[0] == 2).sum() == HEIGHT

    def test_black_and_white(self, tmp_path: Path) -> None:
        for name, pixels in (("one bit", np.eye(4) > 0), ("grey", (np.eye(4) * 255).astype(np.uint8))):
            save(tmp_path / name / "images" / "a.png", np.zeros((4, 4, 3), np.uint8))
            save(tmp_path / name / "masks" / "a.png", pixels)
        options = {"size": 4, "validation": 0.0, "test": 0.0}
        bit = MaskFolder(str(tmp_path / "one bit"), ["rest", "line"], **options)  # type: ignore[arg-type]
        grey = MaskFolder(str(tmp_path / "grey"), ["rest", "line"], values=[0, 255], **options)  # type: ignore[arg-type]
        assert np.array_equal(masks(bit)[0], np.eye(4)) and np.array_equal(masks(grey)[0], np.eye(4))


class TestSizes:
    def test_a_mask_is_cut_and_resized_as_its_image(self, tmp_path: Path) -> None:
        for i in range(3):
            mask = scene(i)[1]
            save(tmp_path / "images" / f"{i}.png", np.repeat(mask[..., None], 3, 2))
            save(tmp_path / "masks" / f"{i}.png", mask)
        found = masks(whole(tmp_path, size=8, channels=1))
        assert found.shape == (3, 8, 8)
        expected = np.stack([scene(i)[1][1::2, 3:18:2] for i in range(3)])  # the middle 16 of 20 columns
        assert np.array_equal(found, expected)

    @pytest.mark.parametrize("size", [(5, 9), (31, 7), 33])
    def test_no_size_invents_a_class(self, tmp_path: Path, size: int | tuple[int, int]) -> None:
        write(tmp_path, lambda mask: np.where(mask == 1, 2, mask).astype(np.uint8))
        data = whole(tmp_path, size=size, absent=["tree"])
        assert set(np.unique(masks(data))) <= {0, 2, VOID}
        assert masks(data).shape[1:] == ((size, size) if isinstance(size, int) else size)


class TestDividing:
    def test_parts_are_held_out_by_path_and_stay(self, tmp_path: Path) -> None:
        write(tmp_path, count=30)
        data = whole(tmp_path, validation=0.2, test=0.2, streaming=True)
        parts = {name: set(data.split(name).files) for name in ("train", "validation", "test")}  # type: ignore[attr-defined,arg-type]
        assert sum(map(len, parts.values())) == 30 and all(parts.values())
        for i in range(30, 40):
            save(tmp_path / "images" / f"{i}.png", scene(i)[0])
            save(tmp_path / "masks" / f"{i}.png", scene(i)[1])
        more = whole(tmp_path, validation=0.2, test=0.2, streaming=True)
        assert all(some <= set(more.split(name).files) for name, some in parts.items())  # type: ignore[attr-defined,arg-type]

    def test_subfolders_for_the_splits(self, tmp_path: Path) -> None:
        for part, count in {"train": 6, "val": 2, "test": 3}.items():
            write(tmp_path / part, count=count)
        data = whole(tmp_path)
        assert [len(data.split(name)) for name in ("train", "validation", "test")] == [6, 2, 3]  # type: ignore[arg-type]

    def test_images_may_lie_deeper(self, tmp_path: Path) -> None:
        for folder in ("sky", "b"):  # a folder that is named as a class is none where images lie in it too
            for i in range(3):
                save(tmp_path / "images" / folder / f"{i}.jpg", scene(i)[0])
                save(tmp_path / "masks" / folder / f"{i}.png", scene(i)[1])
        assert np.array_equal(masks(whole(tmp_path)), np.concatenate([EXPECTED[:3]] * 2))


class TestReading:
    @pytest.mark.parametrize("writer", [write, write_parts])
    def test_streaming_and_memory_give_the_same(self, tmp_path: Path, writer: Callable[[Path], Path]) -> None:
        writer(tmp_path)
        stream, memory = (whole(tmp_path, size=9, streaming=s).split("train") for s in (True, False))
        assert stream.streaming and not memory.streaming
        index = torch.tensor([4, 0, 2])
        one, other = stream.read(index), memory.read(index)
        assert torch.equal(one.image, other.image) and torch.equal(one.mask, other.mask)  # type: ignore[arg-type]

    def test_the_fingerprint_of_a_stream_follows_files_and_their_meaning(self, tmp_path: Path) -> None:
        write(tmp_path)
        shutil.copytree(tmp_path / "masks", tmp_path / "elsewhere" / "masks")
        shutil.copytree(tmp_path / "images", tmp_path / "elsewhere" / "images")

        def fingerprint(folder: Path = tmp_path, **options: object) -> str:
            return whole(folder, streaming=True, **options).split("train").fingerprint()

        prints = [fingerprint(), fingerprint(size=9), fingerprint(void=[VOID, 9]), fingerprint(values=[0, 2, 1])]
        assert fingerprint(tmp_path / "elsewhere") == prints[0]
        save(tmp_path / "masks" / "0.png", scene(99)[1])
        assert len({*prints, fingerprint()}) == 5

    def test_all_that_is_wrong_is_one_error(self, tmp_path: Path) -> None:
        write(tmp_path, lambda mask: np.where(mask == 1, 9, mask).astype(np.uint8))
        with pytest.raises(DataError, match=r"masks/0\.png: expected .*found 9; .* \(and 7 more of 8 images\)"):
            whole(tmp_path).split("train")


def damage(file: str, pixels: np.ndarray | Image.Image | bytes | None) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        (root / file).unlink(missing_ok=True)
        if isinstance(pixels, bytes):
            (root / file).write_bytes(pixels)
        elif pixels is not None:
            save(root / file, pixels)

    return act


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("act", "words"),
        [
            (
                damage("masks/3.png", np.zeros((HEIGHT, 5), np.uint8)),
                r"masks/3\.png: expected a mask of 20x16 pixels as its image has, found 5x16",
            ),
            (
                damage("masks/3.png", np.full((HEIGHT, WIDTH), 4, np.uint8)),
                r"masks/3\.png: expected the values 0\.\.2 of 3 classes or void \[255\], found 4",
            ),
            (damage("masks/3.png", None), r"images/3\.png: expected its mask .*masks/3\.\*, found none"),
            (damage("images/3.png", None), r"masks/3\.png: expected an image of this name, found none"),
            (
                damage("masks/3.png", coloured(scene(3)[1])),
                r"masks/3\.png: expected a grey or palette mask, found one of mode RGB; give the `colours`",
            ),
            (damage("masks/3.png", b"PNG"), r"masks/3\.png: cannot be decoded"),
            (damage("images/3.png", b"PNG"), r"images/3\.png: cannot be decoded"),
            (
                damage("masks/3.png", palette(scene(3)[1])),
                r"masks/3\.png: expected no palette as in masks/0\.png, found one",
            ),
            (damage("masks/3.jpg", scene(3)[1]), r"masks/3\.png: expected one file of this name, found 3\.jpg too"),
        ],
    )
    def test_a_file(self, tmp_path: Path, act: Callable[[Path], None], words: str) -> None:
        act(write(tmp_path))
        with pytest.raises(DataError, match=words) as caught:
            whole(tmp_path).split("train")
        assert "\n" not in str(caught.value)

    def test_palettes_that_differ(self, tmp_path: Path) -> None:
        write(tmp_path, palette)
        save(tmp_path / "masks" / "3.png", palette(scene(3)[1], COLOURS[::-1]))
        with pytest.raises(
            DataError,
            match=r"3\.png: expected the palette of masks/0\.png, where 0 is \[200, 0, 0\], found \[0, 0, 200\]",
        ):
            whole(tmp_path).split("train")
        by_colour = masks(whole(tmp_path, colours=COLOURS, void_colours=[GREY]))
        assert np.array_equal(by_colour[3][EXPECTED[3] < 3], 2 - EXPECTED[3][EXPECTED[3] < 3])

    def test_a_colour_that_is_no_class(self, tmp_path: Path) -> None:
        write(tmp_path, coloured)
        with pytest.raises(DataError, match=r"0\.png: expected the colours of classes or void, found \(7, 7, 7\)"):
            whole(tmp_path, colours=COLOURS).split("train")

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=rf"{tmp_path}: expected subfolders images and masks, found no images"):
            whole(tmp_path)
        (tmp_path / "images").mkdir()
        with pytest.raises(DataError, match=r"images: expected images, found none"):
            whole(tmp_path)
        write_parts(tmp_path)
        (tmp_path / "masks" / "tree").rename(tmp_path / "masks" / "tre")
        with pytest.raises(
            DataError, match=r"masks/tre: expected a folder of the class sky.*\(did you mean 'tree'\?\)"
        ):
            whole(tmp_path)

    @pytest.mark.parametrize(
        "options",
        [
            {"size": 0},
            {"channels": 2},
            {"values": [0, 1]},
            {"values": [0, 1, 1]},
            {"values": [0, 1, VOID], "void": [VOID]},
            {"colours": COLOURS[:2]},
            {"colours": [(0, 0, 300)] * 3},
            {"colours": COLOURS, "values": [0, 1, 2]},
            {"void_colours": [GREY]},
            {"rest": "rode"},
            {"rest": "road"},
            {"validation": 1.0},
        ],
    )
    def test_arguments(self, tmp_path: Path, options: dict[str, object]) -> None:
        with pytest.raises(RecipeError, match=r"MaskFolder.*: expected .*, found"):
            whole(write(tmp_path, count=2), **options)

    def test_classes(self, tmp_path: Path) -> None:
        write(tmp_path, count=2)
        for classes in ([], ["a", "a"], [str(k) for k in range(256)]):
            with pytest.raises(RecipeError, match=r"MaskFolder\.classes: expected 1 to 255 different names"):
                MaskFolder(str(tmp_path), classes)

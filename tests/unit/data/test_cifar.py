"""CIFAR-10: published statistics of the real batches, both layouts, and pickles that would run code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.cifar import CIFAR10, CIFAR100, TRAIN, read_batch
from limbeck.errors import DataError, RecipeError

ROOT = os.environ.get("LIMBECK_DATA", "")
real = pytest.mark.skipif(
    not (ROOT and Path(ROOT, "cifar10").is_dir()), reason="LIMBECK_DATA with cifar10 is not there"
)


def arrays(seed: int, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, count, dtype=np.uint8)


def write_batch(root: Path, name: str, seed: int, count: int = 20) -> Path:
    image, label = arrays(seed, count)
    file = root / "cifar-10-batches-py" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        b"batch_label": b"x",
        b"data": image.reshape(count, 3072),
        b"labels": label.tolist(),
        b"filenames": [b"a.png"],
    }
    file.write_bytes(pickle.dumps(content, protocol=2))
    return file


def write_sheets(root: Path, batch: str, seed: int, sheets: int = 1) -> Path:
    image, label = arrays(seed, 1000 * sheets)
    folder = root / "cifar10"
    folder.mkdir(exist_ok=True)
    for k in range(sheets):
        part = image[1000 * k : 1000 * (k + 1)].reshape(40, 25, 3, 32, 32)
        rows = [np.concatenate(list(row.transpose(0, 2, 3, 1)), axis=1) for row in part]
        Image.fromarray(np.concatenate(rows)).save(folder / f"{batch}_{k}.webp", lossless=True, method=0)
    (folder / f"{batch}_labels.u8").write_bytes(label.tobytes())
    return folder


@real
def test_the_real_batches_have_their_published_statistics() -> None:
    data = CIFAR10(root=ROOT, part="10k")
    assert data.name == "cifar10-10k"
    test, train, validation = data.split("test"), data.split("train"), data.split("validation")
    assert (len(train), len(validation), len(test)) == (9000, 1000, 10000)
    assert test.label is not None and train.label is not None and validation.label is not None
    assert test.label.bincount().tolist() == [1000] * 10
    # data_batch_1 is not balanced: its counts, and the first ten labels of the test batch, are known.
    both = train.label.bincount() + validation.label.bincount()
    assert both.tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert test.label[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    mean = test.image.float().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx([0.4942, 0.4851, 0.4504], abs=1e-4)


def test_batches_are_read_as_written(tmp_path: Path) -> None:
    for k, name in enumerate((*TRAIN, "test_batch")):
        write_batch(tmp_path, name, seed=k)
    data = CIFAR10(root=str(tmp_path))
    assert data.name == "cifar10" and len(data.split("train")) == 90 and len(data.split("validation")) == 10
    assert np.array_equal(data.split("test").image, arrays(5)[0])
    whole = np.concatenate([arrays(k)[0] for k in range(5)])
    held = {one.numpy().tobytes() for name in ("train", "validation") for one in data.split(name).image}
    assert held == {one.tobytes() for one in whole}
    part = CIFAR10("10k", root=str(tmp_path))
    assert part.name == "cifar10-10k" and len(part.split("train")) == 18


def test_sheets_are_read_as_written(tmp_path: Path) -> None:
    write_sheets(tmp_path, "test_batch", seed=3, sheets=2)
    images = CIFAR10(root=str(tmp_path)).split("test")
    image, label = arrays(3, 2000)
    assert np.array_equal(images.image, image) and images.label is not None and np.array_equal(images.label, label)


def test_both_layouts_give_the_same_data(tmp_path: Path) -> None:
    write_sheets(tmp_path, "test_batch", seed=4)
    sheets = CIFAR10(root=str(tmp_path)).split("test").fingerprint()
    write_batch(tmp_path, "test_batch", seed=4, count=1000)
    (tmp_path / "cifar10" / "test_batch_0.webp").unlink()
    assert CIFAR10(root=str(tmp_path)).split("test").fingerprint() == sheets


def test_which_part_is_there(tmp_path: Path) -> None:
    assert CIFAR10(root=str(tmp_path)).name == "cifar10"  # nothing there: the whole set is asked for
    write_batch(tmp_path, TRAIN[0], seed=0)
    assert CIFAR10(root=str(tmp_path)).name == "cifar10-10k"
    with pytest.raises(
        DataError, match=r"data_batch_2 is missing: put it into .*cifar-10-batches-py .*cifar-10-python"
    ):
        CIFAR10("full", root=str(tmp_path)).split("train")
    with pytest.raises(DataError, match="test_batch is missing"):
        CIFAR10(root=str(tmp_path)).split("test")
    with pytest.raises(RecipeError, match=r"CIFAR10\.part"):
        CIFAR10("20k")  # type: ignore[arg-type]


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    file, mark = write_batch(tmp_path, "test_batch", seed=0), tmp_path / "ran"
    for content in (Evil(f"touch {mark}"), {b"data": Evil(f"touch {mark}"), b"labels": []}):
        file.write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match=r"test_batch: cannot be read .*it asks for posix\.system"):
            read_batch(file)
    file.write_bytes(b"cbuiltins\neval\n(S'open(\"" + str(mark).encode() + b'", "w")\'\ntR.')
    with pytest.raises(DataError, match=r"builtins\.eval"):
        read_batch(file)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(f"touch {mark}")))
    assert mark.exists()  # the trap works where nothing guards


@pytest.mark.parametrize("protocol", range(5))
def test_batches_that_python_3_wrote_are_read(tmp_path: Path, protocol: int) -> None:
    file = write_batch(tmp_path, "test_batch", seed=1)
    content = {b"data": arrays(1)[0].reshape(20, 3072), b"labels": arrays(1)[1].tolist()}
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    assert np.array_equal(read_batch(file)[0], arrays(1)[0])


def test_a_batch_as_python_2_wrote_it(tmp_path: Path) -> None:
    # Protocol 2, byte strings as SHORT_BINSTRING: {'labels': [3], 'data': numpy.core.multiarray array}, by hand.
    pixels = bytes(range(256)) * 12
    file = tmp_path / "batch"
    file.write_bytes(
        b"\x80\x02}(U\x06labels]K\x03aU\x04data"
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T\x00\x0c\x00\x00"
        + pixels
        + b"tbu."
    )
    image, label = read_batch(file)
    assert image.shape == (1, 3, 32, 32) and image.tobytes() == pixels and label.tolist() == [3]


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1, 2]), pickle.dumps({b"data": np.zeros((2, 5))})])
def test_damaged_batches_are_named(tmp_path: Path, content: bytes) -> None:
    file = write_batch(tmp_path, "test_batch", seed=0)
    file.write_bytes(content)
    with pytest.raises(DataError, match="test_batch: cannot be read as a CIFAR python batch"):
        CIFAR10(root=str(tmp_path)).split("test")


def test_a_truncated_batch_is_named(tmp_path: Path) -> None:
    file = write_batch(tmp_path, "test_batch", seed=0)
    file.write_bytes(file.read_bytes()[:-4000])
    with pytest.raises(DataError, match="test_batch: cannot be read"):
        CIFAR10(root=str(tmp_path)).split("test")


def test_labels_and_images_that_do_not_fit(tmp_path: Path) -> None:
    folder = write_sheets(tmp_path, "test_batch", seed=0)
    labels = folder / "test_batch_labels.u8"
    content = labels.read_bytes()
    for bad, words in (
        (content[:-1], r"found \(1000, 3, 32, 32\) and \(999,\)"),
        (b"\x0b" + content[1:], "N labels 0..9"),
        (content * 2, "test_batch_1.webp: cannot be decoded"),
        (b"", "expected images"),
    ):
        labels.write_bytes(bad)
        with pytest.raises(DataError, match=words):
            CIFAR10(root=str(tmp_path)).split("test")
    labels.unlink()
    with pytest.raises(DataError, match=r"test_batch_labels\.u8 is missing: put it into"):
        CIFAR10(root=str(tmp_path)).split("test")
    labels.write_bytes(content)
    Image.new("RGB", (100, 100)).save(folder / "test_batch_0.webp")
    with pytest.raises(DataError, match="expected a sheet of 800 x 1280 pixels, found 100 x 100"):
        CIFAR10(root=str(tmp_path)).split("test")
    (folder / "test_batch_0.webp").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"test_batch_0\.webp: cannot be decoded"):
        CIFAR10(root=str(tmp_path)).split("test")


def test_labels_are_int64(tmp_path: Path) -> None:
    write_batch(tmp_path, "test_batch", seed=0)
    label = CIFAR10(root=str(tmp_path)).split("test").label
    assert label is not None and label.dtype == torch.int64 and np.array_equal(label, arrays(0)[1])


def test_both_kinds_of_labels_of_cifar_100(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    image, _ = arrays(0, 40)
    fine, coarse = list(range(60, 100)), [k % 20 for k in range(40)]
    content = {b"data": image.reshape(40, 3072), b"fine_labels": fine, b"coarse_labels": coarse}
    (folder / "test").write_bytes(pickle.dumps(content, protocol=2))
    for data, label, count in (
        (CIFAR100(root=str(tmp_path)), fine, 100),
        (CIFAR100(coarse=True, root=str(tmp_path)), coarse, 20),
    ):
        test = data.split("test")
        assert test.label is not None and test.label.tolist() == label and len(data.classes) == count
        assert np.array_equal(test.image, image)
    names = CIFAR100().classes
    # The alphabetical order of the published meta file; some of its numbers are known from many tutorials.
    assert names == tuple(sorted(names)) and [names[k] for k in (0, 8, 53, 99)] == [
        "apple",
        "bicycle",
        "orange",
        "worm",
    ]
    with pytest.raises(
        DataError, match=r"cifar100: train is missing: put it into .*cifar-100-python .*cifar-100-python"
    ):
        CIFAR100(root=str(tmp_path)).split("train")
    (folder / "test").write_bytes(pickle.dumps({b"data": image.reshape(40, 3072), b"labels": fine}))
    with pytest.raises(DataError, match="test: cannot be read as a CIFAR python batch"):
        CIFAR100(root=str(tmp_path)).split("test")

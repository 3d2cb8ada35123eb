"""IDX files: published checksums and counts of the real sets, hand-made files, damage, downloads from this machine."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.idx import FILES, MNIST, FashionMNIST, download, read_idx
from limbeck.errors import DataError, RecipeError

ROOT = os.environ.get("LIMBECK_DATA", "")


def needs(*parts: str) -> pytest.MarkDecorator:
    there = bool(ROOT) and Path(ROOT, *parts).exists()
    return pytest.mark.skipif(not there, reason=f"LIMBECK_DATA with {'/'.join(parts)} is not there")


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def write(folder: Path, *, gz: bool = True, train: int = 30, test: int = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("test", test)):
        for file, array in zip(FILES[part], (pictures(count), np.arange(count, dtype=np.uint8) % 10), strict=True):
            content = idx_bytes(array)
            (folder / (file if gz else file.removesuffix(".gz"))).write_bytes(gzip.compress(content) if gz else content)


@pytest.fixture(scope="module")
def data() -> FashionMNIST:
    return FashionMNIST(root=ROOT)


@needs("fashion-mnist")
class TestRealFashionMnist:
    def test_files_have_the_published_checksums(self) -> None:
        for file, md5 in FashionMNIST.source().md5.items():
            assert hashlib.md5(Path(ROOT, "fashion-mnist", file).read_bytes()).hexdigest() == md5

    def test_counts(self, data: FashionMNIST) -> None:
        labels = [data.split(name).label for name in ("train", "validation", "test")]
        assert [len(label) for label in labels if label is not None] == [55000, 5000, 10000]
        train, validation, test = (label.bincount() for label in labels if label is not None)
        assert (train + validation).tolist() == [6000] * 10 and test.tolist() == [1000] * 10
        assert validation.min() > 400  # a random twelfth of each class, not the end of a sorted file

    def test_first_images_are_the_ankle_boot_of_the_papers(self, data: FashionMNIST) -> None:
        content = gzip.decompress(Path(ROOT, "fashion-mnist", FILES["train"][0]).read_bytes())
        whole = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
        assert whole.mean() / 255 == pytest.approx(0.2860, abs=1e-4)  # the published mean and deviation
        assert whole.std() / 255 == pytest.approx(0.3530, abs=1e-4)
        train, validation = data.split("train"), data.split("validation")
        both = {one.numpy().tobytes() for split in (train, validation) for one in split.image}
        assert both == {one.tobytes() for one in whole}
        assert train.label is not None and data.classes[train.label[0]] == "Ankle boot"


@needs("mnist")
def test_real_mnist_test_split_alone() -> None:
    images = MNIST(root=ROOT).split("test")
    assert images.label is not None and images.label[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert images.label.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.image.float().mean() / 255 == pytest.approx(0.1325, abs=1e-4)


@pytest.mark.parametrize("folder", ["fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("gz", [True, False])
def test_layouts(tmp_path: Path, folder: str, gz: bool) -> None:
    write(tmp_path / folder, gz=gz)
    data = FashionMNIST(root=str(tmp_path), validation=6)
    train, validation, test = data.split("train"), data.split("validation"), data.split("test")
    assert (len(train), len(validation), len(test)) == (24, 6, 10)
    assert torch.equal(test.image[:, 0], torch.from_numpy(pictures(10)))
    original = torch.from_numpy(pictures(30))
    places = [[int((original == one[0]).all((1, 2)).nonzero()) for one in split.image] for split in (train, validation)]
    assert all(place == sorted(place) for place in places) and sorted(places[0] + places[1]) == list(range(30))
    assert train.label is not None and train.label.tolist() == [i % 10 for i in places[0]]


def test_sizes_and_channels(tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    native = MNIST(root=str(tmp_path)).split("test").image
    framed = MNIST(32, channels=3, root=str(tmp_path)).split("test").image
    assert framed.shape == (10, 3, 32, 32)
    assert torch.equal(framed[:, 0, 2:-2, 2:-2], native[:, 0]) and torch.equal(framed[:, 0], framed[:, 2])
    assert framed.long().sum() == 3 * native.long().sum()  # the frame is black
    for size in (16, 64):
        resized = MNIST(size, root=str(tmp_path)).split("test").image[0, 0].float()
        other = Image.fromarray(native[0, 0].numpy()).resize((size, size), Image.Resampling.BILINEAR)
        assert (resized - torch.from_numpy(np.array(other)).float()).abs().max() <= 1


def broken(tmp_path: Path, file: str, content: bytes) -> str:
    write(tmp_path / "mnist")
    (tmp_path / "mnist" / file).write_bytes(content)
    with pytest.raises(DataError) as caught:
        MNIST(root=str(tmp_path), validation=5).split("train")
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected an IDX file of bytes"),
        (b"no gzip", "cannot be read"),
        (gzip.compress(idx_bytes(pictures(30)))[:-500], "cannot be read"),
        (gzip.compress(b"", mtime=0), "expected an IDX file of bytes"),
        (
            gzip.compress(b"\0\0\x0d\3" + bytes(12), mtime=0),
            "expected an IDX file of bytes (starting 00 00 08), found '00 00 0d",
        ),
        (gzip.compress(idx_bytes(pictures(30))[:-1]), "expected 23520 bytes of data, found 23519"),
        (gzip.compress(idx_bytes(pictures(30)) + b"x"), "found 23521"),
        (gzip.compress(idx_bytes(pictures(29))), "as many labels, found (29, 28, 28) and (30,)"),
        (gzip.compress(idx_bytes(pictures(30)[:, :20])), "expected images (N, 28, 28)"),
    ],
)
def test_damaged_images_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    message = broken(tmp_path, FILES["train"][0], content)
    assert FILES["train"][0] in message and words in message and "\n" not in message


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(idx_bytes(pictures(30)), compresslevel=0))
    content[2000] ^= 1
    assert "CRC" in broken(tmp_path, FILES["train"][0], bytes(content))


def test_labels_beyond_the_classes_are_named(tmp_path: Path) -> None:
    message = broken(tmp_path, FILES["train"][1], gzip.compress(idx_bytes(np.full(30, 10, np.uint8))))
    assert "expected labels 0..9, found 10" in message


def test_read_idx_of_a_known_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes.fromhex("00000802 00000002 00000003 010203 0405ff"))
    assert read_idx(tmp_path / "x").tolist() == [[1, 2, 3], [4, 5, 255]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"size": 2}, "MNIST.size"), ({"channels": 2}, "MNIST.channels"), ({"validation": 0}, "MNIST.validation")],
)
def test_bad_arguments(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        MNIST(**arguments)  # type: ignore[arg-type]


def test_more_validation_than_images(tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    with pytest.raises(DataError, match="cannot hold out 5000 of 30"):
        MNIST(root=str(tmp_path)).split("train")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve tmp_path/there and return its address."""
    (tmp_path / "there").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "there"))
    handler.func.log_message = lambda *_: None  # type: ignore[method-assign,assignment]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_download_of_what_is_missing_only(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "there")
    md5 = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in (tmp_path / "there").iterdir()}
    real = MNIST.source()
    fake = type(real)(real.folders, server, md5)
    monkeypatch.setattr(MNIST, "source", staticmethod(lambda: fake))
    root = tmp_path / "new" / "root"
    data = MNIST(root=str(root), validation=5)
    assert len(data.split("test")) == 10
    assert sorted(f.name for f in (root / "mnist").iterdir()) == sorted(FILES["test"])
    assert len(data.split("train")) == 25
    (tmp_path / "there" / FILES["test"][0]).unlink()
    assert len(MNIST(root=str(root)).split("test")) == 10  # not asked for again


def test_a_download_with_another_checksum_is_thrown_away(tmp_path: Path, server: str) -> None:
    (tmp_path / "there" / "x.gz").write_bytes(b"something else")
    with pytest.raises(
        DataError, match=f"x.gz is missing: put it into .* MD5 {hashlib.md5(b'something else').hexdigest()}"
    ):
        download(f"{server}/x.gz", tmp_path / "here" / "x.gz", "0" * 32)
    assert list((tmp_path / "here").iterdir()) == []


def test_without_network_the_error_says_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MNIST.source()
    nobody = type(real)(real.folders, "http://127.0.0.1:9", real.md5)
    monkeypatch.setattr(MNIST, "source", staticmethod(lambda: nobody))
    with pytest.raises(DataError) as caught:
        MNIST(root=str(tmp_path / "root")).split("train")
    message = str(caught.value)
    assert message.startswith(f"{FILES['train'][0]} is missing: put it into {tmp_path}/root/mnist (it is at http")
    assert "downloading it failed" in message and not (tmp_path / "root").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, server: str) -> None:
    (tmp_path / "there" / "x.gz").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"x\.gz is missing: put it into .*downloading it failed: .*file"):
        download(f"{server}/x.gz", tmp_path / "file" / "x.gz", "0" * 32)

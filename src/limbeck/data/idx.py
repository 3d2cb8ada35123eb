"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017), from the IDX files that the field distributes."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import tempfile
import urllib.request
import zlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from torch import Tensor

from limbeck.data.base import Data, InMemory, Split, data_root
from limbeck.errors import DataError, RecipeError
from limbeck.ground.progress import console
from limbeck.ground.randomness import generator

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


@dataclass(frozen=True)
class Source:
    """Where the files of a set are.

    Attributes:
        folders: Folders in the data root that may hold them; the first is where a download is put.
        address: Public address of the folder.
        md5: MD5 of each file there.
    """

    folders: tuple[str, ...]
    address: str
    md5: dict[str, str]


class IdxData(Data):
    """Grey 28x28 images of ten classes: 60,000 for training, 10,000 for testing.

    The files are looked for in the data root (as .gz or unpacked), and downloaded when they are not there. The
    validation split is the last `validation` of the training images after a shuffle with a fixed seed.
    """

    def __init__(self, size: int = 28, channels: int = 1, validation: int = 5000, root: str | None = None) -> None:
        owner = type(self).__name__
        if size < 4:
            raise RecipeError(f"{owner}.size: expected at least 4 pixels, found {size}")
        if channels not in (1, 3):
            raise RecipeError(f"{owner}.channels: expected 1 or 3, found {channels}")
        if validation < 1:
            raise RecipeError(f"{owner}.validation: expected at least 1 image, found {validation}")
        self.image_shape = (channels, size, size)
        self.validation, self.root = validation, root
        self._splits: dict[Split, InMemory] = {}

    @staticmethod
    @abstractmethod
    def source() -> Source:
        """Return where the files are."""

    def split(self, name: Split) -> InMemory:
        """Return the samples of a split, read (and downloaded when absent) on the first call."""
        if name not in self._splits:
            self._splits |= self._load_test() if name == "test" else self._load_train()
        return self._splits[name]

    def _load_test(self) -> dict[Split, InMemory]:
        return {"test": InMemory(*self._read("test"))}

    def _load_train(self) -> dict[Split, InMemory]:
        image, label = self._read("train")
        if self.validation >= len(image):
            raise DataError(
                f"{self.name}: cannot hold out {self.validation} of {len(image)} training images; lower `validation`"
            )
        order = torch.randperm(len(image), generator=generator(self.name, "validation"))
        rest, held_out = order[: -self.validation].sort().values, order[-self.validation :].sort().values
        return {"train": InMemory(image[rest], label[rest]), "validation": InMemory(image[held_out], label[held_out])}

    def _read(self, part: str) -> tuple[Tensor, Tensor]:
        image_file, label_file = (self._find(file) for file in FILES[part])
        image, label = read_idx(image_file), read_idx(label_file).long()
        if image.ndim != 3 or image.shape[1:] != (28, 28) or label.shape != (len(image),):
            raise DataError(
                f"{image_file}: expected images (N, 28, 28) and as many labels, found {tuple(image.shape)} and"
                f" {tuple(label.shape)} in {label_file.name}"
            )
        if len(label) and label.max() >= len(self.classes):
            raise DataError(f"{label_file}: expected labels 0..{len(self.classes) - 1}, found {int(label.max())}")
        return resized(image[:, None], self.image_shape[1]).expand(-1, self.image_shape[0], -1, -1), label

    def _find(self, file: str) -> Path:
        source, root = self.source(), data_root(self.root)
        names = (file, file.removesuffix(".gz"))
        try:
            found = next((p for f in source.folders for n in names if (p := root / f / n).is_file()), None)
        except OSError as error:
            raise DataError(f"{root}: cannot be read ({error.strerror}); check the data root") from error
        if found:
            return found
        target = root / source.folders[0] / file
        download(f"{source.address}/{file}", target, source.md5[file])
        return target


class FashionMNIST(IdxData):
    """Fashion-MNIST: grey pictures of ten kinds of clothing (Xiao, Rasul and Vollgraf 2017).

    Files: `fashion-mnist/*-ubyte.gz` in the data root, or `FashionMNIST/raw/` as torchvision lays it out.

    Args:
        size: Side in pixels: 28 as they come; 32 adds two black pixels on every side; else resized (bilinear,
            antialiased).
        channels: 1, or 3 for the same image in three channels.
        validation: Number of training images held out.
        root: Folder of data sets; null for the environment's LIMBECK_DATA, else ~/.cache/limbeck/data.

    Raises:
        RecipeError: An argument that cannot be used.
    """

    name = "fashion-mnist"
    classes = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )

    @staticmethod
    def source() -> Source:
        """Return where the files are."""
        return Source(
            ("fashion-mnist", "FashionMNIST/raw"),
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            {
                "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
            },
        )


class MNIST(IdxData):
    """MNIST: handwritten digits (LeCun, Bottou, Bengio and Haffner 1998).

    Files: `mnist/*-ubyte.gz` in the data root, or `MNIST/raw/` as torchvision lays it out.

    Args:
        size: Side in pixels: 28 as they come; 32 adds two black pixels on every side; else resized (bilinear,
            antialiased).
        channels: 1, or 3 for the same image in three channels.
        validation: Number of training images held out.
        root: Folder of data sets; null for the environment's LIMBECK_DATA, else ~/.cache/limbeck/data.

    Raises:
        RecipeError: An argument that cannot be used.
    """

    name = "mnist"
    classes = tuple("0123456789")

    @staticmethod
    def source() -> Source:
        """Return where the files are."""
        return Source(
            ("mnist", "MNIST/raw"),
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            {
                "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
                "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
                "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
            },
        )


def read_idx(file: Path) -> Tensor:
    """Return the uint8 tensor of an IDX file, gzipped when its name ends in .gz.

    Its header is two zero bytes, the type (8 for uint8), the number of dimensions, then each of them as a
    big-endian 32-bit number.

    Raises:
        DataError: The file cannot be read, is not an IDX file of bytes, or is cut off.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error}); replace it") from error
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if content[:3] != b"\x00\x00\x08" or len(content) < start:
        raise DataError(f"{file}: expected an IDX file of bytes (starting 00 00 08), found {content[:4].hex(' ')!r}")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    size = len(content) - start
    if size != math.prod(shape):
        raise DataError(f"{file}: expected {math.prod(shape)} bytes of data, found {size}: it is damaged; replace it")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].reshape(shape)


def resized(image: Tensor, size: int) -> Tensor:
    """Return uint8 images (N, C, 28, 28) at size x size: 32 by a black border, else bilinear and antialiased."""
    if size == image.shape[-1]:
        return image
    if size == 32:
        return F.pad(image, (2, 2, 2, 2))
    parts = torch.split(image, 1000)  # as float32, the whole set would take 4 times its memory
    shape = (size, size)
    return torch.cat(
        [F.interpolate(p.float(), shape, mode="bilinear", antialias=True).round_().clamp_(0, 255).byte() for p in parts]
    )


def download(address: str, target: Path, md5: str) -> None:
    """Download a file, with a progress bar; `target` appears only when it is whole and its MD5 is right.

    Raises:
        DataError: It could not be had; the message says which file to put where.
    """
    missing = f"{target.name} is missing: put it into {target.parent} (it is at {address})"
    part: Path | None = None
    try:
        with urllib.request.urlopen(address, timeout=20) as reply:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".download-", delete=False) as file:
                part = Path(file.name)
                found = _copy(reply, file.write, target.name)
        if found != md5:
            raise DataError(f"{missing}; what was downloaded has MD5 {found}, expected {md5}")
        part.chmod(0o644)
        part.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{missing}; downloading it failed: {error}") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _copy(reply: http.client.HTTPResponse, write: Callable[[bytes], object], name: str) -> str:
    """Write what comes, and return its MD5."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    digest = hashlib.md5(usedforsecurity=False)
    length = reply.headers.get("Content-Length")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=int(length) if length else None)
        while block := reply.read(1 << 16):
            write(block)
            digest.update(block)
            progress.advance(task, len(block))
    return digest.hexdigest()

"""Image files: which there are, and how they are decoded."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from limbeck.data.base import Images, InMemory, data_root, to_float
from limbeck.errors import DataError
from limbeck.ground.progress import tracked
from limbeck.types import Batch

ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm")
)
Decoded = TypeVar("Decoded")


class FileImages(Images):
    """Images that are decoded when they are read.

    Args:
        folder: What the files are relative to.
        files: The images, in the order of their indices.
        image_shape: (C, H, W) that they are brought to; C is 1 or 3, H = W.
        label: (N,), int64, or None.
    """

    streaming = True

    def __init__(
        self, folder: Path, files: list[Path], image_shape: tuple[int, int, int], label: Tensor | None = None
    ) -> None:
        self.folder, self.files, self.image_shape, self.label = folder, files, image_shape, label

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices`, decoded now."""
        image = torch.stack([self._decode(i) for i in indices.tolist()])
        label = None if self.label is None else self.label[indices]
        return Batch(image=to_float(image), label=label, index=indices)

    def labels(self) -> Tensor | None:
        """Return the labels (N,) of all samples, without decoding any."""
        return self.label

    def fingerprint(self) -> str:
        """Return a hash of the images' shape, labels, and every file's path, size, first and last 4 KiB.

        Whole files are not read: for a large set that would take longer than many a training.
        """
        digest = hashlib.sha256(repr((self.image_shape, None if self.label is None else self.label.tolist())).encode())
        for file in self.files:
            digest.update(glimpse(self.folder, file))
        return digest.hexdigest()[:16]

    def in_memory(self) -> InMemory:
        """Return the same samples, all decoded now.

        Raises:
            DataError: Some cannot be decoded; the message names the first of them.
        """
        image = torch.empty((len(self), *self.image_shape), dtype=torch.uint8)
        for i, decoded in decode_all(self._decode, len(self)):
            image[i] = decoded
        return InMemory(image, self.label)

    def _decode(self, index: int) -> Tensor:
        return torch.from_numpy(decode(self.folder / self.files[index], self.image_shape[1], self.image_shape[0]))


def decode_all(decode: Callable[[int], Decoded], count: int) -> Iterator[tuple[int, Decoded]]:
    """Yield the numbers 0..count - 1, each with what `decode` makes of it.

    Raises:
        DataError: Some cannot be decoded, which is said after all others; the message names the first of them.
    """
    problems: list[str] = []
    for i in tracked(range(count), "decoding images"):
        try:
            decoded = decode(i)
        except DataError as error:
            problems.append(str(error))
        else:
            yield i, decoded
    if problems:
        more = f" (and {len(problems) - 1} more of {count} images)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")


def decode(file: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Return an image file as (channels, size, size), 0..255.

    Raises:
        DataError: It cannot be read or decoded, or its pixels have no known range.
    """
    return planes(ImageOps.fit(opened(file, channels), (size, size), Image.Resampling.BICUBIC), channels)


def opened(file: Path | zipfile.Path, channels: int) -> Image.Image:
    """Return an image file, perhaps in an archive, as an upright image of 8 bits with 1 or 3 channels, at its own size.

    Raises:
        DataError: It cannot be read or decoded, or its pixels have no known range.
    """
    try:
        with file.open("rb") as stream, Image.open(stream) as image:
            return _on_white(eight_bits(ImageOps.exif_transpose(image)), "RGB" if channels == 3 else "L")
    except Exception as error:  # a damaged image can raise anything
        raise DataError(f"{file}: cannot be decoded ({error}); repair or remove it") from error


def planes(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Return an image as (channels, H, W), 0..255; a copy, as Pillow's own memory is read-only."""
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, channels)
    return np.array(pixels.transpose(2, 0, 1), order="C")


def eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits as one of 8, and any other as it is; Pillow's own conversion cuts off at 255.

    Raises:
        ValueError: Its pixels have no known range.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):  # 16 bits, which some versions of Pillow widen to 32
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels are beyond 16 bits")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    return image


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """Return an image of 8 bits as "RGB" or "L", transparency on white."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(mode)


def existing(path: str) -> Path:
    """Return the folder `path`, here or in the data root."""
    here = Path(path).expanduser()
    places = [here] if here.is_absolute() else [here, data_root() / here]
    for place in places:
        try:
            if place.is_dir():
                return place
            if place.exists():
                raise DataError(f"{place}: expected a folder of images, found a file")
        except OSError as error:
            raise DataError(f"{place}: cannot be read ({error.strerror})") from error
    raise DataError(f"no such folder of images: {' or '.join(map(str, places))}")


def there(place: Path) -> bool:
    """Return whether a file or folder exists.

    Raises:
        DataError: What is above it cannot be read.
    """
    try:
        return place.exists()
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}); check the data root") from error


def list_images(folder: Path, base: Path) -> list[Path]:
    """Return the images below `folder`, relative to `base`, in order; hidden ones are left out."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error

    found = []
    for parent, subfolders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(parent).resolve()
        # Not hidden ones, nor a link to a folder above, which would show everything again and again.
        subfolders[:] = [
            name for name in subfolders if not name.startswith(".") and not here.is_relative_to((here / name).resolve())
        ]
        inside = Path(parent).relative_to(base)
        found += [inside / n for n in names if Path(n).suffix.lower() in ENDINGS and not n.startswith(".")]
    return sorted(found)


def glimpse(folder: Path, file: Path) -> bytes:
    """Return a file's path in a folder, its size, and its first and last 4 KiB, to be hashed.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with (folder / file).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(4096)
            stream.seek(max(0, size - 4096))
            return repr((file.as_posix(), size, head, stream.read())).encode()
    except OSError as error:
        raise DataError(f"{folder / file}: cannot be read ({error.strerror})") from error

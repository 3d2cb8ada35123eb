"""Image files: which there are, and how they are decoded."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from limbeck.data.base import Images, InMemory, data_root, to_float
from limbeck.data.pixels import PLAIN, Reading, check_stored, eight_bits, image_file
from limbeck.errors import DataError
from limbeck.ground.progress import say_once, tracked
from limbeck.types import Batch

ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm")
)
UNREAD = frozenset(  # pictures that nothing here decodes, or not alike on every machine
    (".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".npy", ".npz", ".exr", ".hdr", ".pfm", ".dng", ".cr2",
     ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raw", ".psd", ".tga", ".ico", ".svg", ".dcm", ".nii", ".jpe", ".pnm")
)  # fmt: skip
Decoded = TypeVar("Decoded")


class FileImages(Images):
    """Images that are decoded when they are read.

    Args:
        folder: What the files are relative to.
        files: The images, in the order of their indices.
        image_shape: (C, H, W) that they are brought to; C is 1 or 3, H = W.
        label: (N,), int64, or None.
        reading: What their numbers mean.
    """

    streaming = True

    def __init__(
        self,
        folder: Path,
        files: list[Path],
        image_shape: tuple[int, int, int],
        label: Tensor | None = None,
        reading: Reading = PLAIN,
    ) -> None:
        self.folder, self.files, self.image_shape, self.label = folder, files, image_shape, label
        self.reading = reading

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
        """Return a hash of shape, labels and reading, and of every file's path, size, first and last 4 KiB.

        Whole files are not read: for a large set that would take longer than many a training.
        """
        label = None if self.label is None else self.label.tolist()
        digest = hashlib.sha256(repr((self.image_shape, label, self.reading)).encode())
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
        channels, size, _ = self.image_shape
        return torch.from_numpy(decode(self.folder / self.files[index], size, channels, self.reading))


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


def decode(file: Path, size: int, channels: int, reading: Reading = PLAIN) -> NDArray[np.uint8]:
    """Return an image file as (channels, size, size), 0..255.

    Raises:
        DataError: It cannot be read or decoded, is too large, or its pixels have no known range.
    """
    return planes(ImageOps.fit(opened(file, channels, reading), (size, size), Image.Resampling.BICUBIC), channels)


def opened(file: Path | zipfile.Path, channels: int, reading: Reading = PLAIN) -> Image.Image:
    """Return an image file, perhaps in an archive, as an upright image of 8 bits with 1 or 3 channels, at its own size.

    Raises:
        DataError: It cannot be read or decoded, is too large, or its pixels have no known range.
    """
    with image_file(file, reading.largest) as image:
        check_stored(image, reading)
        return _on_white(eight_bits(ImageOps.exif_transpose(image), reading), "RGB" if channels == 3 else "L")


def planes(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Return an image as (channels, H, W), 0..255; a copy, as Pillow's own memory is read-only."""
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, channels)
    return np.array(pixels.transpose(2, 0, 1), order="C")


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
    """Return the images below `folder`, relative to `base`, in order; hidden files are left out.

    Pictures of other kinds are left aside, as is what is no file, such as a named pipe; it is said how many there are.

    Raises:
        DataError: The folder cannot be read, or pictures of other kinds are all that it has.
    """
    images, aside = survey(folder, base)
    tell_aside(folder, images, aside)
    return images


def tell_aside(path: Path, images: Collection[Path], aside: Collection[Path]) -> None:
    """Say which pictures are left aside.

    Raises:
        DataError: There are no others.
    """
    if aside and not images:
        raise DataError(f"{path}: expected images ({' '.join(sorted(ENDINGS))}), found {counted(aside)}; convert them")
    if aside:
        say_once(f"{path}: {counted(aside)} left aside, of kinds that are not read or no regular files; convert them")


def survey(folder: Path, base: Path) -> tuple[list[Path], list[Path]]:
    """Return the images below `folder`, and the pictures that are not read, relative to `base`, in order.

    Raises:
        DataError: The folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error

    images: list[Path] = []
    aside: list[Path] = []
    for parent, subfolders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(parent).resolve()
        # Not hidden ones, nor a link to a folder above, which would show everything again and again.
        subfolders[:] = [
            name for name in subfolders if not name.startswith(".") and not here.is_relative_to((here / name).resolve())
        ]
        inside = Path(parent).relative_to(base)
        for file in (inside / name for name in names if is_picture(name)):
            read = file.suffix.lower() in ENDINGS and not _hangs(base / file)
            (images if read else aside).append(file)
    return sorted(images), sorted(aside)


def readable(parts: Mapping[str, Collection[Path]], images: Collection[Path], path: Path) -> dict[str, list[Path]]:
    """Return the images among the files of each split, in order.

    Args:
        parts: Files by split, as `laid_out` gives them, pictures of other kinds among them.
        images: Those that are read.
        path: What they are relative to, for messages.

    Raises:
        DataError: A split has none.
    """
    kept = {part: sorted(file for file in inside if file in images) for part, inside in parts.items()}
    bare = next((part for part, files in kept.items() if not files), None)
    if bare is not None:
        odd = min(parts[bare])
        raise DataError(f"{path}: expected images that can be read for {bare}, found such as {odd} alone; convert them")
    return kept


def is_picture(name: str) -> bool:
    """Return whether a file of this name is an image, read or not; hidden files are none."""
    return not name.startswith(".") and Path(name).suffix.lower() in ENDINGS | UNREAD


def _hangs(file: Path) -> bool:
    """Return whether what has a file's name is a pipe, a socket or a device; a broken link is said on reading."""
    try:
        return not stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return False


def counted(files: Collection[Path]) -> str:
    """Return how many files there are of which endings, such as "3 .heic and 1 .npy"."""
    kinds = Counter(file.suffix.lower() for file in files)
    return " and ".join(f"{count} {ending}" for ending, count in kinds.most_common())


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

"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the python batches that the field distributes, and for CIFAR-10 lossless
WebP sheets of them.
"""

from __future__ import annotations

import pickle
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.base import Data, InMemory, Split, data_root
from limbeck.data.pixels import image_file
from limbeck.errors import DataError, RecipeError
from limbeck.ground.randomness import generator

TRAIN = tuple(f"data_batch_{k}" for k in range(1, 6))
FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
COARSE = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
vehicles_1 vehicles_2
"""
Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class CifarData(Data):
    """Colour photographs of 32x32: 50,000 for training, 10,000 for testing.

    A tenth of the training images, drawn with a fixed seed, is the validation split.
    """

    image_shape = (3, 32, 32)
    folder: str
    address: str
    batches: tuple[str, ...]
    test_batch: str

    def __init__(self, root: str | None = None) -> None:
        self.root = root
        self._splits: dict[Split, InMemory] = {}

    @abstractmethod
    def read_file(self, file: Path, batch: str) -> Arrays:
        """Return images (N, 3, 32, 32) and labels (N,) of a batch, given the file that `places` found."""

    def places(self, batch: str) -> list[Path]:
        """Return where a batch may be."""
        return [data_root(self.root) / self.folder / batch]

    def split(self, name: Split) -> InMemory:
        """Return the samples of a split, read on the first call."""
        if name not in self._splits:
            self._splits |= self._load_test() if name == "test" else self._load_train()
        return self._splits[name]

    def _load_test(self) -> dict[Split, InMemory]:
        return {"test": InMemory(*self._read(self.test_batch))}

    def _load_train(self) -> dict[Split, InMemory]:
        parts = [self._read(name) for name in self.batches]
        image, label = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        order = torch.randperm(len(image), generator=generator(self.name, "validation"))
        held_out = max(1, len(image) // 10)
        rest, kept = order[:-held_out].sort().values, order[-held_out:].sort().values
        return {"train": InMemory(image[rest], label[rest]), "validation": InMemory(image[kept], label[kept])}

    def find(self, batch: str) -> Path | None:
        """Return the file of a batch, or None."""
        try:
            return next((place for place in self.places(batch) if place.is_file()), None)
        except OSError as error:
            root = data_root(self.root)
            raise DataError(f"{root}: cannot be read ({error.strerror}); check the data root") from error

    def _read(self, batch: str) -> tuple[Tensor, Tensor]:
        file = self.find(batch)
        if file is None:
            folder = data_root(self.root) / self.folder
            raise DataError(f"{self.name}: {batch} is missing: put it into {folder} (it is in {self.address})")
        image, label = self.read_file(file, batch)
        if image.shape != (len(label), 3, 32, 32) or not len(label) or label.max() >= len(self.classes):
            raise DataError(
                f"{file}: expected images (N, 3, 32, 32) and N labels 0..{len(self.classes) - 1}, found {image.shape}"
                f" and {label.shape}"
            )
        return torch.from_numpy(image), torch.from_numpy(label).long()


class CIFAR10(CifarData):
    """CIFAR-10: colour photographs of ten things, 32x32: 50,000 for training, 10,000 for testing.

    A batch is read from the data root, from `cifar-10-batches-py/<batch>` (the python version, unpacked), else from
    `cifar10/<batch>_<k>.webp`: sheets of 40 rows of 25 images, with one byte a label in `cifar10/<batch>_labels.u8`.
    A tenth of the training images, drawn with a fixed seed, is the validation split.

    Args:
        part: "full" for all five training batches, "10k" for the first alone; null for all five when they are
            there, else the first. The name says which: "cifar10" or "cifar10-10k".
        root: Folder of data sets; null for the environment's LIMBECK_DATA, else ~/.cache/limbeck/data.

    Raises:
        RecipeError: An unknown part.
    """

    folder = "cifar-10-batches-py"
    address = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    test_batch = "test_batch"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(self, part: Literal["full", "10k"] | None = None, root: str | None = None) -> None:
        if part not in (None, "full", "10k"):
            raise RecipeError(f"CIFAR10.part: expected 'full', '10k' or null, found {part!r}")
        super().__init__(root)
        present = [name for name in TRAIN if self.find(name) is not None]
        first_only = part == "10k" or (part is None and TRAIN[0] in present and len(present) < len(TRAIN))
        self.batches = TRAIN[:1] if first_only else TRAIN
        self.name = "cifar10-10k" if first_only else "cifar10"

    def places(self, batch: str) -> list[Path]:
        """Return the python batch and the first sheet."""
        return [*super().places(batch), data_root(self.root) / "cifar10" / f"{batch}_0.webp"]

    def read_file(self, file: Path, batch: str) -> Arrays:
        """Return images and labels of a python batch, or of the sheets that start with `file`."""
        return read_sheets(file, batch) if file.suffix == ".webp" else read_batch(file)


class CIFAR100(CifarData):
    """CIFAR-100: colour photographs of a hundred things, 32x32: 50,000 for training, 10,000 for testing.

    Read from `cifar-100-python/train` and `cifar-100-python/test` in the data root (the python version, unpacked). A
    tenth of the training images, drawn with a fixed seed, is the validation split; of each of the hundred classes
    there are 500 images, of each of the twenty coarse ones 2,500.

    Args:
        coarse: Whether the labels are the twenty superclasses rather than the hundred classes.
        root: Folder of data sets; null for the environment's LIMBECK_DATA, else ~/.cache/limbeck/data.
    """

    folder = "cifar-100-python"
    address = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    batches = ("train",)
    test_batch = "test"

    def __init__(self, *, coarse: bool = False, root: str | None = None) -> None:
        super().__init__(root)
        self.kind = "coarse" if coarse else "fine"
        self.name = "cifar100-coarse" if coarse else "cifar100"
        self.classes = tuple((COARSE if coarse else FINE).split())

    def read_file(self, file: Path, batch: str) -> Arrays:
        """Return images and labels of a python batch."""
        return read_batch(file, f"{self.kind}_labels")


def read_batch(file: Path, labels: str = "labels") -> Arrays:
    """Return images (N, 3, 32, 32) and labels (N,) of a python batch, without running code that it may hold.

    Args:
        file: The batch.
        labels: The name of its labels: "labels", or "fine_labels" and "coarse_labels" in CIFAR-100.

    Raises:
        DataError: The file is damaged, holds something else, or asks for more than arrays and numbers.
    """
    try:
        with file.open("rb") as stream:
            content = ArrayUnpickler(stream, encoding="bytes").load()
        image = np.array(content[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        return image, np.array(content[labels.encode()], np.uint8)
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{file}: cannot be read as a CIFAR python batch ({error}); replace it") from error


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles containers, numbers, text, bytes and numpy arrays; whatever else a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few functions that arrays are rebuilt with.

        Raises:
            pickle.UnpicklingError: The pickle names something else.
        """
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]  # its module has changed its name between numpy versions
        allowed = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _encode}
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data batch needs")
        return allowed[module, name]


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode, which Python 3 uses to write bytes in old protocols: Latin-1 only."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def read_sheets(first: Path, batch: str) -> Arrays:
    """Return images (N, 3, 32, 32) and labels (N,) of the sheets of a batch, `first` being number 0.

    Raises:
        DataError: A sheet or the labels are missing or damaged.
    """
    label_file = first.with_name(f"{batch}_labels.u8")
    if not label_file.is_file():
        raise DataError(f"{label_file.name} is missing: put it into {label_file.parent}, beside {first.name}")
    label = np.frombuffer(label_file.read_bytes(), np.uint8).copy()
    sheets = [_read_sheet(first.with_name(f"{batch}_{k}.webp")) for k in range(-(-len(label) // 1000))]
    return np.concatenate([*sheets, np.empty((0, 3, 32, 32), np.uint8)]), label


def _read_sheet(file: Path) -> NDArray[np.uint8]:
    with image_file(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != (1280, 800, 3):
        raise DataError(f"{file}: expected a sheet of 800 x 1280 pixels, found {pixels.shape[1]} x {pixels.shape[0]}")
    return pixels.reshape(40, 32, 25, 32, 3).transpose(0, 2, 4, 1, 3).reshape(1000, 3, 32, 32)

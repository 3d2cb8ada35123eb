"""The contract of a data set and of an augmentation."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from limbeck.errors import DataError, require
from limbeck.ground.arrays import hash_bytes
from limbeck.ground.described import Described
from limbeck.ground.fingerprinted import Fingerprinted
from limbeck.types import Batch, Draw, Kind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")
DEGRADED = "degraded"
"""The field of a batch that holds the degraded images, where the data brings them."""
Split = Literal["train", "validation", "test"]


class Images(Fingerprinted):
    """The samples of one split, read by index.

    Attributes:
        streaming: True when reading is slow (decoding files): the engine then reads ahead in worker processes.
    """

    streaming: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices` (N,), int64: `image` float32 in [-1, 1], `index`, and what else there is."""

    def labels(self) -> Tensor | None:
        """Return the labels (N,) of all samples, int64, or None without; here by reading every sample."""
        parts = [self.read(part).label for part in torch.split(torch.arange(len(self)), 1000)]
        found = [part for part in parts if part is not None]
        return torch.cat(found) if found else None

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short hash of the content: two splits with the same hash are the same data.

        It is computed when it is first asked for, and remembered: the samples of a split do not change.
        """


class InMemory(Images):
    """Samples held as tensors.

    Args:
        image: (N, C, H, W), uint8.
        label: (N,), int64, or None.
        mask: (N, H, W), uint8 class of each pixel (255 is void), or None.
        target: (N, C', H', W'), uint8, or None.
    """

    def __init__(
        self, image: Tensor, label: Tensor | None = None, mask: Tensor | None = None, target: Tensor | None = None
    ) -> None:
        if len(image) == 0:
            raise DataError("a data set without images: expected at least one")
        self.image, self.label, self.mask, self.target = image, label, mask, target

    def __len__(self) -> int:
        return len(self.image)

    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices`, images scaled from 0..255 to [-1, 1]."""
        return Batch(
            image=to_float(self.image[indices]),
            label=None if self.label is None else self.label[indices],
            mask=None if self.mask is None else self.mask[indices].long(),
            target=None if self.target is None else to_float(self.target[indices]),
            index=indices,
        )

    def labels(self) -> Tensor | None:
        """Return the labels (N,) of all samples."""
        return self.label

    def fingerprint(self) -> str:
        """Return a hash of all tensors."""
        digest = hashlib.sha256()
        for tensor in (self.image, self.label, self.mask, self.target):
            if tensor is not None:
                digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
                hash_bytes(digest, tensor)
        return digest.hexdigest()[:16]


class Subset(Images):
    """Some of the samples of a split.

    Args:
        images: The split.
        kept: (M,), int64, their indices in it.
    """

    def __init__(self, images: Images, kept: Tensor) -> None:
        self.images, self.kept = images, kept
        self.streaming = images.streaming

    def __len__(self) -> int:
        return len(self.kept)

    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices` (N,) of the M."""
        return self.images.read(self.kept[indices]).replace(index=indices)

    def labels(self) -> Tensor | None:
        """Return the labels (M,), or None."""
        label = self.images.labels()
        return None if label is None else label[self.kept]

    def fingerprint(self) -> str:
        """Return a hash of the whole split's fingerprint and of what is kept of it."""
        return hashlib.sha256(repr((self.images.fingerprint(), self.kept.tolist())).encode()).hexdigest()[:16]


def taken(kind: type[Options], options: dict[str, Any]) -> Options:
    """Return an object of those `options` that are fields of its dataclass, which are taken out of them."""
    return kind(**{field.name: options.pop(field.name) for field in fields(kind) if field.name in options})


def to_float(image: Tensor) -> Tensor:
    """Return a uint8 image 0..255 as float32 in [-1, 1]."""
    return image.to(torch.float32).div_(127.5).sub_(1.0)


def to_levels(image: Tensor) -> Tensor:
    """Return an image in [-1, 1] with its values rounded to 256 levels, as a file would hold it."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round().div(127.5).sub(1.0)


class Data(ABC):
    """A data set. Its constructor is cheap and checks its arguments; `split` does the loading, once.

    Attributes:
        name: What results are filed under, e.g. "fashion-mnist"; a part of a set says so ("cifar10-10k").
        image_shape: (C, H, W) of an image.
        classes: Names of the classes, in order of their numbers; () without labels.
        mask_classes: Names of the classes of pixels, in order of their numbers; () without masks.
        kinds: The fields of its batches that are none of `types.KINDS`, and how each moves with an image.
        reference_split: The split that results are measured against.
    """

    room: ClassVar[str] = "data"

    name: str
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...] = ()
    mask_classes: tuple[str, ...] = ()
    kinds: Mapping[str, Kind] = {}
    reference_split: Split = "test"

    def gives(self) -> tuple[str, ...]:
        """Return the fields that its batches have; a data set with targets, say, adds them. Nothing is loaded."""
        found = ["image", *(["label"] if self.classes else []), *(["mask"] if self.mask_classes else []), *self.kinds]
        return (*found, "index")

    @abstractmethod
    def split(self, name: Split) -> Images:
        """Return the samples of a split, loading them on the first call.

        "validation" is held out of the training split and never overlaps it, so that choices can be made without
        the test data.

        Raises:
            DataError: The data is missing or damaged; the message says which file to put where.
        """


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder of data sets: `root`, else the environment's LIMBECK_DATA, else ~/.cache/limbeck/data."""
    return Path(root or os.environ.get("LIMBECK_DATA") or Path.home() / ".cache" / "limbeck" / "data").expanduser()


class Augmentation(Described, ABC):
    """A random change of a whole batch, the same in one process or many: what it needs is drawn by the engine.

    Attributes:
        any_size: Whether it does the same to images of any size: a mirrored image is, one shifted by 3 pixels is not.
    """

    room: ClassVar[str] = "augmentations"

    any_size: bool = False

    def __init_subclass__(cls) -> None:
        """Refuse a class of before version 0.2, whose masks or targets would not move.

        Raises:
            RecipeError: It has a method `on_mask` or `on_target`.
        """
        super().__init_subclass__()
        for old in ("on_mask", "on_target"):
            require(f"{cls.__name__}.{old}", not hasattr(cls, old), "a method move(pixels, drawn, kind) instead", old)

    @abstractmethod
    def draws(self) -> Mapping[str, Draw]:
        """Return what has to be drawn, by name; names are unique among augmentations."""

    @abstractmethod
    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the changed images (N, C, H, W) in [-1, 1]; differentiable with respect to `image`."""

    def move(self, pixels: Tensor, drawn: Mapping[str, Tensor], kind: Kind) -> Tensor:
        """Return what belongs to the images, moved as they are: what comes in from outside is `kind.void`, or 0.

        Here it stays: what only changes colours, or covers pixels, does not change what they are.

        Args:
            pixels: Targets or other values of pixels (N, C', H, W), or their classes (N, H, W), int64.
            drawn: What was drawn.
            kind: Which of the two they are: it moves "bilinear", or "nearest".
        """
        return pixels


class Degradation(Described, ABC):
    """What images lose on the way to a network that restores them.

    What it draws at random for an image depends on the image's seed alone, so it is the same in one process or many
    and for images of any size.

    Attributes:
        scale: How many times smaller an image becomes.
        given: Whether it takes images that the data has degraded, and makes none.
        masks: Whether the result has one more channel: 1 where there is a hole, -1 elsewhere.
        main_metric: The PSNR by which the field compares what restores it: of all channels; "psnr_y", of the luminance;
            or "psnr_inside", in the holes.
    """

    room: ClassVar[str] = "degradations"

    scale: int = 1
    given: bool = False
    masks: bool = False
    main_metric: str = "psnr"

    def of(self, batch: Batch, whole: Tensor, seed: Tensor) -> Tensor:
        """Return the degraded images of a batch; here they are made of the whole ones.

        Args:
            batch: What was read.
            whole: Its images (N, C, H, W) in [-1, 1]; H and W are multiples of `scale`.
            seed: (N,), int64, at least 0.

        Raises:
            RecipeError: The data brings degraded images, which would be left unused.
        """
        require(
            "task.degradation", DEGRADED not in batch.fields, "AsGiven, as the data brings its degraded images", self
        )
        return self(whole, seed)

    @abstractmethod
    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """Return the degraded images (N, C or C + 1, H / scale, W / scale) in [-1, 1].

        Args:
            image: (N, C, H, W) in [-1, 1]; H and W are multiples of `scale`.
            seed: (N,), int64, at least 0.
        """

"""The data that a user hands to `distill`, as a data set with its splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.api.reading import read
from limbeck.api.samples import tensors_of
from limbeck.data.base import Data, Split
from limbeck.data.folder import ImageFolder
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError, RecipeError, require

GivenData = Any  # see `samples.tensors_of`; a folder; or a `Data`
HELD_OUT: tuple[Split, ...] = ("validation", "test")


class GivenSplits(TensorImages):
    """A user's own samples, some of whose splits were made by their owner; the others are held out.

    Args:
        train: Samples for training by field, as `TensorImages` takes them.
        held_out: Of validation and test, samples by field, or the part of the training samples in (0, 1).
        image_range: (low, high) of float images.

    Raises:
        DataError: Samples that cannot be used, or that are unlike those of the training.
        RecipeError: Parts that cannot be held out.
    """

    def __init__(
        self,
        train: Mapping[str, Tensor],
        held_out: Mapping[Split, Mapping[str, Tensor] | float],
        image_range: tuple[float, float],
    ) -> None:
        own = {name: samples for name, samples in held_out.items() if isinstance(samples, Mapping)}
        parts: dict[str, Any] = {name: part for name, part in held_out.items() if name not in own}
        for name, samples in own.items():
            _check_alike(name, train, samples)
        together: dict[str, Any] = {
            field: torch.cat([train[field], *(each[field] for each in own.values())]) for field in train
        }
        super().__init__(**together, image_range=image_range)
        first = TensorImages(train["image"], image_range=image_range, **parts)._parts
        start = len(train["image"])
        for name, samples in own.items():
            first["train"] = torch.cat([first["train"], first[name]]).sort().values
            first[name] = torch.arange(start, start := start + len(samples["image"]))
        self._parts = first


def _check_alike(name: str, train: Mapping[str, Tensor], samples: Mapping[str, Tensor]) -> None:
    """Refuse samples that have other fields, shapes or types than those of the training."""
    for field in {**train, **samples}:
        wanted, found = (each.get(field) for each in (train, samples))
        kinds = [None if each is None else (tuple(each.shape[1:]), each.dtype) for each in (wanted, found)]
        if kinds[0] != kinds[1]:
            texts = ["none" if each is None else f"{each[0]} of {each[1]}" for each in kinds]
            raise DataError(f"distill: {name}: expected {field}s like those of the data, {texts[0]}, found {texts[1]}")


def data_of(
    given: GivenData,
    wanted: Sequence[int] | None,
    known: Callable[[], Sequence[int] | None] = lambda: None,
    image_range: tuple[float, float] = (-1.0, 1.0),
    **held_out: GivenData,
) -> Data:
    """Return a data set of a folder of images, of samples in memory, or as it is.

    Args:
        given: A folder; samples (see `samples.tensors_of`); or a data set.
        wanted: (C, H, W) that its images are to have, or None.
        known: Tells which shape networks want, if any says so, where a folder is given and nothing is `wanted`.
        image_range: (low, high) of float images among samples.
        held_out: What is for `validation` and `test`: samples, a part of the data in (0, 1), or None, for a tenth.

    Raises:
        RecipeError: It is something else, has images of another shape, or nobody knows the shape.
        DataError: The data cannot be used.
    """
    if wanted is not None:
        wanted = tuple(read("image_shape", Sequence[int], wanted))
        good = len(wanted) == 3 and min(wanted) >= 1
        require("distill: image_shape", good, "(C, H, W), such as (3, 32, 32)", wanted)
    told = {name: each for name, each in held_out.items() if each is not None}
    if isinstance(given, str | Path | Data):
        hint = "; a data set of the package is told so itself, such as ImageFolder(path, size=32, validation=0.2)"
        for name, each in told.items():
            require(f"distill: {name}", False, "none, as the data have splits of their own", type(each).__name__, hint)
    if isinstance(given, str | Path):
        return _folder(Path(given), known, wanted)
    data = given if isinstance(given, Data) else _of_samples(given, told, image_range)
    alike = wanted is None or tuple(wanted) == tuple(data.image_shape)
    require("distill: image_shape", alike, f"{data.image_shape}, as {data.name} has, or none", wanted)
    return data


def _of_samples(given: Any, held_out: Mapping[str, Any], image_range: tuple[float, float]) -> Data:
    """Return a data set of samples, and of those that are held out."""
    samples: dict[str, Any] = tensors_of(given)
    number = {name: each for name, each in held_out.items() if isinstance(each, int | float)}
    parts: dict[Any, Any] = {name: read(name, float, each) for name, each in number.items()}
    own: dict[Any, Any] = {name: tensors_of(each, name) for name, each in held_out.items() if name not in parts}
    if not own:
        return TensorImages(**samples, **parts, image_range=image_range)
    return GivenSplits(samples, {**parts, **own}, image_range)


def _folder(path: Path, known: Callable[[], Sequence[int] | None], wanted: Sequence[int] | None) -> Data:
    """Return the images of a folder, in the shape that is wanted or known."""
    if path.is_file():
        raise RecipeError(
            f"distill: data: expected a folder of images, found the file {path}; load it and give its arrays"
        )
    if not path.is_dir():
        raise DataError(f"distill: data: no such folder: {path}")
    shape = wanted or known()
    if shape is None:
        raise RecipeError(
            f"distill: image_shape: expected (C, H, W) that the images of {path} are to have, found none; give it, or a"
            " data set such as ImageFolder(path, size=64)"
        )
    channels, height, width = shape
    if height != width:
        raise RecipeError(f"distill: data: images from a folder are made square, found {height}x{width}")
    return ImageFolder(str(path), size=height, channels=channels)

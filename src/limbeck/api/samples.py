"""The samples that a user has, as tensors: whole arrays, or data sets and loaders that give one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)

from limbeck.errors import DataError, RecipeError, in_a_line, require
from limbeck.ground.progress import say

FIELDS = ("image", "label", "mask", "target")
BESIDE = {1: "label", 3: "mask", 4: "target"}  # what stands beside images, by its number of dimensions
COLOURS = (1, 3)  # channels of images in arrays
LARGEST = 8 * 2**30  # bytes of the samples that are read into memory
TRIED = 8  # samples that are read twice, to see that they stay the same
EXPECTED = (
    "a folder, a tensor or array of images, (images, labels or masks or targets), a torch Dataset or DataLoader, or a"
    " data set of the package"
)


def tensors_of(given: Any, key: str = "data") -> dict[str, Tensor]:
    """Return samples as tensors by field: `image` (N, C, H, W), and `label` (N,), `mask` (N, H, W) or `target`.

    Args:
        given: A tensor (N, C, H, W) or array (N, H, W, C) or (N, H, W) of images, uint8 or float; such images and what
            belongs to them, or a mapping of them by field; a torch `DataLoader`, whose data set is read; or whatever
            has a length and gives samples by number: pictures or arrays, alone, with what belongs to them, or as
            mappings by field.
        key: The argument.

    Raises:
        RecipeError: It is something else.
        DataError: A sample cannot be read, is of another size, or changes from one reading to the next.
    """
    if isinstance(given, Tensor | np.ndarray):
        return {"image": _images(given, key)}
    if isinstance(given, Mapping):
        return _whole({_field(name, key): value for name, value in given.items()}, key)
    if isinstance(given, tuple) or (isinstance(given, list) and _are_batches(given)):
        return _whole(_named(given, key), key)
    if isinstance(given, DataLoader):
        given = _behind(given, key)
    many = not isinstance(given, IterableDataset) and hasattr(given, "__len__") and hasattr(given, "__getitem__")
    hint = "; give one with a length whose samples are read by number" if hasattr(given, "__iter__") else ""
    require(f"distill: {key}", many and not isinstance(given, bytes), EXPECTED, type(given).__name__, hint)
    return _of_items(given, key)


def _are_batches(given: Sequence[Any]) -> bool:
    """Return whether a list holds images and what belongs to them, rather than one image after the other."""
    return bool(given) and isinstance(given[0], Tensor | np.ndarray) and given[0].ndim == 4


def _field(name: Any, key: str) -> str:
    """Return the field of that name, or of its plural."""
    field = str(name).removesuffix("s")
    require(f"distill: {key}", field in FIELDS, f"samples by field, {', '.join(FIELDS)}", name)
    return field


def _named(given: Sequence[Any], key: str) -> dict[str, Any]:
    """Return images and what belongs to them by field."""
    good = len(given) > 1 and all(isinstance(each, Tensor | np.ndarray) for each in given)
    found = f"{type(given).__name__} of {', '.join(type(each).__name__ for each in given)}"
    require(f"distill: {key}", good, EXPECTED, found)
    image, *others = given
    named = {BESIDE.get(other.ndim, "other"): other for other in others}
    shapes = [tuple(other.shape) for other in others]
    good = "other" not in named and len(named) == len(others)
    require(f"distill: {key}", good, "beside images labels (N,), masks (N, H, W) or targets (N, C, H, W)", shapes)
    return {"image": image, **named}


def _whole(given: Mapping[str, Any], key: str) -> dict[str, Tensor]:
    """Return whole arrays by field as tensors."""
    require(f"distill: {key}", "image" in given, "images among the samples", list(given))
    arrays = {name: value if isinstance(value, Tensor) else np.asarray(value) for name, value in given.items()}
    return {n: _images(v, key) if n in ("image", "target") else _numbers(v, key) for n, v in arrays.items()}


def _numbers(given: Tensor | np.ndarray[Any, Any], key: str) -> Tensor:
    """Return the classes of images or pixels."""
    if isinstance(given, Tensor):
        return given
    known = given.dtype.kind in "uifb"
    require(
        f"distill: {key}", known, "whole-number classes", f"an array of {given.dtype}", "; number the classes from 0"
    )
    return torch.from_numpy(given.astype(np.int64) if given.dtype.kind in "ui" else given.copy())


def _images(given: Tensor | np.ndarray[Any, Any], key: str) -> Tensor:
    """Return images (N, C, H, W): of tensors their own, of arrays turned where the channels come last."""
    shape = tuple(given.shape)
    last = len(shape) == 4 and shape[3] in COLOURS
    first = len(shape) == 4 and shape[1] in COLOURS
    if isinstance(given, Tensor):
        turned = last and shape[1] > 4 and shape[1] != shape[3]
        hint = "; turn them: images.permute(0, 3, 1, 2)"
        require(f"distill: {key}", not turned, "images (N, C, H, W)", shape, hint)
        return given
    require(f"distill: {key}", given.dtype.kind in "uif", "an array of numbers", f"an array of {given.dtype}")
    array = given[..., None] if len(shape) == 3 else given
    good = len(shape) == 3 or first != last
    hint = "; give a tensor (N, C, H, W)"
    require(f"distill: {key}", good, "images (N, H, W, C) or (N, H, W) of 1 or 3 channels", shape, hint)
    array = array if first else array.transpose(0, 3, 1, 2)
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64)  # refused with the others that are neither uint8 nor float
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def _behind(loader: DataLoader[Any], key: str) -> Any:
    """Return the data set of a loader that only shuffles it and puts its samples together."""
    plain = isinstance(loader.sampler, SequentialSampler | RandomSampler)
    batches = type(loader.batch_sampler) in (BatchSampler, type(None))
    as_they_are = loader.collate_fn in (default_collate, default_convert)
    if not (plain and batches and as_they_are) and not isinstance(loader.dataset, IterableDataset):
        own = "collate_fn" if plain and batches else "sampler"
        raise RecipeError(
            f"distill: {key}: expected a DataLoader that gives all samples of its data set as they are, found one with"
            f" a {own} of its own; give a data set of the samples as they are to be"
        )
    say(f"distill: {key}: the data set of the DataLoader is read; `batch` says how many samples a step has")
    return loader.dataset


def _of_items(samples: Any, key: str) -> dict[str, Tensor]:
    """Return the samples of a data set, in its order."""
    count = len(samples)
    if not count:
        raise DataError(f"distill: {key}: expected samples, found an empty {type(samples).__name__}")
    first = [_item(samples, number, key) for number in range(min(TRIED, count))]
    for number, item in enumerate(first):
        again = _item(samples, number, key)
        if item.keys() != again.keys() or not all(torch.equal(item[name], again[name]) for name in item):
            raise DataError(
                f"distill: {key}: expected samples that stay the same, found that number {number} changes from one"
                " reading to the next; leave random changes to `augmentation`"
            )
    size = count * sum(tensor.nbytes for tensor in first[0].values())
    if size > LARGEST:
        raise DataError(
            f"distill: {key}: expected samples of at most {LARGEST / 2**30:g} GiB, as they are read into memory, found"
            f" {size / 2**30:.1f} GiB; give the folder of their files, or a data set of the package that streams them"
        )
    say(f"distill: {key}: reading {count} samples into memory")
    items = first + [_item(samples, number, key) for number in range(len(first), count)]
    return {name: _stacked(name, items, key) for name in first[0]}


def _stacked(name: str, items: Sequence[Mapping[str, Tensor]], key: str) -> Tensor:
    """Return a field of all samples."""
    known = items[0][name]
    for number, item in enumerate(items):
        found = item.get(name)
        if found is None or found.shape != known.shape or found.dtype != known.dtype:
            other = "none" if found is None else f"{tuple(found.shape)} of {found.dtype}"
            raise DataError(
                f"distill: {key}: expected the {name} of every sample like that of the first, {tuple(known.shape)} of"
                f" {known.dtype}, found {other} at number {number}; let the data set resize them"
            )
    return torch.stack([item[name] for item in items])


def _item(samples: Any, number: int, key: str) -> dict[str, Tensor]:
    """Return one sample by field."""
    try:
        sample = samples[number]
    except Exception as error:  # whatever the owner's data set raises
        raise DataError(f"distill: {key}: sample {number} cannot be read: {in_a_line(error)}") from error
    if isinstance(sample, Mapping):
        sample = {_field(name, key): value for name, value in sample.items()}
        require(f"distill: {key}", "image" in sample, "an image in every sample", list(sample))
        return {name: _one(name, value, key) for name, value in sample.items()}
    image, *others = sample if isinstance(sample, list | tuple) else [sample]
    found = {"image": _one("image", image, key)}
    for other in others:
        tensor = _one("", other, key)
        name = {0: "label", 2: "mask", 3: "target"}.get(tensor.ndim, "")
        new = name not in ("", *found)
        expected = "beside an image the number of its class, a mask (H, W) or a target (C, H, W)"
        require(f"distill: {key}", new, expected, f"a tensor {tuple(tensor.shape)}")
        found[name] = tensor
    return found


def _one(name: str, value: Any, key: str) -> Tensor:
    """Return a picture, array or number of one sample as a tensor."""
    if isinstance(value, Image.Image):
        colours = name in ("image", "target")
        good = not colours or value.mode in ("L", "RGB")
        hint = '; let the data set do image.convert("RGB")'
        require(f"distill: {key}", good, "pictures in RGB or grey", f"mode {value.mode}", hint)
        value = np.array(value)
    if isinstance(value, Tensor):
        return value[None] if name in ("image", "target") and value.ndim == 2 else value
    if isinstance(value, np.ndarray):
        picture = name in ("image", "target") or value.ndim == 3
        return _images(value[None], key)[0] if picture else _numbers(value, key)
    number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    found = f"{value!r:.60}" if isinstance(value, str | int | float) else type(value).__name__
    expected = "an image" if name == "image" else "the number of a class, from 0"
    if not number or name == "image":
        raise RecipeError(f"distill: {key}: expected {expected} in every sample, found {found}")
    return torch.tensor(int(value))

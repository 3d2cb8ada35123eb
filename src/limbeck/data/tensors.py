"""Images that are in memory already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.data.base import Data, InMemory, Split, to_float
from limbeck.data.mask_census import named, present
from limbeck.data.ranges import SIGNED, check_values, checked_range, signed
from limbeck.errors import DataError, RecipeError, require
from limbeck.ground.progress import say_once
from limbeck.ground.randomness import generator
from limbeck.types import VOID, Batch

WAY = "TensorImages(..., image_range=({}))"


class TensorImages(Data):
    """A user's own tensors. Test and validation images are drawn with a fixed seed; the rest is for training.

    Args:
        image: (N, C, H, W), uint8 0..255 or float in `image_range`; at least 3 images.
        label: (N,), class numbers from 0, or None.
        classes: Names of the classes of labels or masks, in order of their numbers; None for those that occur.
        validation: Part of the images held out for validation, in (0, 1); at least one image.
        test: Part of the images held out for testing, in (0, 1); at least one image.
        name: What results are filed under.
        image_range: (low, high) of float images and targets, as `Import` has it; uint8 is 0..255.
        beside: What else belongs to the images: `mask` (N, H, W), the class of each pixel from 0, 255 where it is void;
            `target` (N, C', H', W'), what they are to become, of the types of `image`.

    Raises:
        DataError: Tensors of another shape, type or range, or that look as if they had another range: floats that
            never go below 0 are not in [-1, 1].
        RecipeError: Parts that cannot be held out, classes that could be those of labels and of masks, or a tensor of
            another name.
    """

    _target: Tensor | None = None

    def __init__(
        self,
        image: Tensor,
        label: Tensor | None = None,
        *,
        classes: Sequence[str] | None = None,
        validation: float = 0.1,
        test: float = 0.1,
        name: str = "tensors",
        image_range: tuple[float, float] = SIGNED,
        **beside: Tensor,
    ) -> None:
        self.image_range = checked_range("TensorImages.image_range", image_range)
        _check_pixels("images", image)
        check_values("TensorImages.image", [image], self.image_range, WAY)
        count, *shape = image.shape
        odd = next((each for each in beside if each not in ("mask", "target")), None)
        require("TensorImages", odd is None, "a mask or a target beside images and labels", odd)
        mask, target = beside.get("mask"), beside.get("target")
        either = "none beside both labels and masks, as they could be of either"
        require("TensorImages.classes", classes is None or label is None or mask is None, either, classes)
        self.name = name
        self.image_shape = (image.shape[1], image.shape[2], image.shape[3])
        self.classes = _classes("labels", label, (count,), classes)
        self.mask_classes = _classes("masks", mask, (count, *shape[1:]), classes, VOID)
        if mask is not None:
            _check_occurring(mask, self.mask_classes, told=classes is not None)
        if target is not None:
            _check_pixels("targets", target, count)
            check_values("TensorImages.target", [target], self.image_range, WAY)
            self._target = _kept(target, self.image_range)
        self._image = _kept(image, self.image_range)
        self._label = None if label is None else label.detach().cpu().long()
        self._mask = None if mask is None else mask.detach().cpu().to(torch.uint8)
        self._parts = _parts(count, validation, test)
        self._splits: dict[Split, InMemory] = {}

    def gives(self) -> tuple[str, ...]:
        """Return the fields of its batches, the targets among them."""
        found = super().gives()
        return found if self._target is None else (*found, "target")

    def split(self, name: Split) -> InMemory:
        """Return the samples of a split, in the order in which they were given; they are gathered on the first call."""
        if name not in self._splits:
            self._splits[name] = self._gathered(self._parts[name])
        return self._splits[name]

    def _gathered(self, part: Tensor) -> InMemory:
        tensors = (self._image, self._label, self._mask, self._target)
        image, label, mask, target = (None if tensor is None else tensor[part] for tensor in tensors)
        assert image is not None
        pixels = [tensor for tensor in (image, target) if tensor is not None]
        kind = InMemory if all(tensor.dtype == torch.uint8 for tensor in pixels) else FloatInMemory
        return kind(image, label, mask, target)


class FloatInMemory(InMemory):
    """Samples of which images or targets are held as float32 in [-1, 1], so that nothing is lost by rounding.

    Args:
        image: (N, C, H, W), float32 in [-1, 1] or uint8.
        label: (N,), int64, or None.
        mask: (N, H, W), uint8 class of each pixel (255 is void), or None.
        target: (N, C', H', W'), as `image`, or None.
    """

    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices`, what is float as it is."""
        return Batch(
            image=_pixels(self.image[indices]),
            label=None if self.label is None else self.label[indices],
            mask=None if self.mask is None else self.mask[indices].long(),
            target=None if self.target is None else _pixels(self.target[indices]),
            index=indices,
        )


def _pixels(image: Tensor) -> Tensor:
    return to_float(image) if image.dtype == torch.uint8 else image


def _kept(image: Tensor, image_range: tuple[float, float]) -> Tensor:
    keeps = image.detach().cpu()
    return keeps if keeps.dtype == torch.uint8 else signed(keeps, image_range)


def _parts(count: int, validation: float, test: float) -> dict[Split, Tensor]:
    """Return the positions of the samples of every split."""
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise RecipeError(
            "TensorImages: expected parts in (0, 1) that leave some for training, found"
            f" validation {validation} and test {test}"
        )
    order = torch.randperm(count, generator=generator("tensors", "split"))
    tested, validated = max(1, round(test * count)), max(1, round(validation * count))
    if tested + validated >= count:
        raise DataError(f"TensorImages: {count} images leave none for training; give more, or hold out less")
    parts = order.split_with_sizes([tested, validated, count - tested - validated])
    names: tuple[Split, ...] = ("test", "validation", "train")
    return {name: part.sort().values for name, part in zip(names, parts, strict=True)}


def _check_pixels(what: str, image: Tensor, count: int | None = None) -> None:
    """Refuse what are no images, or another number of them than `count`."""
    if image.ndim != 4 or 0 in image.shape:
        raise DataError(f"TensorImages: expected {what} (N, C, H, W), found a tensor of shape {tuple(image.shape)}")
    if count is not None and len(image) != count:
        raise DataError(f"TensorImages: expected {what} of all {count} images, found {len(image)}")
    if len(image) < 3:
        raise DataError(f"TensorImages: expected at least 3 {what} (training, validation, test), found {len(image)}")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise DataError(
            f"TensorImages: expected uint8 (0..255) or float {what}, found {image.dtype}; give {what[:-1]}.float() with"
            " the range that they were made for, such as image_range=(0, 65535) for 16 bits"
        )


def _classes(
    what: str, number: Tensor | None, shape: tuple[int, ...], names: Sequence[str] | None, void: int | None = None
) -> tuple[str, ...]:
    """Return the names of the classes of labels or masks, those that are given or their numbers; () without any."""
    if number is None:
        return ()
    highest = _highest(what, number, shape, void)
    if names is not None and highest >= len(names):
        raise DataError(f"TensorImages: expected {what} below {len(names)}, the number of classes, found {highest}")
    return tuple(map(str, range(highest + 1))) if names is None else tuple(names)


def _check_occurring(mask: Tensor, classes: Sequence[str], *, told: bool) -> None:
    """Refuse masks that lack a class where nobody named them, or that leave nothing to tell apart; else say it.

    Masks of 0 and 255, which is void, are of one class.
    """
    found = present(mask) - {VOID}
    if not told and found == {0} and VOID in present(mask):
        raise DataError(
            f"TensorImages: expected masks of several classes, found {VOID}, which is void, beside class 0 alone;"
            " number the classes from 0 without gaps, or name all in `classes`"
        )
    missing = set(range(len(classes))) - found
    if not missing:
        return
    what = f"found no pixel of {named(missing, classes)}"
    if not told or len(found) == 1:
        raise DataError(
            f"TensorImages: expected masks with every class, {what}; number them from 0 without gaps ({VOID} is void)"
            f"{'' if told else ', or name all in `classes`'}"
        )
    say_once(f"TensorImages: {what} in the masks; {VOID} is void")


def _highest(what: str, number: Tensor, shape: tuple[int, ...], void: int | None) -> int:
    """Return the highest class of labels or masks, which are below what stands for void."""
    if number.shape != shape or number.is_floating_point() or number.dtype == torch.bool:
        raise DataError(
            f"TensorImages: expected {shape} whole-number {what}, found {tuple(number.shape)} of {number.dtype}"
        )
    known = number if void is None else number[number != void]
    if not known.numel():
        raise DataError(f"TensorImages: expected {what} with a class, found void alone")
    lowest, highest = int(known.min()), int(known.max())
    if lowest < 0:
        raise DataError(f"TensorImages: expected {what} from 0, found {lowest}")
    if void is not None and highest > void:
        raise DataError(f"TensorImages: expected {what} of at most {void}, which is void, found {highest}")
    return highest

"""Images that are in memory already."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.data.base import Data, InMemory, Split
from limbeck.errors import DataError, RecipeError
from limbeck.ground.randomness import generator
from limbeck.types import Batch


class TensorImages(Data):
    """A user's own tensors. Test and validation images are drawn with a fixed seed; the rest is for training.

    Args:
        image: (N, C, H, W), uint8 0..255 or float in [-1, 1]; at least 3 images.
        label: (N,), class numbers from 0, or None.
        validation: Part of the images held out for validation, in (0, 1); at least one image.
        test: Part of the images held out for testing, in (0, 1); at least one image.
        name: What results are filed under.

    Raises:
        DataError: Tensors of another shape, type or range.
        RecipeError: Parts that cannot be held out.
    """

    def __init__(
        self,
        image: Tensor,
        label: Tensor | None = None,
        *,
        validation: float = 0.1,
        test: float = 0.1,
        name: str = "tensors",
    ) -> None:
        _check_image(image)
        if label is not None:
            _check_label(label, len(image))
        if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
            raise RecipeError(
                "TensorImages: expected parts in (0, 1) that leave some for training, found"
                f" validation {validation} and test {test}"
            )
        self.name = name
        self.image_shape = (image.shape[1], image.shape[2], image.shape[3])
        self.classes = () if label is None else tuple(str(k) for k in range(int(label.max()) + 1))
        keeps = image.detach().cpu()
        self._image = keeps if keeps.dtype == torch.uint8 else keeps.float()
        self._label = None if label is None else label.detach().cpu().long()
        self._parts = _parts(len(image), validation, test)

    def split(self, name: Split) -> InMemory:
        """Return the samples of a split, in the order in which they were given."""
        part = self._parts[name]
        label = None if self._label is None else self._label[part]
        kind = InMemory if self._image.dtype == torch.uint8 else FloatInMemory
        return kind(self._image[part], label)


class FloatInMemory(InMemory):
    """Samples held as float32 in [-1, 1] instead of uint8, so that nothing is lost by rounding.

    Args:
        image: (N, C, H, W), float32 in [-1, 1].
        label: (N,), int64, or None.
    """

    def __init__(self, image: Tensor, label: Tensor | None = None) -> None:
        super().__init__(image, label)

    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices` as they are."""
        label = None if self.label is None else self.label[indices]
        return Batch(image=self.image[indices], label=label, index=indices)


def _parts(count: int, validation: float, test: float) -> dict[Split, Tensor]:
    order = torch.randperm(count, generator=generator("tensors", "split"))
    tested, validated = max(1, round(test * count)), max(1, round(validation * count))
    if tested + validated >= count:
        raise DataError(f"TensorImages: {count} images leave none for training; give more, or hold out less")
    parts = order.split_with_sizes([tested, validated, count - tested - validated])
    names: tuple[Split, ...] = ("test", "validation", "train")
    return {name: part.sort().values for name, part in zip(names, parts, strict=True)}


def _check_image(image: Tensor) -> None:
    if image.ndim != 4 or 0 in image.shape:
        raise DataError(f"TensorImages: expected images (N, C, H, W), found a tensor of shape {tuple(image.shape)}")
    if len(image) < 3:
        raise DataError(f"TensorImages: expected at least 3 images (training, validation, test), found {len(image)}")
    if image.dtype == torch.uint8:
        return
    if not image.is_floating_point():
        raise DataError(f"TensorImages: expected uint8 (0..255) or float ([-1, 1]) images, found {image.dtype}")
    low, high = image.min().item(), image.max().item()
    if not (low >= -1 and high <= 1):  # so written, NaN is refused too
        raise DataError(
            f"TensorImages: expected float images in [-1, 1], found {low:.4g}..{high:.4g};"
            " for 0..255 give uint8, else scale them"
        )


def _check_label(label: Tensor, count: int) -> None:
    if label.shape != (count,) or label.is_floating_point() or label.dtype == torch.bool:
        raise DataError(
            f"TensorImages: expected ({count},) whole-number labels, found {tuple(label.shape)} of {label.dtype}"
        )
    if label.min() < 0:
        raise DataError(f"TensorImages: expected labels from 0, found {int(label.min())}")

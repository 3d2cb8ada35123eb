"""Which classes the masks of a split have: one that was announced and never occurs is most often a mistaken value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from limbeck.data.base import Images, InMemory, Split
from limbeck.errors import DataError
from limbeck.ground.randomness import generator
from limbeck.types import VOID, Batch

CHUNK = 16  # masks at a time


def occurring(images: Images, enough: Callable[[set[int]], bool]) -> set[int]:
    """Return the classes, and `VOID`, of masks, read in a mixed order until there is `enough` of them.

    So only a class that never occurs costs a look at all masks.

    Raises:
        DataError: A mask that was looked at is damaged.
    """
    found: set[int] = set()
    for masks in _masks(images):
        found |= present(masks)
        if enough(found):
            break
    return found


def present(masks: Tensor) -> set[int]:
    """Return the values of masks, 0..255."""
    return set(torch.bincount(masks.flatten().long(), minlength=256).nonzero().flatten().tolist())


def named(numbers: Sequence[int] | set[int], classes: Sequence[str]) -> str:
    """Return the names of classes: at most six, and how many more there are."""
    names = [classes[number] for number in sorted(numbers)]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def known(found: set[int]) -> bool:
    """Return whether any class but void was found."""
    return bool(found - {VOID})


def check_known(data: str, split: Split, seen: bool) -> None:
    """Refuse masks of a data set of which no pixel has a class.

    Raises:
        DataError: None was seen.
    """
    if not seen:
        raise DataError(
            f"{data}: expected classes in the {split} masks, found void ({VOID}) alone; say what their values mean"
        )


def _masks(images: Images) -> Iterator[Tensor]:
    """Yield the masks (N, H, W) of some samples after others."""
    order = torch.randperm(len(images), generator=generator("mask census"))
    for part in torch.split(order, CHUNK):
        if isinstance(images, InMemory):
            yield Batch(mask=images.mask).need("mask", "masks")[part]
        else:
            yield images.read(part).need("mask", "masks")

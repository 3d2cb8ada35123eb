"""Masks for a share of the images: which they are, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch

from limbeck.data.base import Images
from limbeck.data.glyphs import Glyphs
from limbeck.data.partly_labelled import PartlyLabelled
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError, RecipeError
from limbeck.types import VOID, Batch


def glyphs() -> Glyphs:
    return Glyphs(16, train=80, validation=20, test=30, classes="ABCD")


def everything(images: Images) -> Batch:
    return images.read(torch.arange(len(images)))


def labelled(data: PartlyLabelled) -> set[int]:
    mask = everything(data.split("train")).mask
    assert mask is not None
    return set((mask != VOID).any(2).any(1).nonzero().flatten().tolist())


@pytest.mark.parametrize(("share", "count"), [(1 / 8, 10), (0.5, 40), (1.0, 80), (0.001, 1)])
def test_a_share_keeps_its_masks_and_all_keep_the_rest(share: float, count: int) -> None:
    data = PartlyLabelled(glyphs(), share)
    whole, part = everything(glyphs().split("train")), everything(data.split("train"))
    assert whole.mask is not None and part.mask is not None
    assert torch.equal(whole.image, part.image) and torch.equal(whole.label, part.label)  # type: ignore[arg-type]
    same = (whole.mask == part.mask).flatten(1).all(1)
    void = (part.mask == VOID).flatten(1).all(1)
    assert same.sum() == count and torch.equal(void, ~same)
    for name in ("validation", "test"):
        assert data.split(name).fingerprint() == glyphs().split(name).fingerprint()  # type: ignore[arg-type]


def test_a_larger_share_holds_a_smaller_one_and_other_draws_keep_others() -> None:
    some, more, other = (PartlyLabelled(glyphs(), *a) for a in ((0.125,), (0.5,), (0.125, 1)))
    assert labelled(some) < labelled(more) and labelled(some) != labelled(other)
    prints = {d.split("train").fingerprint() for d in (some, more, other, PartlyLabelled(glyphs(), 0.125, drop=True))}
    assert len(prints) == 4


def test_those_without_masks_can_be_left_out() -> None:
    whole, data = everything(glyphs().split("train")), PartlyLabelled(glyphs(), 0.125, drop=True)
    kept = sorted(labelled(PartlyLabelled(glyphs(), 0.125)))
    part = everything(data.split("train"))
    assert torch.equal(part.image, whole.image[kept]) and torch.equal(part.mask, whole.mask[kept])  # type: ignore[index,arg-type]


def test_the_name_says_the_share() -> None:
    names = {
        "glyphs-1of8-labelled": PartlyLabelled(glyphs(), 0.125),
        "glyphs-1of3-labelled-draw2": PartlyLabelled(glyphs(), 1 / 3, draw=2),
        "glyphs-1of30": PartlyLabelled(glyphs(), 1 / 30, drop=True),
        "glyphs-0.123-labelled": PartlyLabelled(glyphs(), 0.123),
    }
    assert all(data.name == name for name, data in names.items())


def test_bad_arguments() -> None:
    for arguments in ({"share": 0.0}, {"share": 1.5}, {"share": 0.5, "draw": -1}):
        with pytest.raises(RecipeError, match=r"PartlyLabelled\.\w+: expected .*, found"):
            PartlyLabelled(glyphs(), **arguments)  # type: ignore[arg-type]
    bare = TensorImages(torch.zeros(9, 1, 4, 4))
    with pytest.raises(RecipeError, match=r"PartlyLabelled\.data: expected data with masks, found tensors"):
        PartlyLabelled(bare, 0.5)
    bare.mask_classes = ("a", "b")  # claims what it does not have
    with pytest.raises(DataError, match="PartlyLabelled: expected data with masks, found none"):
        PartlyLabelled(bare, 0.5).split("train").read(torch.tensor([0]))


@pytest.mark.parametrize(("share", "times"), [(1 / 8, 7), (1 / 4, 3), (1 / 2, 1), (1.0, 1)])
def test_those_with_masks_can_be_repeated_until_they_are_half(share: float, times: int) -> None:
    data = PartlyLabelled(glyphs(), share, balance=True)
    count = round(80 * share)
    train = data.split("train")
    assert len(train) == 80 + (times - 1) * count
    batch = everything(train)
    assert batch.mask is not None and batch.index is not None and batch.label is not None
    known = (batch.mask != VOID).any(2).any(1)
    assert known.sum() == times * count and torch.equal(batch.index, torch.arange(len(train)))
    assert known[80:].all()
    first = batch.image[80 : 80 + count] if batch.image is not None else None
    kept = sorted(labelled(PartlyLabelled(glyphs(), share)))
    if times > 1:
        assert torch.equal(first, everything(glyphs().split("train")).image[kept])  # type: ignore[arg-type,index]
    assert torch.equal(train.labels(), batch.label)  # type: ignore[arg-type]

"""A user's own tensors: kept exactly, divided the same way every time, refused clearly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError, RecipeError

BYTES = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 4, 5)


def test_bytes_are_scaled() -> None:
    data = TensorImages(BYTES)
    images = data.split("train")
    batch = images.read(torch.arange(len(images)))
    assert batch.image is not None and data.image_shape == (3, 4, 5) and data.classes == ()
    assert torch.allclose(batch.image, images.image / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_floats_are_kept_exactly(dtype: torch.dtype) -> None:
    image = (torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(dtype).requires_grad_()
    data = TensorImages(image)
    parts = [data.split(name) for name in ("train", "validation", "test")]
    read = torch.cat([part.read(torch.arange(len(part))).image for part in parts])  # type: ignore[misc]
    assert read.dtype == torch.float32 and not read.requires_grad
    assert {one.item() for one in read[:, 0, 0, 0]} == {one.item() for one in image.detach().float()[:, 0, 0, 0]}


def test_parts_are_disjoint_complete_in_order_and_always_the_same() -> None:
    label = torch.arange(50) % 7
    parts = [TensorImages(BYTES, label, test=0.2, validation=0.1).split(n) for n in ("train", "validation", "test")]
    places = [part.image[:, 0, 0, 0].tolist() for part in parts]
    assert [len(place) for place in places] == [35, 5, 10]
    assert sorted(p for place in places for p in place) == list(range(50)) and all(
        place == sorted(place) for place in places
    )
    for part, place in zip(parts, places, strict=True):
        assert part.label is not None and part.label.tolist() == [p % 7 for p in place]
    again = TensorImages(BYTES, label, test=0.2, validation=0.1)
    assert [again.split(n).fingerprint() for n in ("train", "validation", "test")] == [p.fingerprint() for p in parts]
    assert again.classes == tuple("0123456")


def test_the_smallest_set_has_an_image_for_every_split() -> None:
    assert [len(TensorImages(BYTES[:3]).split(name)) for name in ("train", "validation", "test")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(9, 4, 4), r"expected images \(N, C, H, W\), found a tensor of shape \(9, 4, 4\)"),
        (torch.zeros(0, 3, 4, 4), "expected images"),
        (torch.zeros(2, 3, 4, 4), "at least 3 images"),
        (torch.zeros(9, 3, 4, 4, dtype=torch.int64), "expected uint8 .* found torch.int64"),
        (torch.rand(9, 3, 4, 4) * 255, r"in \[-1, 1\], found .*image_range=\(0, 255\)"),
        (torch.full((9, 3, 4, 4), -1.01), r"found -1\.01"),
        (torch.full((9, 3, 4, 4), torch.nan), "found NaN"),
    ],
)
def test_bad_images(image: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        TensorImages(image)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.zeros(49, dtype=torch.int64), r"expected \(50,\) whole-number labels, found \(49,\)"),
        (torch.zeros(50), "torch.float32"),
        (torch.full((50,), -1), "labels from 0, found -1"),
    ],
)
def test_bad_labels(label: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        TensorImages(BYTES, label)


def test_bad_parts() -> None:
    with pytest.raises(RecipeError, match="parts in"):
        TensorImages(BYTES, test=0.0)
    with pytest.raises(RecipeError, match="leave some for training"):
        TensorImages(BYTES, test=0.6, validation=0.5)
    with pytest.raises(DataError, match="4 images leave none"):
        TensorImages(BYTES[:4], test=0.5, validation=0.45)


def test_masks_and_targets_stay_beside_their_images() -> None:
    """Targets keep the bytes or floats that they have, whatever the images; void pixels name no class."""
    mask = torch.arange(50)[:, None, None].expand(50, 4, 5) % 3
    mask = mask.where(torch.arange(5) > 0, 255)
    target = torch.linspace(-1, 1, 50)[:, None, None, None].expand(50, 1, 8, 10)
    data = TensorImages(BYTES, mask=mask, target=target, validation=0.1, test=0.2)
    assert data.mask_classes == ("0", "1", "2") and data.classes == () and data.gives() == (
        "image", "mask", "index", "target",
    )  # fmt: skip
    for name in ("train", "validation", "test"):
        images = data.split(name)  # type: ignore[arg-type]
        batch = images.read(torch.arange(len(images)))
        place = images.image[:, 0, 0, 0].long()
        assert batch.image is not None and batch.mask is not None and batch.target is not None
        assert torch.equal(batch.mask, mask[place]) and torch.equal(batch.target, target[place])
        assert torch.allclose(batch.image, images.image / 127.5 - 1, atol=1e-6)
    other = TensorImages(BYTES, mask=mask, target=target / 2, validation=0.1, test=0.2)
    assert other.split("train").fingerprint() != data.split("train").fingerprint()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"mask": torch.zeros(50, 4, 4, dtype=torch.int64)},
            r"expected \(50, 4, 5\) whole-number masks, found \(50, 4, 4\)",
        ),
        ({"mask": torch.full((50, 4, 5), 255)}, "masks with a class, found void alone"),
        ({"mask": torch.full((50, 4, 5), 256)}, "masks of at most 255, which is void, found 256"),
        ({"mask": torch.zeros(50, 4, 5)}, "whole-number masks, .* torch.float32"),
        ({"target": torch.zeros(49, 3, 4, 5)}, "targets of all 50 images, found 49"),
        ({"target": torch.full((50, 3, 4, 5), 2.0)}, r"TensorImages\.target: expected .* in \[-1, 1\], found 2..2"),
        ({"label": torch.arange(50), "classes": ["a"]}, "labels below 1, the number of classes, found 49"),
    ],
)
def test_bad_companions(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        TensorImages(BYTES, **given)


def test_classes_are_those_of_labels_or_of_masks() -> None:
    label, mask = torch.zeros(50, dtype=torch.int64), torch.zeros(50, 4, 5, dtype=torch.uint8)
    mask[:, 2:] = 1
    assert TensorImages(BYTES, label, classes="ab").classes == ("a", "b")
    assert TensorImages(BYTES, mask=mask, classes="ab").mask_classes == ("a", "b")
    with pytest.raises(RecipeError, match="classes: expected none beside both"):
        TensorImages(BYTES, label, mask=mask, classes="ab")
    with pytest.raises(RecipeError, match="expected a mask or a target beside images and labels, found 'depth'"):
        TensorImages(BYTES, depth=mask)

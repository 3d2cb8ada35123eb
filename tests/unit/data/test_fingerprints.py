"""Fingerprints of data: the values by which arms are known, computed once for each split and without a copy of it."""

from __future__ import annotations

import copy
import hashlib
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from limbeck.data.base import Images, InMemory, Subset
from limbeck.data.cutouts import Cutouts
from limbeck.data.pairs import PairImages
from limbeck.data.partly_labelled import SomeMasks
from limbeck.ground.arrays import AT_ONCE, hash_bytes
from limbeck.types import Batch

IMAGE = (torch.arange(4 * 3 * 6 * 5) % 251).to(torch.uint8).view(4, 3, 6, 5)
MASK = (torch.arange(4 * 6 * 5) % 7).to(torch.uint8).view(4, 6, 5)


def whole() -> InMemory:
    return InMemory(IMAGE, torch.arange(4) % 2, MASK, IMAGE.flip(3))


def test_arms_of_earlier_versions_are_known_again(tmp_path: Path) -> None:
    """Values of version 0.1, which hashed a copy of the whole set."""
    file = tmp_path / "a.png"
    Image.fromarray(np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)).save(file)
    found = [
        whole(),
        InMemory(IMAGE.transpose(2, 3)),
        Subset(whole(), torch.tensor([2, 0])),
        SomeMasks(whole(), torch.tensor([2, 0]), 2),
        Cutouts([file], 3, 4, 2),
        PairImages({"latent": torch.arange(12.0).view(4, 3), "image": IMAGE}, whole(), every_pair=False),
    ]
    assert [images.fingerprint() for images in found] == [
        "e298aa457a842e77",
        "ee4c87247f9655b0",
        "a04c22705f7c2417",
        "e97fe833ca6ba701",
        "2c7f17635bcf3c5c",
        "5cae9c99eec7c83b",
    ]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(5),
        torch.rand(3, 2, 4, 4).transpose(1, 3),
        torch.rand(7, 300, 1000)[::2],  # a row of more bytes than are copied at once
        torch.arange(2 * AT_ONCE + 6).to(torch.uint8)[::3],
        torch.tensor(3.0),
        torch.empty(0, 3),
        torch.tensor([True, False]),
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)}",
)
def test_the_bytes_are_those_of_a_copy(tensor: Tensor) -> None:
    digest = hashlib.sha256()
    hash_bytes(digest, tensor)
    assert digest.digest() == hashlib.sha256(tensor.numpy().tobytes()).digest()


def test_nothing_is_copied() -> None:
    images = InMemory(torch.zeros(64, 3, 128, 128, dtype=torch.uint8))
    tracemalloc.start()
    images.fingerprint()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.image.nbytes / 50


class Counted(Images):
    """Somebody's own, which knows nothing of being remembered."""

    def __init__(self, image: Tensor) -> None:
        self.image, self.asked = image, 0

    def __len__(self) -> int:
        return len(self.image)

    def read(self, indices: Tensor) -> Batch:
        return Batch(image=self.image[indices], index=indices)

    def fingerprint(self) -> str:
        self.asked += 1
        return f"{float(self.image.sum())}"


class Renamed(Counted):
    """One that builds on the fingerprint of another."""

    def fingerprint(self) -> str:
        return f"renamed {super().fingerprint()}"


@pytest.mark.parametrize(("kind", "expected"), [(Counted, "48.0"), (Renamed, "renamed 48.0")])
def test_every_object_computes_it_once(kind: type[Counted], expected: str) -> None:
    images = kind(torch.ones(4, 3, 2, 2))
    some = Subset(images, torch.tensor([1]))
    assert {images.fingerprint() for _ in range(3)} == {expected}
    assert some.fingerprint() == Subset(images, torch.tensor([1])).fingerprint()
    assert images.asked == 1
    assert kind(torch.zeros(4, 3, 2, 2)).fingerprint() != expected


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda images: pickle.loads(pickle.dumps(images))])
def test_a_copy_that_gets_other_samples_has_another(copied: object) -> None:
    images = whole()
    before = images.fingerprint()
    other = copied(images)  # type: ignore[operator]
    assert other.fingerprint() == before
    other = copied(images)  # type: ignore[operator]
    other.image = images.image.flip(0)
    assert other.fingerprint() != before == images.fingerprint()


def test_a_class_without_one_cannot_be_built() -> None:
    class Nameless(Images):
        def __len__(self) -> int:
            return 0

        def read(self, indices: Tensor) -> Batch:
            return Batch(index=indices)

    with pytest.raises(TypeError, match="fingerprint"):
        Nameless()  # type: ignore[abstract]

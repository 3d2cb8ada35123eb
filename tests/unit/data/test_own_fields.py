"""A data set of one's own with fields of its own: a depth that moves with the image, a caption that does not."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from limbeck.data.base import Data, Images, Split
from limbeck.errors import DataError
from limbeck.recipe.reader import Recipe, read_recipe
from limbeck.recipe.rehearsal import rehearse
from limbeck.run.estimate import estimate
from limbeck.run.story import prepare
from limbeck.tasks.classification import Classification
from limbeck.types import Batch, Kind

COUNTS = {"train": 24, "validation": 8, "test": 8}
NETWORK = "{class_path: SmallCnn, init_args: {width: 2, channels: 1, size: 16, classes: 2}}"
RECIPE = f"""
name: rooms
data: {{class_path: FewImages, init_args: {{data: {{class_path: test_own_fields.Rooms}}, per_class: 10}}}}
task: {{class_path: test_own_fields.Watched}}
method: {{class_path: Supervised}}
augmentation: {{class_path: Flip}}
teacher: {{network: {NETWORK}, training: {{steps: 3, batch: 4}}}}
student: {{network: {NETWORK}, training: {{steps: 3, batch: 4, views: 1, teacher_cache: true}}}}
"""


def told(index: Tensor) -> Tensor:
    """Return the tokens (N, 4) of the captions."""
    return 7 * index[:, None] + torch.arange(4)


class RoomImages(Images):
    """Pictures of rooms whose depth is their negative."""

    def __init__(self, split: Split) -> None:
        draw = torch.Generator().manual_seed(COUNTS[split] + len(split))
        self.image = torch.rand(COUNTS[split], 1, 16, 16, generator=draw) * 2 - 1
        self.label = torch.arange(COUNTS[split]) % 2

    def __len__(self) -> int:
        return len(self.image)

    def read(self, indices: Tensor) -> Batch:
        image, label = self.image[indices], self.label[indices]
        return Batch(image=image, label=label, depth=-image, caption=told(indices), place=indices, index=indices)

    def fingerprint(self) -> str:
        return f"rooms {len(self)} {float(self.image.sum())}"


class Rooms(Data):
    """Rooms with their depth, a caption, and their place in the whole set."""

    name, image_shape, classes = "rooms", (1, 16, 16), ("kitchen", "hall")
    kinds: ClassVar = {"depth": Kind("bilinear"), "caption": Kind(), "place": Kind()}

    def split(self, name: Split) -> RoomImages:
        return RoomImages(name)


class Unsaid(Rooms):
    """The same, which does not say how its fields move."""

    kinds: ClassVar = {}


class Watched(Classification):
    """Sees to it that what a method is given belongs together, and counts the images and the mirrored among them."""

    seen: ClassVar[list[bool]] = []

    def prepare(self, batch: Batch) -> Batch:
        image, place = batch.need("image", "test"), batch.need("place", "test")
        assert torch.equal(batch.need("depth", "test"), -image)
        assert torch.equal(batch.need("caption", "test"), told(place))
        mirrored = (image != RoomImages("train").image[place]).flatten(1).any(1)
        assert torch.equal(image[mirrored], RoomImages("train").image[place[mirrored]].flip(3))
        self.seen.extend(mirrored.tolist())
        return batch


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    Watched.seen.clear()
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return read_recipe(tmp_path / "recipe.yaml")


def test_all_that_data_gives_is_known_beforehand(recipe: Recipe) -> None:
    data = recipe.data.build()
    fields = data.split("train").read(torch.arange(3)).fields
    assert set(data.gives()) == set(fields) == {"image", "label", "depth", "caption", "place", "index"}


def test_own_fields_move_by_their_kind_in_every_training(recipe: Recipe, tmp_path: Path) -> None:
    rehearse(recipe)
    arms = prepare(recipe, tmp_path / "out", accelerator="cpu").arms()
    Watched.seen.clear()  # in a probe of each arm
    for group in arms.values():
        group[0].fit()
    # Three steps of four images each for teacher, control and student, and what the teacher says to a view of all 20.
    assert len(Watched.seen) == 3 * 3 * 4 + 20 and 0 < sum(Watched.seen) < len(Watched.seen)


def test_an_estimate_sees_them_move(recipe: Recipe) -> None:
    estimate(recipe, "cpu")
    assert 0 < sum(Watched.seen) < len(Watched.seen)


def test_a_field_of_no_kind_stops_the_estimate_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("test_own_fields.Rooms", "test_own_fields.Unsaid"))
    with pytest.raises(DataError, match=r"augmentation: expected a kind of `depth`, found none; add it to the data's"):
        estimate(read_recipe(tmp_path / "recipe.yaml"), "cpu")

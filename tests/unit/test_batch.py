"""types.py: the named tensors of a batch."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from limbeck.errors import DataError
from limbeck.types import KINDS, Batch, plural


def full() -> Batch:
    """Return three samples with everything: a field that all know, one that only its data set knows, maps."""
    image = torch.arange(3 * 12.0).reshape(3, 1, 3, 4)
    drawn, taught = {"noise": torch.arange(3.0)}, {"": torch.arange(3, 6), "blocks.2": torch.arange(6.0).reshape(3, 2)}
    return Batch(image=image, label=None, depth=-image, drawn=drawn, teacher_outputs=taught)


def values(batch: Batch) -> dict[str, list[object]]:
    parts = {"": batch.fields, "drawn": batch.drawn, "taught": batch.teacher_outputs}
    return {f"{part}/{name}": t.tolist() for part, tensors in parts.items() for name, t in tensors.items()}


def test_a_field_is_an_attribute_and_a_known_one_that_is_not_there_is_none() -> None:
    batch = full()
    assert batch.image is batch.fields["image"] and batch.depth is batch.fields["depth"]
    assert list(batch.fields) == ["image", "depth"] and len(batch) == 3
    assert all(getattr(batch, name) is None for name in KINDS if name != "image")
    assert len(Batch(drawn=batch.drawn)) == 3 and len(Batch(teacher_outputs=batch.teacher_outputs)) == 3


def test_a_field_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"Batch: expected one of the fields image, .*index, depth, found 'lable'"):
        full().lable  # noqa: B018
    assert not hasattr(Batch(image=torch.zeros(1)), "depth")


@pytest.mark.parametrize("name", ["fields", "map", "need", "replace", "to"])
def test_a_field_cannot_take_the_name_of_what_a_batch_does(name: str) -> None:
    with pytest.raises(TypeError, match=rf"expected names of fields that it does not have itself, found {name}"):
        Batch(**{name: torch.zeros(1)})


def test_a_field_is_not_assigned_to() -> None:
    with pytest.raises(AttributeError):
        full().image = torch.zeros(3)  # type: ignore[misc]


def test_a_part_and_a_map_reach_every_tensor() -> None:
    batch = full()
    part, doubled = batch[1:], batch.map(lambda t: 2 * t)
    assert len(part) == 2 and values(part) == {name: found[1:] for name, found in values(batch).items()}
    assert (
        values(doubled)["/depth"] == (2 * batch.fields["depth"]).tolist()
        and values(doubled).keys() == values(batch).keys()
    )
    assert values(batch.to("cpu")) == values(batch) and batch.to("meta").depth.device.type == "meta"  # type: ignore[union-attr]


def test_replacing_adds_exchanges_and_leaves_out() -> None:
    batch, label = full(), torch.tensor([2, 0, 1])
    other = batch.replace(label=label, depth=None, teacher_outputs={})
    assert list(other.fields) == ["image", "label"] and other.label is label and other.image is batch.image
    assert other.drawn == batch.drawn and other.teacher_outputs == {} and list(batch.fields) == ["image", "depth"]


@pytest.mark.parametrize("copied", [lambda b: pickle.loads(pickle.dumps(b)), copy.copy, copy.deepcopy])
def test_it_travels_between_processes(copied) -> None:  # type: ignore[no-untyped-def]
    assert values(copied(full())) == values(full())


def test_what_has_to_be_there_is_given_or_refused_in_one_line() -> None:
    batch = full()
    assert batch.need("depth", "Fuse") is batch.fields["depth"]
    with pytest.raises(DataError) as error:
        batch.need("label", "Supervised")
    assert str(error.value) == "Supervised: expected data with labels, found none; choose a set with labels"


def test_names_in_words() -> None:
    assert plural(["label"]) == "labels"
    assert plural(["image", "label", "mask"]) == "images, labels and masks"

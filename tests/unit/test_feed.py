"""feed.py: what a step trains on depends on seed and step alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import Streamed, ToyTask, differences, toy_images

from limbeck.data.augmentations.augmentation import AugmentationSequence, ColourJitter, Flip
from limbeck.data.augmentations.warp import Crop
from limbeck.data.base import Augmentation, Images, InMemory
from limbeck.errors import DataError, RecipeError
from limbeck.training.feed import Feed, Material, Order, Waiting, augmented, workers_for
from limbeck.types import KINDS, Batch, Draw, Kind


class Brighter(Augmentation):
    """Adds a drawn number to every image."""

    def draws(self) -> Mapping[str, Draw]:
        return {"brightness": Draw((), "uniform")}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        return image + drawn["brightness"][:, None, None, None]


class Plain(ToyTask):
    """Gives a method what the data has."""

    def prepare(self, batch: Batch) -> Batch:
        return batch


def feed(images: Images, *, seed: int = 3, batch: int = 12, augmented: bool = True, **options: int) -> Feed:
    draws = {"noise": Draw((1, 4, 4)), "kind": Draw((), "integers", high=5)}
    material = Material(images, ToyTask(), Brighter() if augmented else None)
    return Feed(material, draws, seed=seed, batch=batch, **options)


def plain(batch: Batch) -> dict[str, Tensor]:
    assert batch.image is not None and batch.latent is not None
    return {"image": batch.image, "latent": batch.latent, **batch.drawn}


@settings(deadline=None)
@given(size=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_each_epoch_visits_every_sample_exactly_once(size: int, share: float, seed: int) -> None:
    batch = max(1, round(share * size))
    order = Order(size, batch, seed)
    visited = torch.cat([order.indices(step) for step in range(-(-3 * size // batch))])
    for epoch in range(3):
        assert visited[epoch * size : (epoch + 1) * size].sort().values.tolist() == list(range(size))


def test_epochs_and_seeds_have_different_orders() -> None:
    order, other = Order(64, 64, 0), Order(64, 64, 1)
    assert not torch.equal(order.indices(0), order.indices(1))
    assert not torch.equal(order.indices(0), other.indices(0))


def test_an_order_can_be_entered_anywhere() -> None:
    walked = Order(10, 4, 0)
    steps = [walked.indices(step) for step in range(12)]
    for step in (11, 2, 7):
        assert torch.equal(Order(10, 4, 0).indices(step), steps[step])


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("first", [0, 5])
def test_streaming_equals_in_memory_wherever_it_starts(workers: int, first: int) -> None:
    images = toy_images(40)
    expected = list(islice(feed(images).steps(0, 9), first, None))
    found = list(feed(Streamed(images.image), workers=workers).steps(first, 9))
    assert len(found) == 9 - first
    for a, b in zip(expected, found, strict=True):
        assert not differences(plain(a), plain(b))


def test_the_parts_of_all_processes_are_the_whole_batch() -> None:
    (whole,) = feed(toy_images()).steps(4, 5)
    parts = [next(iter(feed(toy_images(), rank=rank, processes=3).steps(4, 5))) for rank in range(3)]
    together = {name: torch.cat([plain(part)[name] for part in parts]) for name in plain(whole)}
    assert len(parts[0]) == 4
    assert not differences(plain(whole), together)


def test_draws_are_declared_by_task_method_and_augmentation() -> None:
    (batch,) = feed(toy_images()).steps(0, 1)
    assert set(batch.drawn) == {"latent", "noise", "kind", "brightness"}
    assert batch.drawn["noise"].shape == (12, 1, 4, 4)
    assert batch.drawn["kind"].dtype == torch.int64 and batch.drawn["kind"].max() < 5


def test_an_augmentation_of_the_method_under_the_same_name_is_refused() -> None:
    """Both would be given the same numbers: what the one flips, the other would flip back."""
    with pytest.raises(RecipeError, match=r"augmentation: expected another name .*, found flip twice"):
        Feed(Material(toy_images(), ToyTask(), Flip()), Flip().draws(), seed=0, batch=4)
    Feed(Material(toy_images(), ToyTask(), Flip(name="other")), Flip().draws(), seed=0, batch=4)


def test_draws_differ_between_steps_seeds_and_names() -> None:
    one, two = feed(toy_images()).steps(0, 2)
    (other,) = feed(toy_images(), seed=4).steps(0, 1)
    assert not torch.equal(one.drawn["noise"], two.drawn["noise"])
    assert not torch.equal(one.drawn["noise"], other.drawn["noise"])
    assert not torch.equal(one.drawn["noise"].flatten()[:48], one.drawn["latent"].flatten())


def test_the_augmentation_changes_images_by_what_was_drawn() -> None:
    (batch,) = feed(toy_images()).steps(0, 1)
    (untouched,) = feed(toy_images(), augmented=False).steps(0, 1)
    assert batch.image is not None and untouched.image is not None
    assert torch.equal(batch.image, untouched.image + batch.drawn["brightness"][:, None, None, None])


def test_a_batch_larger_than_the_data() -> None:
    with pytest.raises(DataError, match=r"training.batch: 65 samples, but the data has only 64; make it smaller"):
        feed(toy_images(64), batch=65)


def paired(**others: Tensor | None) -> Batch:
    image = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return Batch(image=image, mask=(image[:, 0] * 9).long(), target=image.flip(1), **others)


def test_masks_and_targets_are_moved_with_the_images() -> None:
    batch, drawn = paired(), {"flip": torch.tensor([0.1, 0.9, 0.4, 0.6])}
    result = augmented(batch, Flip(), drawn)
    assert result.image is not None and result.mask is not None and result.target is not None
    assert torch.equal(result.mask, (result.image[:, 0] * 9).long()) and not torch.equal(result.mask, batch.mask)
    assert torch.equal(result.target, result.image.flip(1))
    still = augmented(batch, Brighter(), {"brightness": torch.ones(4)})
    assert still.mask is batch.mask and still.target is batch.target


def test_the_target_of_a_latent_stays() -> None:
    batch = paired(latent=torch.zeros(4, 2))
    result = augmented(batch, Flip(1.0), {"flip": torch.zeros(4)})
    assert result.target is batch.target and not torch.equal(result.image, batch.image)  # type: ignore[arg-type]


def test_a_target_of_another_size_cannot_be_moved() -> None:
    batch = Batch(image=torch.zeros(1, 3, 6, 6), target=torch.zeros(1, 3, 24, 24))
    with pytest.raises(
        DataError, match=r"augmentation: expected `target` in the images' size \(6, 6\), found \(24, 24\)"
    ):
        augmented(batch, Crop(2), {"crop": torch.zeros(1, 2)})


def test_what_is_no_matter_of_size_moves_targets_of_any_size() -> None:
    image = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    target = image.repeat_interleave(4, 2).repeat_interleave(4, 3)
    both = AugmentationSequence([Flip(), Flip(vertical=True, name="upside")])
    drawn = {"flip": torch.tensor([0.1, 0.9, 0.4, 0.6]), "upside": torch.tensor([0.1, 0.1, 0.9, 0.9])}
    result = augmented(Batch(image=image, target=target), both, drawn)
    assert result.image is not None and result.target is not None
    assert torch.equal(result.target[..., ::4, ::4], result.image) and not torch.equal(result.target, target)
    assert not AugmentationSequence([Flip(), Crop(2)]).any_size


def test_another_view_of_an_image_is_changed_as_the_image_is() -> None:
    image = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    views = Batch(image=image, view=image[..., :3, :3])
    drawn = {"brightness": torch.tensor([0.1, 0.2, 0.3, 0.4])}
    kinds = {**KINDS, "view": Kind("alike")}
    with pytest.raises(DataError, match=r"`view` in the images' size \(6, 6\), found \(3, 3\)"):
        augmented(views, Brighter(), drawn, kinds)
    same = augmented(Batch(image=image, view=image), Brighter(), drawn, kinds)
    assert torch.equal(same.fields["view"], same.fields["image"]) and not torch.equal(same.fields["view"], image)
    smaller = augmented(views, ColourJitter(contrast=0), {"colour_jitter": torch.tensor([[0.1, 0.5, 0.9]] * 4)}, kinds)
    changed = smaller.fields["image"][..., :3, :3]
    torch.testing.assert_close(smaller.fields["view"], changed, rtol=0, atol=1e-6)  # their means differ by rounding
    assert (changed - views.fields["view"]).abs().max() > 0.05


def test_a_step_has_masks_over_its_images() -> None:
    image = torch.randint(0, 256, (40, 1, 4, 4), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    images = InMemory(image, mask=image[:, 0])

    for batch in Feed(Material(images, Plain(), Flip()), {}, seed=0, batch=8).steps(0, 3):
        assert batch.image is not None and batch.mask is not None and batch.index is not None
        assert torch.equal(((batch.image[:, 0] + 1) * 127.5).round().long(), batch.mask)
        assert not torch.equal(batch.mask, image[batch.index, 0].long())


class Scene(Images):
    """Images with their depth, the void of which is 0, their regions and a caption."""

    def __init__(self) -> None:
        self.image = torch.rand(24, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def __len__(self) -> int:
        return len(self.image)

    def read(self, indices: Tensor) -> Batch:
        image = self.image[indices]
        caption = indices[:, None] * torch.arange(1, 5)
        return Batch(
            image=image, depth=image.mean(1, keepdim=True), parts=regions(image), caption=caption, index=indices
        )

    def fingerprint(self) -> str:
        return "scene"


def regions(image: Tensor) -> Tensor:
    """Return the number of the region of each pixel (N, H, W), from 1 to 4."""
    return (image[:, 0] * 2 + 3).long()


SCENE = {"depth": Kind("bilinear"), "parts": Kind("nearest", void=0), "caption": Kind()}


def test_what_a_data_set_brings_moves_by_its_kind() -> None:
    given = Feed(Material(Scene(), Plain(), Flip(), kinds=SCENE), {}, seed=0, batch=8)
    mirrored = 0
    for batch in given.steps(0, 3):
        assert batch.image is not None and batch.index is not None
        assert torch.equal(batch.depth, batch.image.mean(1, keepdim=True))  # type: ignore[arg-type]
        assert torch.equal(batch.parts, regions(batch.image))  # type: ignore[arg-type]
        assert torch.equal(batch.caption, batch.index[:, None] * torch.arange(1, 5))  # type: ignore[arg-type]
        mirrored += int((batch.image != Scene().image[batch.index]).flatten(1).any(1).sum())
    assert 0 < mirrored < 24


def test_what_comes_in_from_outside_is_the_void_of_the_kind() -> None:
    batch, away = Scene().read(torch.arange(2)), {"crop": torch.tensor([[0, 2], [2, 4]])}  # two right, two up
    moved = augmented(batch, Crop(2, padding="zeros"), away, {**KINDS, **SCENE})
    assert batch.parts is not None and moved.parts is not None and moved.depth is not None
    assert torch.equal(moved.parts[0, :, 2:], batch.parts[0, :, :4]) and (moved.parts[0, :, :2] == 0).all()
    assert torch.equal(moved.parts[1, :4], batch.parts[1, 2:]) and (moved.parts[1, 4:] == 0).all()
    assert (moved.depth[0, :, :, :2] == 0).all() and (batch.parts > 0).all()


def test_a_field_of_no_kind_is_refused() -> None:
    """Left where it is, it would belong to another image."""
    with pytest.raises(DataError, match=r"augmentation: expected a kind of `depth`, found none; add it to the data's"):
        next(Feed(Material(Scene(), Plain(), Flip()), {}, seed=0, batch=8).steps(0, 1))
    assert next(Feed(Material(Scene(), Plain()), {}, seed=0, batch=8).steps(0, 1)).depth is not None


def test_processes_that_make_batches_ahead_change_nothing() -> None:
    images = toy_images(40)
    expected, found = list(feed(images).steps(2, 9)), list(feed(images, workers=2).steps(2, 9))
    assert len(found) == 7
    for a, b in zip(expected, found, strict=True):
        assert not differences(plain(a), plain(b))


def test_processes_make_batches_ahead_where_that_helps() -> None:
    memory, files = toy_images(), Streamed(toy_images().image)
    assert workers_for(3, memory, "cpu") == workers_for(3, files, "cuda") == 3
    assert workers_for(0, files, "cuda") == workers_for(None, memory, "cpu") == 0
    assert workers_for(None, files, "cpu") >= 1 and workers_for(None, memory, "cuda") >= 1
    assert workers_for(None, files, "cpu", processes=1000) == 1


def test_the_part_of_the_time_that_is_waited_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def slow() -> Iterator[Batch]:
        nonlocal now
        for _ in range(5):
            now += 3
            yield Batch(index=torch.arange(2))

    waiting = Waiting(slow())
    for _ in waiting:
        now += 1
    assert waiting.share == 15 / 20 and waiting.whole == 20
    assert Waiting([]).share == 0

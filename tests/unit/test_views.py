"""views.py: the views of an image are the same for every seed, and as many as are asked for."""

from __future__ import annotations

import torch
from toys import toy_images

from limbeck.data.augmentations.augmentation import AugmentationSequence, Flip
from limbeck.data.augmentations.warp import Rotation
from limbeck.data.base import InMemory
from limbeck.tasks.classification import Classification
from limbeck.training.feed import Feed, Material
from limbeck.training.views import Views
from limbeck.types import Draw


def material(views: int | None) -> Material:
    images = InMemory(toy_images(12).image, torch.zeros(12, dtype=torch.int64))
    return Material(images, Classification(), AugmentationSequence([Flip(), Rotation(30)]), views=views)


def seen(views: int | None, seed: int, epochs: int) -> list[dict[int, torch.Tensor]]:
    """Return each epoch's images by their index, of 12 images in batches of 4."""
    feed = Feed(material(views), {}, seed=seed, batch=4)
    found: list[dict[int, torch.Tensor]] = [{} for _ in range(epochs)]
    for step, batch in enumerate(feed.steps(0, 3 * epochs)):
        assert batch.index is not None and batch.image is not None
        found[step // 3] |= dict(zip(batch.index.tolist(), batch.image, strict=True))
    return found


def same(one: dict[int, torch.Tensor], other: dict[int, torch.Tensor]) -> int:
    assert one.keys() == other.keys()
    return sum(torch.equal(image, other[index]) for index, image in one.items())


def test_epochs_go_through_the_views_again_and_again() -> None:
    first, second, third, fourth = seen(2, 0, 4)
    assert same(first, third) == same(second, fourth) == 12 and same(first, second) == 0


def test_seeds_share_views_and_not_their_order() -> None:
    assert [same(one, other) for one, other in zip(seen(2, 0, 2), seen(2, 1, 2), strict=True)] == [12, 12]
    assert [same(one, other) for one, other in zip(seen(None, 0, 2), seen(None, 1, 2), strict=True)] == [0, 0]
    order = [list(seen(2, seed, 1)[0]) for seed in (0, 1)]
    assert order[0] != order[1]


def test_what_is_stored_for_a_view_is_what_a_training_sees() -> None:
    epochs = seen(3, 5, 3)
    for view in range(3):
        stored = material(3).seen(torch.arange(12), torch.full((12,), view)).image
        assert stored is not None and same(epochs[view], dict(enumerate(stored))) == 12


def test_a_batch_over_two_epochs_has_the_views_of_both() -> None:
    views = Views({"one": Draw((2,)), "all": Draw((), "uniform", once=True)}, 5)
    index, view = torch.tensor([4, 0, 2]), torch.tensor([1, 1, 2])
    mixed = views.drawn(index, view)
    for place in range(3):
        alone = views.drawn(index[place : place + 1], view[place : place + 1])
        assert all(torch.equal(mixed[name][place], alone[name][0]) for name in mixed)

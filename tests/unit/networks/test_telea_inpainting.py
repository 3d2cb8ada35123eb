"""networks/telea_inpainting.py: distances, one pixel by hand, ramps, and a photograph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from limbeck.baselines.restoration.telea_inpainting import TeleaInpainting, _times
from limbeck.data.degradations.holes import Holes
from limbeck.data.embedded_photos import EmbeddedPhotos


def holed(image: Tensor, rows: slice = slice(3, 9), columns: slice = slice(4, 12)) -> Tensor:
    hole = torch.full_like(image[:, :1], -1.0)
    hole[..., rows, columns] = 1
    return torch.cat([torch.where(hole > 0, 0.0, image), hole], 1)


def ramp(rows: int = 14, columns: int = 17) -> Tensor:
    down, right = (torch.arange(count, dtype=torch.float64) for count in (rows, columns))
    return (0.07 * down[:, None] + 0.05 * right - 0.8)[None, None]


@pytest.mark.parametrize("image", [torch.full((1, 1, 14, 17), 0.3, dtype=torch.float64), ramp()])
@pytest.mark.parametrize("radius", [1, 3, 5])
def test_constant_images_and_ramps_are_continued(image: Tensor, radius: int) -> None:
    torch.testing.assert_close(TeleaInpainting(1, radius)(holed(image)), image, rtol=0, atol=1e-12)
    corner = holed(image, slice(0, 4), slice(12, 17))  # a hole at the edge of the image, known on two sides alone
    torch.testing.assert_close(TeleaInpainting(1, radius)(corner), image, rtol=0, atol=1e-12)


def test_one_missing_pixel_by_hand() -> None:
    """Its four neighbours are equally far in every sense; 5 pixels a side, so slopes are those of one side."""
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    cross = [[0.0, 0.1, 0.0], [0.4, 0.0, 0.2], [0.0, 0.3, 0.0]]
    image[0, 0, 1:4, 1:4] = torch.tensor(cross, dtype=torch.float64)
    # T is alike on all sides of the middle, so its central difference there is 0, and all weights are the same.
    # Along the way to the middle the slope at a neighbour is known from behind alone, where the image is 0.
    values = [0.1, 0.4, 0.2, 0.3]
    expected = sum(value + (value - 0.0) for value in values) / 4
    found = TeleaInpainting(1, radius=1)(holed(image, slice(2, 3), slice(2, 3)))
    assert float(found[0, 0, 2, 2]) == pytest.approx(expected, abs=1e-12)


def test_times_are_distances_from_the_border() -> None:
    rows, columns = np.mgrid[:41, :41] - 20
    hole = np.hypot(rows, columns) < 15.3
    time, order = _times(hole, 6)
    exact = distance_transform_edt(hole)
    assert np.abs(time - exact)[hole].max() < 0.7  # first order, and exact along the axes
    assert time[20, 20] == pytest.approx(exact[20, 20], abs=0.7)
    assert len(order) == hole.sum() and all(hole[place] for place in order)
    times = [time[place] for place in order]
    assert times == sorted(times) and times[0] > 0
    assert (time[~hole] <= 0).all() and time[~hole].min() == -6
    half = np.zeros((6, 30), dtype=bool)
    half[:, 10:] = True
    assert np.array_equal(_times(half, 3)[0][0], np.maximum(np.arange(30) - 9.0, -3))


def test_known_pixels_stay_and_what_is_in_the_hole_does_not_matter() -> None:
    draw = torch.Generator().manual_seed(0)
    image = holed(torch.rand(1, 2, 16, 16, generator=draw) - 0.5)
    other = image.clone()
    other[:, :2] = torch.where(image[:, 2:] > 0, 0.9, image[:, :2])
    found = TeleaInpainting(2)(image)
    known = (image[:, 2:] < 0).expand(-1, 2, -1, -1)
    assert torch.equal(found[known], image[:, :2][known])
    assert torch.equal(TeleaInpainting(2)(other), found)


def test_without_holes_nothing_changes_and_without_anything_else_it_is_grey() -> None:
    image = torch.rand(1, 1, 6, 7) - 0.5
    assert torch.equal(TeleaInpainting(1)(torch.cat([image, torch.full_like(image, -1)], 1)), image)
    assert TeleaInpainting(1)(torch.cat([image, torch.ones_like(image)], 1)).abs().max() == 0
    line = TeleaInpainting(1)(torch.tensor([[[[0.5, 0.0, 0.5]], [[-1.0, 1.0, -1.0]]]]))
    torch.testing.assert_close(line, torch.full((1, 1, 1, 3), 0.5))


@pytest.mark.parametrize("kind", ["box", "strokes"])
def test_it_beats_the_mean_on_photographs(kind: str) -> None:
    images = EmbeddedPhotos(size=48, stride=48).split("test")
    truth = images.read(torch.arange(0, len(images), max(1, len(images) // 4))[:4]).image
    assert truth is not None
    degraded = Holes(kind, 0.1)(truth, torch.arange(len(truth)))
    hole = degraded[:, -1:] > 0
    mean = (truth * ~hole).sum((2, 3), keepdim=True) / (~hole).sum((2, 3), keepdim=True)
    errors = [float((((made - truth) * hole) ** 2).mean()) for made in (TeleaInpainting()(degraded), mean)]
    assert errors[0] < errors[1] / 2

"""Metrics of segmentation: masks worked out by hand, independent loops and distances, void, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from limbeck.errors import DataError
from limbeck.metrics.segmentation import (
    boundary_f1,
    class_iou,
    dilated,
    edge_f1,
    mask_boundaries,
    mean_iou,
    pixel_accuracy,
    pixel_confusion,
)
from limbeck.types import VOID

K = 4


def masks(seed: int, size: tuple[int, int] = (24, 31), count: int = 3) -> tuple[Tensor, Tensor]:
    """Return a blocky true mask with void in it, and a prediction that is mostly right."""
    draw = torch.Generator().manual_seed(seed)
    blocks = torch.randint(K + 1, (count, -(-size[0] // 6), -(-size[1] // 6)), generator=draw)
    truth = blocks.repeat_interleave(6, 1).repeat_interleave(6, 2)[:, : size[0], : size[1]].clone()
    truth[truth == K] = VOID
    other = torch.randint(K, truth.shape, generator=draw)
    wrong = torch.rand(truth.shape, generator=draw) < 0.1
    moved = truth.roll((1, 2), (1, 2))
    return torch.where(wrong | (moved == VOID), other, moved), truth


def mask(*rows: str) -> Tensor:
    """Return (1, H, W) from rows of digits; "." is void."""
    return torch.tensor([[[VOID if c == "." else int(c) for c in row] for row in rows]])


# Areas.


def test_areas_by_hand() -> None:
    """Twelve pixels, one of them void: of class 0 four of five are right, of 1 two of four, of 2 none of two.

    Class 0 is predicted six times (four right), class 1 three times (two right), class 2 twice (never right); IoU
    4 / (5 + 6 - 4), 2 / (4 + 3 - 2), 0 / (2 + 2 - 0). Class 3 is nowhere.
    """
    truth = mask("0000", "0111", "122.")
    predicted = mask("0000", "2110", "2010")
    confusion = pixel_confusion(predicted, truth, 4)
    assert confusion.tolist() == [[4, 0, 1, 0], [1, 2, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    expected = torch.tensor([4 / 7, 2 / 5, 0, math.nan], dtype=torch.float64)
    torch.testing.assert_close(class_iou(confusion), expected, equal_nan=True)
    assert mean_iou(confusion) == pytest.approx((4 / 7 + 2 / 5 + 0) / 3)  # class 3 does not count
    assert pixel_accuracy(confusion) == pytest.approx(6 / 11)


@pytest.mark.parametrize("seed", range(3))
def test_confusion_and_iou_are_those_of_a_loop_over_pixels(seed: int) -> None:
    predicted, truth = masks(seed)
    counts = np.zeros((K, K), dtype=int)
    for p, t in zip(predicted.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if t != VOID:
            counts[t, p] += 1
    confusion = pixel_confusion(predicted, truth, K)
    assert confusion.tolist() == counts.tolist() and confusion.dtype == torch.int64
    p, t = predicted.numpy(), truth.numpy()
    known = t != VOID
    overlap = [((p == k) & (t == k) & known).sum() / (((p == k) | (t == k)) & known).sum() for k in range(K)]
    np.testing.assert_allclose(class_iou(confusion).numpy(), overlap, rtol=1e-12)
    assert mean_iou(confusion) == pytest.approx(np.mean(overlap))
    assert pixel_accuracy(confusion) == pytest.approx((p == t)[known].mean())


def test_confusions_of_batches_add_up() -> None:
    predicted, truth = masks(0)
    parts = [pixel_confusion(predicted[i : i + 1], truth[i : i + 1], K) for i in range(3)]
    assert torch.equal(sum(parts, torch.zeros(K, K, dtype=torch.int64)), pixel_confusion(predicted, truth, K))


def test_a_class_that_was_only_predicted_counts_and_nothing_is_nan() -> None:
    confusion = pixel_confusion(mask("0012"), mask("0000"), 4)
    torch.testing.assert_close(
        class_iou(confusion), torch.tensor([0.5, 0, 0, math.nan], dtype=torch.float64), equal_nan=True
    )
    assert mean_iou(confusion) == pytest.approx(0.5 / 3)
    nothing = pixel_confusion(mask("0012"), mask("...."), 4)
    assert nothing.sum() == 0 and math.isnan(mean_iou(nothing)) and math.isnan(pixel_accuracy(nothing))


# Borders.


def test_borders_by_hand() -> None:
    """Both sides of a border, none at the edge of the image, none against void."""
    found = mask_boundaries(mask("0001", "0001", "0.22", "0.22"))
    assert found[0].int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert not mask_boundaries(mask("000", "000")).any() and not mask_boundaries(mask("0.1")).any()


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2, math.sqrt(5), 3, 6.2])
def test_what_is_near_is_what_the_euclidean_distance_says(radius: float) -> None:
    draw = torch.Generator().manual_seed(0)
    area = torch.rand(3, 17, 23, generator=draw) < 0.02
    found = dilated(area, radius)
    for ours, true in zip(found.numpy(), area.numpy(), strict=True):
        assert true.any()
        assert np.array_equal(ours, distance_transform_edt(~true) <= radius + 1e-9)
    assert torch.equal(dilated(torch.zeros(1, 4, 5, dtype=torch.bool), radius), torch.zeros(1, 4, 5).bool())


def reference(found: np.ndarray, true: np.ndarray, unsure: np.ndarray, reach: float) -> float:
    """F1 of the borders of one image, from distances."""
    if not (found.any() or true.any()):
        return math.nan
    to_true = distance_transform_edt(~true) if true.any() else np.full(true.shape, np.inf)
    to_found = distance_transform_edt(~found) if found.any() else np.full(true.shape, np.inf)
    right = found & (to_true <= reach)
    counted = right | (found & ~unsure)
    if not (counted.any() or true.any()):
        return math.nan
    if not counted.any() or not true.any():
        return 0.0
    precision, recall = right.sum() / counted.sum(), (to_found[true] <= reach).mean()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def borders(mask: np.ndarray) -> np.ndarray:
    """Borders of one mask, pixel by pixel."""
    height, width = mask.shape
    found = np.zeros(mask.shape, dtype=bool)
    for y in range(height):
        for x in range(width):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and VOID not in (mask[y, x], mask[v, u]):
                    found[y, x] |= mask[y, x] != mask[v, u]
    return found


@pytest.mark.parametrize("tolerance", [1, 2.5])
@pytest.mark.parametrize("seed", range(2))
def test_boundary_f1_is_that_of_distances(seed: int, tolerance: float) -> None:
    predicted, truth = masks(seed)
    scores, edges = boundary_f1(predicted, truth, tolerance), edge_f1(predicted % 2 == 1, truth, tolerance)
    assert scores.shape == edges.shape == (3,) and scores.dtype == torch.float64
    for i in range(3):
        t = truth[i].numpy()
        p = np.where(t == VOID, VOID, predicted[i].numpy())
        unsure = distance_transform_edt(t != VOID) <= tolerance
        found, true = borders(p), borders(t)
        assert np.array_equal(mask_boundaries(truth)[i].numpy(), true)
        each = [reference(found & (p == k), true & (t == k), unsure, tolerance) for k in range(K)]
        assert float(scores[i]) == pytest.approx(np.nanmean(each), abs=1e-12) and 0 < scores[i] < 1
        expected = reference((p % 2 == 1) & (t != VOID), true, unsure, tolerance)
        assert float(edges[i]) == pytest.approx(expected, abs=1e-12)


def test_a_shift_within_the_tolerance_is_right_and_beyond_it_wrong() -> None:
    """A vertical border that is two pixels off: every pixel of it is at most 2 (and at least 1) from the true one."""
    truth = mask(*["00000111111"] * 5)
    predicted = mask(*["00000001111"] * 5)
    # Class 0: true border in column 4, predicted in 6. Class 1: true in 5, predicted in 7. Both are 2 apart.
    assert boundary_f1(predicted, truth, 2).tolist() == [1.0]
    assert boundary_f1(predicted, truth, 1.9).tolist() == [0.0]
    assert boundary_f1(truth, truth, 0).tolist() == [1.0]


def test_boundary_f1_by_hand() -> None:
    """One row: the truth is 000111, predicted 000121, tolerance 0.

    Class 0: border at 2 in both: 1. Class 1: true at 3; predicted at 3 and 5 (beside the 2): precision 1/2, recall 1,
    F1 2/3. Class 2: predicted at 4 alone: 0. Mean over three classes: 5/9. A class more or less elsewhere in the batch
    changes nothing.
    """
    predicted, truth = mask("000121"), mask("000111")
    assert float(boundary_f1(predicted, truth, 0)) == pytest.approx(5 / 9)
    both = boundary_f1(torch.cat([predicted, mask("333300")]), torch.cat([truth, mask("333300")]), 0)
    assert both.tolist() == pytest.approx([5 / 9, 1.0])


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    """Of 240x180 the diagonal is 300, 0.75 % of it 2.25: three pixels. Of a small image it is one."""
    truth = torch.zeros(1, 180, 240, dtype=torch.int64)
    truth[..., 100:] = 1
    for shift, score in ((3, 1.0), (4, 0.0)):
        assert boundary_f1(truth.roll(shift, 2)[..., 10:], truth[..., 10:], None).tolist() == [score]
    small = mask("00011", "00011")
    assert boundary_f1(mask("00111", "00111"), small).tolist() == [1.0]
    assert boundary_f1(mask("01111", "01111"), small).tolist() == [0.0]


def test_borders_against_void_and_predictions_in_void_do_not_count() -> None:
    truth = mask("000.....111", "000.....111")
    assert math.isnan(boundary_f1(mask("00000011111", "00000011111"), truth, 1))  # no border that anybody knows of
    assert math.isnan(edge_f1(torch.tensor([[[0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]] * 2]).bool(), truth, 1))
    assert edge_f1(torch.tensor([[[1] + [0] * 10] * 2]).bool(), truth, 1).tolist() == [0.0]  # two pixels from void
    # A border of classes 0 and 1 that is known: what is predicted inside the void beside it changes nothing.
    truth, filled = mask("00011....", "00011...."), mask("000110101", "000111010")
    assert boundary_f1(filled, truth, 0).tolist() == [1.0]


def test_images_without_any_border() -> None:
    plain = mask("0000", "0000")
    assert math.isnan(boundary_f1(plain, plain)) and math.isnan(edge_f1(torch.zeros(1, 2, 4).bool(), plain))
    assert boundary_f1(mask("0011", "0011"), plain).tolist() == [0.0]
    assert edge_f1(torch.ones(1, 2, 4).bool(), plain).tolist() == [0.0]
    assert math.isnan(boundary_f1(plain, mask("....", "....")))


def test_thin_edges_on_either_side_find_all_of_a_border() -> None:
    truth = mask(*["000111"] * 4)
    thin = torch.zeros(1, 4, 6, dtype=torch.bool)
    thin[..., 3] = True
    assert edge_f1(thin, truth, 1).tolist() == [1.0]
    assert edge_f1(thin, truth, 0).tolist() == pytest.approx([2 / 3])  # precision 1, recall 1/2
    assert edge_f1(mask_boundaries(truth), truth, 0).tolist() == [1.0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pixel_confusion(mask("01"), mask("012"), 3), r"two equal shapes \(N, H, W\), found \(1, 1, 2\) and"),
        (
            lambda: pixel_confusion(mask("03"), mask("01"), 3),
            "predicted masks: expected classes 0..2 or 255 .*found 0..3",
        ),
        (lambda: pixel_confusion(mask("01"), mask("04"), 3), "true masks: expected classes 0..2 or 255 .*found 0..4"),
        (lambda: pixel_confusion(mask("0."), mask("01"), 3), "predicted masks: expected .*found 0..255"),
        (lambda: boundary_f1(mask("01")[0], mask("01")[0]), r"two equal shapes \(N, H, W\)"),
        (lambda: boundary_f1(mask("01"), mask("01"), -1), "tolerance: expected a distance of at least 0 .*found -1"),
        (lambda: edge_f1(mask("01").bool(), mask("01"), math.nan), "tolerance: expected .*found nan"),
        (lambda: mask_boundaries(torch.zeros(2, 2)), r"mask_boundaries: expected masks \(N, H, W\), found \(2, 2\)"),
    ],
)
def test_bad_input_is_one_line(call: Callable[[], object], says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)

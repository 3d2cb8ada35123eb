"""How good the classes of pixels are, over areas and along borders: pure functions of masks.

A mask is (N, H, W), the class of each pixel. Where the true mask is void (`types.VOID`) nothing is known, and nothing
counts: neither the pixel, nor a border against it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import DataError
from limbeck.types import VOID

SHARE = 0.0075  # of the image's diagonal, by which a border may be off (Csurka et al. 2013, section 4)


def pixel_confusion(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return how many pixels of each class (row) are taken for each class (column): (K, K), int64, on the CPU.

    Those of several batches add up.

    Args:
        predicted: (N, H, W), int64 class numbers.
        truth: (N, H, W), int64 class numbers, or void; a pixel that is void does not count.
        classes: Number of classes K.

    Raises:
        DataError: The masks differ in shape, or hold a class that there is not.
    """
    _check(predicted, truth)
    known = truth != VOID
    found, true = predicted[known].long(), truth[known].long()
    for name, values in (("predicted", found), ("true", true)):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise DataError(
                f"{name} masks: expected classes 0..{classes - 1} or {VOID} for void, found"
                f" {int(values.min())}..{int(values.max())}"
            )
    return torch.bincount(true * classes + found, minlength=classes**2).view(classes, classes).cpu()


def class_iou(confusion: Tensor) -> Tensor:
    """Return intersection over union of each class, right / (right + missed + wrong): (K,), float64, in [0, 1].

    The Jaccard index over the pixels of all images together (Everingham et al. 2010, section 4.1.2). NaN for a class
    that occurs neither in the truth nor in what was predicted.

    Args:
        confusion: (K, K), a `pixel_confusion`.
    """
    right = confusion.diagonal().double()
    return right / (confusion.sum(0) + confusion.sum(1) - right)


def mean_iou(confusion: Tensor) -> float:
    """Return the mean of `class_iou` over the classes that occur in the truth or in what was predicted, in [0, 1].

    A class that only was predicted counts, with 0. NaN where no pixel counts.

    Args:
        confusion: (K, K), a `pixel_confusion`.
    """
    return float(class_iou(confusion).nanmean())


def pixel_accuracy(confusion: Tensor) -> float:
    """Return the share of pixels whose class is right, in [0, 1]; NaN where no pixel counts.

    Args:
        confusion: (K, K), a `pixel_confusion`.
    """
    return float(confusion.trace().double() / confusion.sum())


def mask_boundaries(mask: Tensor) -> Tensor:
    """Return the pixels that lie at a border: (N, H, W), bool.

    One of the four pixels beside them has another class, and neither is void. So a border is two pixels wide, one on
    either side; it does not run along the image's own edge, nor against void.

    Args:
        mask: (N, H, W), class numbers or void.
    """
    if mask.ndim != 3:
        raise DataError(f"mask_boundaries: expected masks (N, H, W), found {tuple(mask.shape)}")
    border = torch.zeros_like(mask, dtype=torch.bool)
    for axis in (1, 2):
        length = mask.shape[axis] - 1
        before, after = mask.narrow(axis, 0, length), mask.narrow(axis, 1, length)
        differs = (before != after) & (before != VOID) & (after != VOID)
        border.narrow(axis, 0, length).logical_or_(differs)
        border.narrow(axis, 1, length).logical_or_(differs)
    return border


def boundary_f1(predicted: Tensor, truth: Tensor, tolerance: float | None = None) -> Tensor:
    """Return how well the borders of the classes agree: (N,), float64, in [0, 1] (Csurka et al. 2013, section 3.2).

    For each class c of an image, precision is the share of the predicted border of c (its own pixels among
    `mask_boundaries`) that has true border of c within the tolerance, recall the share of the true border that has
    predicted one there, and F1 their harmonic mean. An image has the mean over the classes in either mask. A class
    without a border in both is left out; an image without any is NaN.

    What is predicted where the truth is void does not count. Nor is a predicted border wrong that lies within the
    tolerance of void: the true one may be there, and nobody said.

    Args:
        predicted: (N, H, W), class numbers.
        truth: (N, H, W), class numbers or void.
        tolerance: Distance between the centres of pixels, at most (the paper has: below); None for 0.75 % of the
            image's diagonal, rounded up to whole pixels.

    Raises:
        DataError: The masks differ in shape, or the tolerance is below 0.
    """
    _check(predicted, truth)
    reach = _reach(truth, tolerance)
    void = truth == VOID
    predicted = predicted.masked_fill(void, VOID)
    found, true, unsure = mask_boundaries(predicted), mask_boundaries(truth), dilated(void, reach)
    present = torch.cat([predicted, truth]).unique()  # type: ignore[no-untyped-call]
    scores = [_f1(found & (predicted == c), true & (truth == c), unsure, reach) for c in present.tolist() if c != VOID]
    return torch.stack(scores).nanmean(0) if scores else _nothing(truth)


def edge_f1(edges: Tensor, truth: Tensor, tolerance: float | None = None) -> Tensor:
    """Return how well edges, of whatever, agree with the borders between classes: (N,), float64, in [0, 1].

    As `boundary_f1` with all classes as one: precision is the share of the edge's pixels that have a border of the true
    mask within the tolerance, recall the share of the border's pixels that have an edge there. Edges in void do not
    count, nor do those within the tolerance of void that no border is near. NaN for an image with neither.

    Both sides of a border count as border, so an edge one pixel wide finds all of it from a tolerance of 1 on.

    Args:
        edges: (N, H, W), bool.
        truth: (N, H, W), class numbers or void.
        tolerance: As in `boundary_f1`.

    Raises:
        DataError: The shapes differ, or the tolerance is below 0.
    """
    _check(edges, truth)
    reach = _reach(truth, tolerance)
    void = truth == VOID
    return _f1((edges != 0) & ~void, mask_boundaries(truth), dilated(void, reach), reach)


def dilated(area: Tensor, radius: float) -> Tensor:
    """Return the pixels that have a pixel of `area` within a distance of `radius`: (N, H, W), bool.

    Args:
        area: (N, H, W), bool.
        radius: Distance between the centres of pixels, at least 0.
    """
    reach = math.floor(radius)
    offset = torch.arange(-reach, reach + 1, device=area.device)
    disc = (offset[:, None].square() + offset.square() <= radius**2 + 1e-9).float()
    counted = F.conv2d(area[:, None].float(), disc[None, None], padding=reach)[:, 0]
    return counted > 0.5  # of whole numbers, whatever the precision of the sum


def _f1(found: Tensor, true: Tensor, unsure: Tensor, reach: float) -> Tensor:
    """Return the F1 of borders (N, H, W) in each image (N,); NaN where there are none on both sides."""
    right = found & dilated(true, reach)
    counted = right | (found & ~unsure)
    recalled = true & dilated(found, reach)
    precision, recall = _share(right, counted), _share(recalled, true)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-300)
    empty = ~(counted.flatten(1).any(1) | true.flatten(1).any(1))
    return f1.masked_fill(empty, math.nan)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return the share of pixels in each image (N,); 0 of none."""
    counts = whole.flatten(1).sum(1).double()
    return part.flatten(1).sum(1).double() / counts.clamp(min=1)


def _reach(truth: Tensor, tolerance: float | None) -> float:
    if tolerance is None:
        return math.ceil(SHARE * math.hypot(*truth.shape[1:]))
    if not 0 <= tolerance < math.inf:
        raise DataError(f"tolerance: expected a distance of at least 0 pixels, found {tolerance}")
    return tolerance


def _nothing(truth: Tensor) -> Tensor:
    return torch.full((len(truth),), math.nan, dtype=torch.float64, device=truth.device)


def _check(found: Tensor, truth: Tensor) -> None:
    if found.shape != truth.shape or truth.ndim != 3:
        raise DataError(
            f"masks: expected two equal shapes (N, H, W), found {tuple(found.shape)} and {tuple(truth.shape)}"
        )

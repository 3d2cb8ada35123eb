"""Losses of segmentation against NumPy and SciPy, written from the papers' formulas pixel by pixel in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from scipy.special import log_softmax
from torch import Tensor

from limbeck.losses.cirkd import cross_image
from limbeck.losses.cirkd_memory import relations
from limbeck.losses.feature_affinity import feature_affinity
from limbeck.losses.gather import masked_mean
from limbeck.losses.ifvd import ifvd, variation
from limbeck.losses.pairwise_structure import pairwise_structure
from limbeck.losses.segmentation import boundary_weights, pixel_cross_entropy, weighted_kl
from limbeck.losses.tensors import place_cosines
from limbeck.types import VOID

Array = np.ndarray[Any, Any]
DRAW = np.random.default_rng(0)
N, C, K, H, W = 3, 4, 5, 5, 7
MAP, WIDE = DRAW.normal(size=(N, C, H, W)), DRAW.normal(0.5, 2, size=(N, 6, H, W))
LOGITS, GOAL = DRAW.normal(0, 2, size=(N, K, H, W)), DRAW.normal(0, 3, size=(N, K, H, W))
MASK = DRAW.integers(0, K, size=(N, H, W))
MASK[0, :2] = MASK[1, :, 3] = VOID
LARGE = MASK.repeat(2, 1).repeat(3, 2)  # the same classes for maps of half the height and a third of the width
WEIGHT = DRAW.uniform(size=(N, H, W)) * (DRAW.uniform(size=(N, H, W)) < 0.7)
CLASS_WEIGHT = np.array([0.5, 2.0, 0.0, 1.0, 3.0])
ROW, FAR, MEMORY = DRAW.normal(size=(6, 4)), DRAW.normal(0.5, 2, size=(6, 4)), DRAW.normal(size=(9, 4))
MEMORY /= np.linalg.norm(MEMORY, axis=1, keepdims=True)
PLACES = list(product(range(H), range(W)))


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))


def kl(teacher: Array, student: Array) -> float:
    log_p, log_q = log_softmax(teacher), log_softmax(student)
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def cross_entropy_reference(logits: Array, mask: Array, weights: Array) -> float:
    total, amount = 0.0, 0.0
    for n, (i, j) in product(range(N), PLACES):
        if (label := mask[n, i, j]) != VOID:
            total -= weights[label] * log_softmax(logits[n, :, i, j])[label]
            amount += weights[label]
    return total / amount


def weighted_kl_reference(student: Array, teacher: Array, weight: Array, temperature: float) -> Array:
    result = np.zeros(N)
    for n, (i, j) in product(range(N), PLACES):
        apart = kl(teacher[n, :, i, j] / temperature, student[n, :, i, j] / temperature)
        result[n] += temperature**2 * weight[n, i, j] * apart / weight[n].sum()
    return result


def affinity_reference(features: Array, height: int, width: int) -> Array:
    """Cosines of nodes, each the maximum of every channel over a rectangle."""
    found = []
    for image in features:
        rows, columns = range(0, image.shape[1], height), range(0, image.shape[2], width)
        nodes = [image[:, i : i + height, j : j + width].max((1, 2)) for i, j in product(rows, columns)]
        found.append([[cosine(a, b) for b in nodes] for a in nodes])
    return np.array(found)


def structure_reference(student: Array, teacher: Array, pool: float) -> Array:
    mine, goal = (affinity_reference(f, int(H * pool) or 1, int(W * pool) or 1) for f in (student, teacher))
    return np.asarray(((mine - goal) ** 2).mean((1, 2)))


def affinity_gap(student: Array, teacher: Array) -> Array:
    mine, goal = (affinity_reference(f, 1, 1) for f in (student, teacher))
    return np.asarray(np.abs(mine - goal).mean((1, 2)))


def variation_reference(features: Array, mask: Array) -> Array:
    result = np.zeros((N, H, W))
    for n, (i, j) in product(range(N), PLACES):
        if mask[n, i, j] != VOID:
            of_class = [features[n, :, k, m] for k, m in PLACES if mask[n, k, m] == mask[n, i, j]]
            result[n, i, j] = cosine(features[n, :, i, j], np.mean(of_class, 0))
    return result


def ifvd_reference(student: Array, teacher: Array, mask: Array) -> float:
    small = mask[:, :: mask.shape[1] // H, :: mask.shape[2] // W]
    gap = variation_reference(student, small) - variation_reference(teacher, small)
    return float((gap[small != VOID] ** 2).mean())


def cross_image_reference(student: Array, teacher: Array, temperature: float, images: slice = slice(None)) -> Array:
    def pixels(features: Array) -> list[list[Array]]:
        return [[image[:, i, j] / np.linalg.norm(image[:, i, j]) for i, j in PLACES] for image in features]

    mine, goal, result = pixels(student), pixels(teacher), np.zeros(N)
    for i, j, a in product(range(N), range(N), range(len(PLACES))):
        rows = [np.array([f[i][a] @ other for other in f[j]]) / temperature for f in (goal, mine)]
        result[i] += kl(*rows) / N / len(PLACES)
    return result[images]


def relations_reference(student: Array, teacher: Array, memory: Array, temperature: float) -> Array:
    def row(pixel: Array) -> Array:
        return np.array([pixel @ v / np.linalg.norm(pixel) for v in memory]) / temperature

    return np.array([kl(row(t), row(s)) for s, t in zip(student, teacher, strict=True)])


Case = tuple[Callable[..., Tensor], Callable[..., Any], tuple[Any, ...]]
CASES: dict[str, Case] = {
    "pixel cross-entropy": (
        pixel_cross_entropy, lambda s, y: cross_entropy_reference(s, y, np.ones(K)), (LOGITS, MASK)
    ),
    "pixel cross-entropy, weighted": (pixel_cross_entropy, cross_entropy_reference, (LOGITS, MASK, CLASS_WEIGHT)),
    "weighted kl": (weighted_kl, weighted_kl_reference, (LOGITS, GOAL, WEIGHT, 1.0)),
    "weighted kl, T = 4": (weighted_kl, weighted_kl_reference, (LOGITS, GOAL, WEIGHT, 4.0)),
    "masked mean": (masked_mean, lambda v, m: v[m].mean(), (LOGITS, GOAL > 1)),
    "place cosines": (place_cosines, lambda f: affinity_reference(f, 1, 1), (MAP,)),
    "feature affinity": (feature_affinity, affinity_gap, (MAP, WIDE)),
    "pairwise structure": (pairwise_structure, structure_reference, (MAP, WIDE, 0.5)),
    "pairwise structure of places": (pairwise_structure, structure_reference, (MAP, WIDE, 0.1)),
    "variation": (variation, variation_reference, (MAP, MASK)),
    "ifvd": (ifvd, ifvd_reference, (MAP, WIDE, MASK)),
    "ifvd, larger masks": (ifvd, ifvd_reference, (MAP, WIDE, LARGE)),
    "cross-image": (cross_image, cross_image_reference, (MAP, WIDE, 0.1)),
    "cross-image, T = 1, own images": (cross_image, cross_image_reference, (MAP, WIDE, 1.0, slice(1, 3))),
    "relations to a memory": (relations, relations_reference, (ROW, FAR, MEMORY, 0.1)),
    "relations to a memory, T = 1": (relations, relations_reference, (ROW, FAR, MEMORY, 1.0)),
}  # fmt: skip
every_case = pytest.mark.parametrize(("ours", "reference", "given"), CASES.values(), ids=CASES)


def tensors(given: tuple[Any, ...]) -> list[Any]:
    return [torch.from_numpy(g.copy()) if isinstance(g, np.ndarray) else g for g in given]


@every_case
def test_values(ours: Callable[..., Tensor], reference: Callable[..., Any], given: tuple[Any, ...]) -> None:
    found, expected = ours(*tensors(given)), reference(*given)
    assert found.dtype == torch.float64
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert np.abs(expected).max() > 1e-3


@every_case
def test_gradients(ours: Callable[..., Tensor], reference: Callable[..., Any], given: tuple[Any, ...]) -> None:
    first, *rest = tensors(given)
    assert torch.autograd.gradcheck(lambda x: ours(x, *rest), (first.requires_grad_(),), fast_mode=True)


def test_weighted_cross_entropy_is_torchs() -> None:
    logits, mask, weights = tensors((LOGITS, MASK, CLASS_WEIGHT))
    expected = torch.nn.functional.cross_entropy(logits, mask, weights, ignore_index=VOID)
    torch.testing.assert_close(pixel_cross_entropy(logits, mask, weights), expected)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_borders_are_where_scipys_distance_to_another_class_is_at_most_the_width(width: int) -> None:
    blobs = DRAW.integers(0, 3, size=(4, 5, 6)).repeat(4, 1).repeat(3, 2)
    blobs[:, 5:8, 2:9] = VOID
    nearest = np.full(blobs.shape, np.inf)  # distance to the nearest pixel of another class
    for n, label in product(range(len(blobs)), range(3)):
        apart = distance_transform_edt(blobs[n] != label) if (blobs[n] == label).any() else np.inf
        others = (blobs[n] != label) & (blobs[n] != VOID)
        nearest[n] = np.where(others, np.minimum(nearest[n], apart), nearest[n])
    expected = 1 + 2.5 * (nearest <= width)
    found = boundary_weights(torch.from_numpy(blobs), width, 2.5)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == torch.float32 and 1 < found.mean() < 3.5

"""Inpainting by fast marching (Telea 2004, J. Graphics Tools 9(1)): holes are filled from their border inwards."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIDEWAYS = 1e-6  # weight of a neighbour at a right angle to the way, so that weights never add up to nothing


@final
class TeleaInpainting(Restorer):
    """Pixels are filled in the order of their distance T from the border, each from those around that are known.

    I(p) = Σ w(p, q) (I(q) + ∇I(q)·(p - q)) / Σ w(p, q) over known q nearer than `radius` (eq. 2), with
    w = |∇T(p)·(p - q)| / |p - q| · 1 / |p - q|² · 1 / (1 + |T(p) - T(q)|): the directional, distance and level set
    factors (section 2.3). T is marched inwards and outwards before the first pixel is filled, so ∇T is a central
    difference everywhere. It has no parameters, and passes no gradient.

    Args:
        channels: Channels C of the image; it takes C + 1, the last of them 1 in the holes and -1 elsewhere.
        radius: How far a pixel looks, in pixels; 3 to 10 in the paper.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, channels: int = 3, radius: int = 5) -> None:
        super().__init__()
        check_sizes(self, channels=channels, radius=radius)
        self.channels, self.inputs, self.scale = channels, channels + 1, 1
        self.radius = radius

    def forward(self, image: Tensor) -> Tensor:
        """Return filled images (N, C, H, W) in [-1, 1] of images with holes (N, C + 1, H, W)."""
        filled = [_filled(one[:-1], one[-1] > 0, self.radius) for one in image.detach().double().cpu().numpy()]
        return torch.from_numpy(np.stack(filled)).to(image).clamp(-1, 1)


def _filled(image: Floats, hole: Mask, radius: int) -> Floats:
    """Return an image (C, H, W) without its holes (H, W)."""
    time, order = _times(hole, radius)
    slope = np.stack([np.gradient(time, axis=axis) if time.shape[axis] > 1 else time * 0 for axis in (0, 1)])
    edge = radius + 1  # so that every window lies inside, and its outermost pixels have neighbours
    canvas = np.pad(np.where(hole, 0.0, image), ((0, 0), (edge, edge), (edge, edge)))
    known, time = np.pad(~hole, edge), np.pad(time, edge)
    for row, column in order:
        part = slice(row, row + 2 * edge + 1), slice(column, column + 2 * edge + 1)
        window = canvas[:, *part], known[part], time[part]
        canvas[:, row + edge, column + edge] = _value(*window, slope[:, row, column], radius)
        known[row + edge, column + edge] = True
    return canvas[:, edge:-edge, edge:-edge]


def _value(image: Floats, known: Mask, time: Floats, slope: Floats, radius: int) -> Floats:
    """Return what the pixel in the middle of a window becomes (C,), from those nearer than the radius (eq. 2)."""
    inner = slice(1, -1)
    away = np.mgrid[-radius : radius + 1, -radius : radius + 1]  # q - p
    distance = np.hypot(*away)
    there = known[inner, inner] & (distance <= radius)
    ahead = np.abs(np.tensordot(slope, away, 1))[there] / distance[there]
    level = 1 + np.abs(time[inner, inner][there] - time[radius + 1, radius + 1])
    weight = np.maximum(ahead, SIDEWAYS) / distance[there] ** 2 / level
    downwards, sideways = _slopes(image, known), _slopes(image.swapaxes(1, 2), known.T).swapaxes(1, 2)
    steps = -np.stack([downwards, sideways])[:, :, there] * away[:, None, there]
    found: Floats = ((image[:, inner, inner][:, there] + steps.sum(0)) * weight).sum(1) / weight.sum()
    return found


def _slopes(image: Floats, known: Mask) -> Floats:
    """Return the differences of an image from row to row, of known pixels alone, without its edge: 0 where none is."""
    both = known[1:] & known[:-1]
    step = np.diff(image, axis=1) * both
    count = both[1:].astype(int) + both[:-1]
    found: Floats = (step[:, 1:] + step[:, :-1]) / np.maximum(count, 1)
    return found[..., 1:-1]


def _grown(mask: Mask) -> Mask:
    """Return a mask with the pixels above, below, left and right of it."""
    padded = np.pad(mask, 1)
    found: Mask = mask | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return found


def _times(hole: Mask, radius: int) -> tuple[Floats, list[tuple[int, int]]]:
    """Return the distance from the border of the hole, negative outside, and its pixels in the order of it."""
    inside = _march(~hole, math.inf)
    cross = _grown(hole)  # the border, where the distance is 0, belongs to both sides
    outside = _march(cross, radius)
    time = np.full(hole.shape, -float(radius))
    time[cross & ~hole] = 0
    for place, distance in outside.items():
        time[place] = -distance
    for place, distance in inside.items():
        time[place] = distance
    return time, list(inside)


def _march(start: Mask, limit: float) -> dict[tuple[int, int], float]:
    """Return the distance of other pixels from those of `start`, nearest first: |∇T| = 1 by fast marching."""
    final = np.where(start, 0.0, math.inf)
    found: dict[tuple[int, int], float] = {}
    nearest: list[list[int]] = np.argwhere(_grown(start) & ~start).tolist()
    heap = [(_solve(final, row, column), row, column) for row, column in nearest]
    heapq.heapify(heap)
    while heap:
        time, row, column = heapq.heappop(heap)
        if time > limit:
            break
        if final[row, column] <= time:
            continue
        final[row, column] = found[row, column] = time
        for beside in _around(row, column, final.shape):
            if math.isinf(final[beside]):
                heapq.heappush(heap, (_solve(final, *beside), *beside))
    return found


def _solve(time: Floats, row: int, column: int) -> float:
    """Return the distance at a pixel from its nearest neighbours in both directions (upwind differences)."""
    vertical, horizontal = math.inf, math.inf
    for other_row, other_column in _around(row, column, time.shape):
        if other_column == column:
            vertical = min(vertical, time[other_row, other_column])
        else:
            horizontal = min(horizontal, time[other_row, other_column])
    apart = abs(vertical - horizontal)
    if not apart < 1:
        return float(min(vertical, horizontal) + 1)
    return float((vertical + horizontal + math.sqrt(2 - apart**2)) / 2)


def _around(row: int, column: int, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield the neighbours of a pixel that lie in the image."""
    for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
        if 0 <= place[0] < shape[0] and 0 <= place[1] < shape[1]:
            yield place

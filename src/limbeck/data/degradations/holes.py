"""The degradation of inpainting: holes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor

from limbeck.data.base import Degradation
from limbeck.errors import RecipeError

HOLE = 0.0  # what is seen in a hole: mid grey


@final
class Holes(Degradation):
    """Cuts holes into images: grey there, with one more channel that is 1 in the holes and -1 elsewhere.

    Args:
        kind: "box" (one rectangle), "strokes" (lines that turn, Yu et al. 2019, arXiv:1806.03589, section 3.4), "half"
            (one of the four halves of the image) or "random" (single pixels).
        share: Part of the image that is cut out, in (0, 1), of "box" and "random"; of "strokes" about that. A half is a
            half.

    Raises:
        RecipeError: An argument is out of its range.
    """

    masks = True
    main_metric = "psnr_inside"

    def __init__(self, kind: Literal["box", "strokes", "half", "random"] = "strokes", share: float = 0.25) -> None:
        if kind not in KINDS:
            raise RecipeError(f"Holes.kind: expected one of {', '.join(KINDS)}, found {kind!r}")
        if not 0 < share < 1:
            raise RecipeError(f"Holes.share: expected a number in (0, 1), found {share}")
        self.kind, self.share = kind, share

    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """Return images (N, C + 1, H, W)."""
        height, width = image.shape[2:]
        holes = torch.stack(
            [KINDS[self.kind](height, width, self.share, torch.Generator().manual_seed(int(s))) for s in seed]
        )[:, None].to(image)
        return torch.cat([torch.where(holes > 0, torch.full_like(image, HOLE), image), holes * 2 - 1], 1)


def _box(height: int, width: int, share: float, draw: torch.Generator) -> Tensor:
    """Return a rectangle (H, W), 1 inside, whose sides are at most twice as long as each other."""
    tall = math.sqrt(share) * 2 ** (float(torch.rand((), generator=draw)) - 0.5)
    tall = max(tall, share)  # or no width would do
    rows = min(height, max(1, round(height * tall)))
    columns = min(width, max(1, round(height * width * share / rows)))
    top, left = (int(torch.randint(room + 1, (), generator=draw)) for room in (height - rows, width - columns))
    hole = torch.zeros(height, width)
    hole[top : top + rows, left : left + columns] = 1
    return hole


def _strokes(height: int, width: int, share: float, draw: torch.Generator) -> Tensor:
    """Return strokes (H, W), 1 on them, added until they cover the share."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    hole = torch.zeros(height, width)
    side = min(height, width)
    while float(hole.mean()) < share:
        start, angle, *turns = torch.rand(6, 2, generator=draw).unbind()
        point, direction = start * torch.tensor([height, width]), 2 * math.pi * float(angle[0])
        thickness = side * (0.03 + 0.04 * float(angle[1]))
        for turn in turns:
            direction += (float(turn[0]) - 0.5) * math.pi
            step = side * (0.1 + 0.2 * float(turn[1]))
            end = point + step * torch.tensor([math.sin(direction), math.cos(direction)])
            hole[_near(rows, columns, point, end) < thickness] = 1
            point = end
    return hole


def _near(rows: Tensor, columns: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return how far every pixel is from the line between two points."""
    along = end - start
    at = (((rows - start[0]) * along[0] + (columns - start[1]) * along[1]) / along.square().sum()).clamp(0, 1)
    return torch.hypot(rows - start[0] - at * along[0], columns - start[1] - at * along[1])


def _half(height: int, width: int, share: float, draw: torch.Generator) -> Tensor:
    """Return one of the four halves (H, W)."""
    side = int(torch.randint(4, (), generator=draw))
    hole = torch.zeros(height, width)
    middle = (height if side < 2 else width) // 2
    part = slice(None, max(1, middle)) if side % 2 == 0 else slice(middle, None)
    hole[(part, slice(None)) if side < 2 else (slice(None), part)] = 1
    return hole


def _random(height: int, width: int, share: float, draw: torch.Generator) -> Tensor:
    """Return single pixels (H, W)."""
    count = max(1, round(share * height * width))
    hole = torch.zeros(height * width)
    hole[torch.randperm(height * width, generator=draw)[:count]] = 1
    return hole.view(height, width)


KINDS: dict[str, Callable[[int, int, float, torch.Generator], Tensor]] = {
    "box": _box,
    "strokes": _strokes,
    "half": _half,
    "random": _random,
}

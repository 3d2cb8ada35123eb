"""Whether generated images lie where real ones lie, and the other way round: counts of nearest neighbours.

A sample lies in the ball of another one or it does not, so rounding matters only to those that lie about on its
surface. Distances of float32 features are products in float32, faster than in float64. A pair whose
distance is so near to the radius that rounding could decide is looked at again, by its differences in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.metrics.samples import checked

HELD = 2**21  # distances looked at at once: 8 MB
MADE = 4  # times as many are made at once: large products are faster
SPARE = 8  # neighbours beyond the k-th that are kept, to find it again in float64
PAIRS = 1024  # pairs looked at again at once
MOST = 0.002  # share of pairs to look at again beyond which float64 for all is faster

Compare = Callable[[Tensor, Tensor], Tensor]


class Neighbours(NamedTuple):
    """How a generated set lies to a real one: see `precision_recall` and `density_coverage`."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbours(real: Tensor, generated: Tensor, k: int = 3, k_density: int = 5) -> Neighbours:
    """Return `precision_recall` with k and `density_coverage` with k_density, from the same distances.

    Args:
        real: (N, D), N > k and k_density.
        generated: (M, D), M > k.
        k: Which neighbour's distance is the radius for precision and recall.
        k_density: The same for density and coverage.

    Raises:
        DataError: Features that are not finite, of different dimensions, or too few.
        RecipeError: A k below 1.
    """
    return _measured(real, generated, k, k_density)


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> tuple[float, float]:
    """Return improved precision and recall (Kynkäänniemi et al. 2019, Eq. 1-3).

    Precision is the share of generated samples within the k-nearest-neighbour ball of any real one (fidelity),
    recall the share of real samples within that of any generated one (diversity). One outlier makes a large ball:
    `density_coverage` suffers less. Distances mean little when there are only a few samples in many dimensions.

    Args:
        real: (N, D), N > k.
        generated: (M, D), M > k.
        k: Which neighbour's distance is the radius.

    Returns:
        Precision and recall, in [0, 1].

    Raises:
        DataError: Features that are not finite, of different dimensions, or not more than k.
        RecipeError: k below 1.
    """
    return _measured(real, generated, k, k)[:2]


def density_coverage(real: Tensor, generated: Tensor, k: int = 5) -> tuple[float, float]:
    """Return density and coverage (Naeem et al. 2020, Eq. 3 and 4).

    Density counts in how many k-nearest-neighbour balls of real samples a generated one lies, over k; coverage is
    the share of real samples whose ball holds a generated one. The balls are open, as in the authors' code, so a
    set against itself has a density of exactly 1.

    Args:
        real: (N, D), N > k.
        generated: (M, D).
        k: Which neighbour's distance is the radius.

    Returns:
        Density, from 0 and possibly above 1, and coverage, in [0, 1].

    Raises:
        DataError: Features that are not finite, of different dimensions, or too few.
        RecipeError: k below 1.
    """
    return _measured(real, generated, None, k)[2:]


def _measured(real: Tensor, generated: Tensor, k: int | None, k_density: int) -> Neighbours:
    """Return all four; without a k only density and coverage."""
    smallest = min(k or k_density, k_density)
    if smallest < 1 or k == 0:
        raise RecipeError(f"nearest neighbours: expected k >= 1, found {smallest}")
    real, generated = checked(real, generated, max(k or 0, k_density) + 1, (k or 0) + 1)
    try:
        return _counted(real, generated, k, k_density)
    except _TooClose:
        return _counted(real.double(), generated.double(), k, k_density)


def _counted(real: Tensor, generated: Tensor, k: int | None, k_density: int) -> Neighbours:
    nearest = _nearest(real, max(k or 0, k_density))
    dense, narrow = _Balls(nearest, k_density), _Balls(nearest, k or k_density)
    wide = dense if k_density >= (k or 0) else narrow
    around_generated = None if k is None else _Balls(_nearest(generated, k), k)
    inside = 0
    precise, recalled, covered = (
        torch.zeros(len(x), dtype=torch.bool, device=x.device) for x in (generated, real, real)
    )
    for start, distance in _distances(real, generated):
        row, column = (distance <= wide.reach[start : start + len(distance), None]).nonzero().T
        apart = distance[row, column]
        row += start
        within = dense.hold(row, column, apart, generated, torch.lt)
        inside += int(within.count_nonzero())
        covered[row[within]] = True
        if around_generated is not None:
            precise[column[narrow.hold(row, column, apart, generated, torch.le)]] = True
            row, column = (distance <= around_generated.reach).nonzero().T
            apart = distance[row, column]
            row += start
            recalled[row[around_generated.hold(column, row, apart, real, torch.le)]] = True
    precision, recall, coverage = (flags.double().mean().item() for flags in (precise, recalled, covered))
    return Neighbours(precision, recall, inside / (k_density * len(generated)), coverage)


class _TooClose(Exception):
    """Rounding in float32 could decide so much that float64 for all is faster."""


class _Nearest(NamedTuple):
    """The nearest samples of each of a set (N, D): squared distances and numbers, (N, k + 1 + some to spare).

    The nearest of all, at distance 0, is the sample itself: hence k + 1.
    """

    samples: Tensor
    distance: Tensor
    which: Tensor


def _nearest(samples: Tensor, k: int) -> _Nearest:
    count = min(k + 1 + SPARE, len(samples))
    found = [distance.topk(count, largest=False) for _, distance in _distances(samples, samples)]
    return _Nearest(samples, torch.cat([f.values for f in found]), torch.cat([f.indices for f in found]))


class _Balls:
    """The ball around each sample of a set whose radius is the squared distance to its k-th nearest other one.

    Attributes:
        reach: The largest distance (N,) at which a sample may lie in it.
    """

    def __init__(self, nearest: _Nearest, k: int) -> None:
        self.nearest, self.k = nearest, k
        self.radius = nearest.distance[:, k]
        self.slack = _slack(nearest.samples, self.radius)
        self.reach = self.radius + self.slack

    def hold(self, ball: Tensor, other: Tensor, distance: Tensor, others: Tensor, compare: Compare) -> Tensor:
        """Return for pairs of a ball and another sample, each (P,), at these distances, whether it lies in the ball."""
        inside = compare(distance, self.radius[ball] - self.slack[ball])
        unsure = (compare(distance, self.reach[ball]) ^ inside).nonzero().flatten()
        if distance.dtype == torch.float32 and len(unsure) > MOST * HELD:
            raise _TooClose
        for pairs in torch.split(unsure, PAIRS):
            exact = _apart(self.nearest.samples[ball[pairs]], others[other[pairs]])
            inside[pairs] = compare(exact, self._exact_radius(ball[pairs]))
        return inside

    def _exact_radius(self, ball: Tensor) -> Tensor:
        """Return the radii of some balls, from differences in float64."""
        samples, distance, which = (part if part is self.nearest.samples else part[ball] for part in self.nearest)
        kept_all = distance.shape[1] == len(samples) or bool((distance[:, -1] > self.reach[ball]).all())
        if distance.dtype == torch.float32 and not kept_all:
            raise _TooClose  # the k-th nearest may be none of those that were kept
        return _apart(samples[ball, None], samples[which]).sort().values[:, self.k]


def _slack(samples: Tensor, radius: Tensor) -> Tensor:
    """Return how far from the radius (N,) a squared distance may be for rounding to decide.

    A distance |a|² + |b|² - 2 a·b is off by less than (16 + √D) u (|a|² + |b|²), u being the unit of rounding: three
    times what is seen, and more with many features (errors of sums grow with √D: Higham and Mary 2019, SIAM J. Sci.
    Comput. 41). Of a pair about a radius r apart |b|² is at most 2 |a|² + 2 r; and the radius is as far off.
    """
    square = (samples - samples.mean(0)).square().sum(1)
    unit: float = (16 + samples.shape[1] ** 0.5) * torch.finfo(samples.dtype).eps
    return unit * (3 * square + 2 * radius)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Return squared distances over the last axis in float64, from the differences."""
    return (a.double() - b.double()).square().sum(-1)


def _distances(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield some rows at a time of the squared distances (N, M), with the first one's number; valid until the next.

    They are |a|² + |b|² - 2 a·b, as one product of (-2 a, |a|², 1) with (b, 1, |b|²).
    """
    centre = a.mean(dim=0)  # distances do not change, and the three terms cancel less
    a, b = a - centre, b - centre
    a_square, b_square = (x.square().sum(dim=1, keepdim=True) for x in (a, b))
    a = torch.cat([a.mul_(-2), a_square, torch.ones_like(a_square)], 1)
    b = torch.cat([b, torch.ones_like(b_square), b_square], 1)
    rows = max(HELD // len(b), 1)
    memory = a.new_empty(min(MADE * rows, len(a)), len(b))  # used again and again: fresh pages cost more than products
    for start in range(0, len(a), len(memory)):
        part = a[start : start + len(memory)]
        made = torch.mm(part, b.T, out=memory[: len(part)])
        for offset, distance in enumerate(torch.split(made, rows)):
            yield start + offset * rows, distance.clamp_(min=0) if a.dtype == torch.float64 else distance

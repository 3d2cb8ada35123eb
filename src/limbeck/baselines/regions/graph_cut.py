"""Segmentation as the cut of a graph: classes that fit the regions, and change where the image does."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.baselines.base import Fitted, Regions
from limbeck.baselines.filters import lab
from limbeck.baselines.regions.region_classifier import RegionClassifier
from limbeck.baselines.regions.region_maps import areas, neighbours, pooled
from limbeck.losses.tensors import not_negative

Whole = NDArray[np.int64]
LARGEST = 2**29  # the sum of all energies: flows are computed in 32 bits
LEAST = 1e-6  # the least probability


@final
class GraphCut(Fitted):
    """Minimises E(x) = Σ_r -n_r log p_r(x_r) + λ Σ_rs l_rs exp(-β ‖c_r - c_s‖²) [x_r ≠ x_s] over the classes x.

    p is what a fitted `RegionClassifier` says of a region of n_r pixels; regions r and s share a border of l_rs sides
    of pixels and have the mean colours c (L*a*b*); β is 1 / (2 <‖c_r - c_s‖²>). So the energy is that of GrabCut
    (Rother et al. 2004, eq. 4, 5 and 11) on regions instead of pixels, for any number of classes. Alpha-expansion
    (Boykov, Veksler and Zabih 2001) finds a minimum that no expansion of a class can lower, by minimal cuts; with two
    classes it is the global one.

    The logits are minus what a region's energy would be for each class, by pixel, all other regions as they are. None
    has a lower one than its own, so the class of the largest logit is that of the cut.

    Args:
        regions: Makes the regions, e.g. `Slic`.
        channels: Channels C of the image, 1 or 3.
        size: Height and width of the data's images, or one number for both; it takes others, too.
        classes: Number of classes K, at least 2.
        smoothness: λ, at least 0; 0 gives what the classifier says.
        classifier: `hidden`, `penalty` and `train_images`: see `RegionClassifier`.

    Raises:
        RecipeError: An argument cannot be used.
    """

    truth: ClassVar[Literal["label", "mask"]] = "mask"
    passes_on: ClassVar[tuple[type, ...]] = (RegionClassifier,)

    def __init__(
        self,
        regions: Regions,
        channels: int = 3,
        size: int | tuple[int, int] = 64,
        classes: int = 2,
        *,
        smoothness: float = 4.0,
        **classifier: Any,
    ) -> None:
        super().__init__()
        not_negative(smoothness, "GraphCut.smoothness")
        self.classifier = RegionClassifier(regions, channels, size, classes, **classifier)
        self.image_shape = self.classifier.image_shape
        self.classes, self.train_images = classes, self.classifier.train_images
        self.smoothness = smoothness

    def fit(self, image: Tensor, label: Tensor) -> None:
        """Fit the classifier of regions to images (N, C, H, W) in [-1, 1] with masks (N, H, W)."""
        self.classifier.fit(image, label)

    def forward(self, image: Tensor) -> Tensor:
        """Return log-probabilities (N, K, H, W), the same all over a region, from images (N, C, H, W) in [-1, 1]."""
        regions = self.classifier.divided(image)
        return torch.stack([self._told(*pair) for pair in zip(image, regions, strict=True)])

    def _told(self, image: Tensor, regions: Tensor) -> Tensor:
        size = areas(regions)[:, None].double()
        unary = -size * self.classifier.log_probabilities(image, regions).double().clamp(min=float(np.log(LEAST)))
        pairs, weight = self._borders(image, regions)
        fit, ends, cost, unit = whole(unary, pairs, weight)
        found = expanded(fit, ends, cost)
        energy = torch.from_numpy(of_every_class(found, fit, ends, cost) / unit).to(size)
        return (-energy / size).log_softmax(1).float().T[:, regions]

    def _borders(self, image: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pairs of regions that touch (E, 2), and what it costs when their classes differ (E,)."""
        pairs, length = neighbours(regions)
        colour = pooled(lab(image[None])[0].double(), regions)
        square = (colour[pairs[:, 0]] - colour[pairs[:, 1]]).square().sum(1)
        mean = square.mean() if len(square) else square.sum()
        contrast = square / (2 * mean).clamp(min=torch.finfo(square.dtype).tiny)
        return pairs, self.smoothness * length * (-contrast).exp()


def whole(unary: Tensor, pairs: Tensor, weight: Tensor) -> tuple[Whole, Whole, Whole, float]:
    """Return energies (R, K), pairs (E, 2) and weights (E,) as whole numbers, and how many of these are 1."""
    low = unary - unary.min(1, keepdim=True).values  # a constant of a region moves no cut
    unit = LARGEST / max(float(low.max(1).values.sum() + weight.sum()), 1e-9)
    fit, cost = ((values * unit).round().long().cpu().numpy() for values in (low, weight))
    return fit, pairs.cpu().numpy(), cost, unit


def energy_of(found: Whole, unary: Whole, pairs: Whole, weight: Whole) -> int:
    """Return E of the classes (R,): Σ_r U[r, x_r] + Σ_rs w_rs [x_r ≠ x_s]."""
    one, other = found[pairs].T
    return int(unary[np.arange(len(found)), found].sum() + weight[one != other].sum())


def of_every_class(found: Whole, unary: Whole, pairs: Whole, weight: Whole) -> Whole:
    """Return the terms of E (R, K) that a region of each class would be part of, the others as they are."""
    energy = unary.copy()
    for here, there in (pairs.T, pairs.T[::-1]):
        np.add.at(energy, here, weight[:, None])
        np.subtract.at(energy, (here, found[there]), weight)
    return energy


def expanded(unary: Whole, pairs: Whole, weight: Whole) -> Whole:
    """Return classes (R,) whose energy no expansion lowers, from the ones that fit best alone.

    Args:
        unary: U (R, K).
        pairs: Regions that touch (E, 2).
        weight: w (E,), at least 0.
    """
    found: Whole = unary.argmin(1)
    lowest, still = energy_of(found, unary, pairs, weight), 0
    classes = unary.shape[1]
    while still < classes:
        for alpha in range(classes):
            moved = expansion(found, alpha, unary, pairs, weight)
            energy = energy_of(moved, unary, pairs, weight)
            still += 1
            if energy < lowest:
                found, lowest, still = moved, energy, 0
    return found


def expansion(found: Whole, alpha: int, unary: Whole, pairs: Whole, weight: Whole) -> Whole:
    """Return the classes (R,) of the least energy where each region keeps its own or becomes α.

    With y = 1 for "becomes α", a pair's four energies A = E(0, 0), B = E(0, 1), C = E(1, 0) and D = E(1, 1) = 0 are
    A + (C - A) y_r - C y_s + (B + C - A) (1 - y_r) y_s (Kolmogorov and Zabih 2004, section 4): two energies of one
    region, and an edge whose capacity is never negative. Regions on the side of the sink become α.
    """
    from scipy.sparse import csr_array  # noqa: PLC0415 (heavy, and only needed here)
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow  # noqa: PLC0415

    count = len(found)
    here, there = pairs.T
    keeps = weight * (found[here] != found[there])
    second, first = weight * (found[here] != alpha), weight * (found[there] != alpha)
    gain = unary[:, alpha] - unary[np.arange(count), found]
    np.add.at(gain, here, first - keeps)
    np.subtract.at(gain, there, first)
    source, sink, every = count, count + 1, np.arange(count)
    ends = np.concatenate([np.full(count, source), every, here]), np.concatenate([every, np.full(count, sink), there])
    capacity = np.concatenate([gain.clip(min=0), (-gain).clip(min=0), first + second - keeps])
    graph = csr_array((capacity.astype(np.int32), ends), shape=(count + 2, count + 2))
    left = csr_array(graph - maximum_flow(graph, source, sink).flow)
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    stays = np.zeros(count + 2, dtype=bool)
    stays[breadth_first_order(left, source, return_predecessors=False)] = True
    return np.where(stays[:count], found, alpha)

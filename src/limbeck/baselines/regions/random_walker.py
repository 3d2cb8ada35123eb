"""Segmentation by random walks: a pixel is of the class whose seeds a walker from there meets first."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.baselines.base import Fitted, Regions
from limbeck.baselines.regions.region_classifier import RegionClassifier
from limbeck.baselines.regions.region_maps import areas
from limbeck.errors import MissingExtra, RecipeError
from limbeck.losses.tensors import positive

LEAST = 1e-6  # the least probability, so that logits are finite
FAINT = 1e-6


@final
class RandomWalker(Fitted):
    """Random walks on the grid of pixels (Grady 2006), which start where a `RegionClassifier` is not sure.

    The regions it is most sure of are the seeds of their classes. From every other pixel a walker sets out, and steps
    to a neighbour with a probability of exp(-β d²), d the difference of their colours; the probabilities of
    the first seed it meets solve a linear system. scikit-image solves it, and scales β by the spread of the image.

    Args:
        regions: Makes the regions, e.g. `Slic`.
        channels: Channels C of the image, 1 or 3.
        size: Height and width of the data's images, or one number for both; it takes others, too.
        classes: Number of classes K, at least 2.
        seeds: The part of an image's pixels that are seeds, above 0 and below 1.
        beta: β; the larger, the less a walker crosses edges.
        classifier: `hidden`, `penalty` and `train_images`: see `RegionClassifier`.

    Raises:
        RecipeError: An argument cannot be used.
        MissingExtra: scikit-image is not installed.
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
        seeds: float = 0.7,
        beta: float = 130.0,
        **classifier: Any,
    ) -> None:
        super().__init__()
        if not 0 < seeds < 1:
            raise RecipeError(f"RandomWalker.seeds: expected a number above 0 and below 1, found {seeds}")
        positive(beta, "RandomWalker.beta")
        if find_spec("skimage") is None:
            raise MissingExtra("scikit-image", "classic")
        self.classifier = RegionClassifier(regions, channels, size, classes, **classifier)
        self.image_shape = self.classifier.image_shape
        self.classes, self.train_images = classes, self.classifier.train_images
        self.seeds, self.beta = seeds, beta

    def fit(self, image: Tensor, label: Tensor) -> None:
        """Fit the classifier of regions to images (N, C, H, W) in [-1, 1] with masks (N, H, W)."""
        self.classifier.fit(image, label)

    def forward(self, image: Tensor) -> Tensor:
        """Return log-probabilities (N, K, H, W), at least log 1e-6, from images (N, C, H, W) in [-1, 1]."""
        regions = self.classifier.divided(image)
        return torch.stack([self._told(*pair) for pair in zip(image, regions, strict=True)])

    def _told(self, image: Tensor, regions: Tensor) -> Tensor:
        seeds = (
            sown(self.classifier.log_probabilities(image, regions).exp(), areas(regions), self.seeds)[regions]
            .cpu()
            .numpy()
        )
        seen = ((image.detach().double() + 1) / 2).permute(1, 2, 0).cpu().numpy()
        found = walked(seen, seeds, self.classes, self.beta)
        return torch.from_numpy(found).to(image.device, torch.float32).clamp(min=LEAST).log()


def sown(probability: Tensor, area: Tensor, share: float) -> Tensor:
    """Return the classes (R,) of the surest regions that fill `share` of the image, and -1 for the others.

    Args:
        probability: (R, K).
        area: Pixels of each region (R,).
        share: Above 0, so that there is at least one seed.
    """
    sure, best = probability.max(1)
    order = sure.argsort(descending=True, stable=True)
    before = area[order].cumsum(0) - area[order]
    found = torch.full_like(best, -1)
    chosen = order[before < share * area.sum()]
    found[chosen] = best[chosen]
    return found


def walked(image: NDArray[np.float64], seeds: NDArray[np.int64], classes: int, beta: float) -> NDArray[np.float64]:
    """Return the probability (K, H, W) that a walker meets a seed of each class first.

    Args:
        image: (H, W, C) in [0, 1].
        seeds: Class of each pixel (H, W) that is a seed, else -1; at least one is.
        classes: K.
        beta: β.
    """
    from skimage.segmentation import random_walker  # noqa: PLC0415 (heavy, and an extra)

    there = np.unique(seeds)
    known = there[there >= 0]
    found = np.zeros((classes, *seeds.shape))
    if len(known) == 1:
        found[known[0]] = 1
    elif len(known) == len(there):
        found[known] = known[:, None, None] == seeds
    else:
        if image.std() == 0:  # β is divided by it; a ramp that is next to nothing leaves all steps as likely
            image = image + np.linspace(0, FAINT, image.size).reshape(image.shape)
        labels = np.searchsorted(there, seeds)  # 0 where it is no seed
        options = {"mode": "bf", "return_full_prob": True, "channel_axis": -1}
        found[known] = random_walker(image, labels, beta, **options)
    return found

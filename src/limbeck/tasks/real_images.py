"""What generated images are compared with: the real images of a split, whose features are computed once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.base import Data, Split
from limbeck.ground.randomness import generator
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.distribution import extract, fid, inception_score, kid
from limbeck.metrics.neighbours import neighbours
from limbeck.types import Batch

CHUNK = 250  # images at a time while evaluating
WATCHED = 256  # samples whose diversity is watched

Images = Tensor | Iterable[Tensor]

DIRECTIONS = {
    "fid": "lower",
    "kid": "lower",
    "is": "higher",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
}


class RealImages:
    """Distribution metrics against up to `samples` real images of a split.

    Args:
        samples: How many real images at most.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._known: dict[tuple[str, str], Tensor] = {}

    def compare(self, images: Images, data: Data, split: Split, extractor: FeatureExtractor) -> dict[str, float]:
        """Return FID and its kin of images (N, C, H, W), each named with the features; IS where those know classes.

        The images may come in parts, each of which is only held until its features are known.
        """
        ours, logits = extract(extractor, images)
        real = self._features(data, split, extractor)
        named = {
            "fid": fid(real, ours),
            "kid": kid(real, ours, generator(0, "kid")),
            **({"is": inception_score(logits)} if logits.shape[1] else {}),
            **neighbours(real, ours)._asdict(),
        }
        return {f"{name}[{extractor.name}]": float(value) for name, value in named.items()}

    def fid(self, images: Images, data: Data, split: Split, extractor: FeatureExtractor) -> float:
        """Return the FID of images (N, C, H, W) alone."""
        return float(fid(self._features(data, split, extractor), extract(extractor, images)[0]))

    def _features(self, data: Data, split: Split, extractor: FeatureExtractor) -> Tensor:
        real = data.split(split)
        key = (real.fingerprint(), extractor.fingerprint())
        if key not in self._known:
            parts = torch.split(some(min(self.samples, len(real)), len(real)), CHUNK)
            self._known[key] = extract(extractor, (images_of(real.read(part)) for part in parts))[0]
        return self._known[key]


class Means:
    """The means, by name, of what is measured of many images that go by in parts, as sums in float64."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, **values: Tensor) -> None:
        """Count in the values (N,) of some images."""
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + float(value.sum(dtype=torch.float64)), count + len(value)

    def found(self) -> dict[str, float]:
        """Return the means over all that went by."""
        return {name: total / count for name, (total, count) in self._sums.items()}


def some(count: int, size: int) -> Tensor:
    """Return `count` indices below `size` in an order drawn once for all; all occur equally often, give or take one."""
    order = torch.randperm(size, generator=generator(0, "some", size))
    return order[torch.arange(count) % size]


def images_of(batch: Batch) -> Tensor:
    """Return the images of a batch that has some."""
    assert batch.image is not None
    return batch.image


def of_size(image: Tensor, size: int | None) -> Tensor:
    """Return images (N, C, H, W) enlarged or shrunk to `size` pixels both ways; null leaves them as they are.

    Every pixel keeps the value of one: a channel that says where holes are still says yes or no.
    """
    return image if size is None else F.interpolate(image, (size, size))


def diversity(images: Tensor) -> float:
    """Return the root mean square distance per pixel between two different images (N, C, H, W)."""
    return float((2 * images.var(dim=0)).mean().sqrt())

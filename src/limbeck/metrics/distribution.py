"""How close generated images are to real ones as a whole: pure functions of their features.

What is small against the numbers that it is a difference of is summed in float64; of float32 features only the products
of all pairs, for KID, are in float32.

These are ours rather than torchmetrics': its versions own the feature network and accumulate state, and it has
neither precision and recall nor density and coverage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from limbeck.errors import DataError, RecipeError
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.samples import checked, finite

ROWS = 256  # rows of pairs, or in float64, at once


@torch.no_grad()
def extract(extractor: FeatureExtractor, images: Tensor | Iterable[Tensor], chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Return the features and logits of many images, computed in chunks on the extractor's device.

    Args:
        extractor: What turns images into features.
        images: (N, C, H, W) in [-1, 1], or batches of such images, which may be made on the way.
        chunk: Largest number of images that pass through the extractor at once.

    Returns:
        Features (N, D) and logits (N, K), on the CPU.

    Raises:
        DataError: There is no image.
    """
    device = next((p.device for p in extractor.parameters()), torch.device("cpu"))
    batches = [images] if isinstance(images, Tensor) else images
    features, logits = _Rows(), _Rows()
    for batch in batches:
        for part in batch.split(chunk):
            if len(part):
                for rows, found in zip((features, logits), extractor(part.to(device)), strict=True):
                    rows.add(found)
    if not features.count:
        raise DataError("features of images: expected at least one image, found none")
    return features.held[: features.count], logits.held[: logits.count]


class _Rows:
    """Rows (N, D), the first `count` of a tensor on the CPU that grows as it fills.

    Many small tensors, kept while images come and go, would leave holes in memory into which no images fit again.
    """

    def __init__(self) -> None:
        self.held, self.count = torch.empty(0, 0), 0

    def add(self, rows: Tensor) -> None:
        if not self.count:
            self.held = torch.empty(0, rows.shape[1], dtype=rows.dtype)
        end = self.count + len(rows)
        if end > len(self.held):
            self.held = torch.cat([self.held, self.held.new_empty(max(end, 1024), rows.shape[1])])
        self.held[self.count : end] = rows
        self.count = end


def fid(features_a: Tensor, features_b: Tensor) -> float:
    """Return the Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, Eq. 6).

    It is biased upwards by few samples, the more the fewer, so only figures from equal numbers of samples compare.
    With fewer samples than features (N <= D) the covariances are singular: the figure is defined, but mostly bias.

    Args:
        features_a: (N, D), N >= 2.
        features_b: (M, D), M >= 2.

    Raises:
        DataError: Features that are not finite, of different dimensions, or fewer than two.
    """
    a, b = checked(features_a, features_b, 2, 2)
    return frechet_distance(*_moments(a), *_moments(b))


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Return |m_a - m_b|² + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of two Gaussians (Dowson and Landau 1982).

    The trace of the root is the sum of the roots of the eigenvalues of S_a S_b. They are those of the symmetric
    R' S_b R with S_a = R R', which are real and at least 0 whatever the rank, so no matrix root is needed.

    Args:
        mean_a: (D,).
        covariance_a: (D, D), symmetric, positive semi-definite.
        mean_b: (D,).
        covariance_b: (D, D), symmetric, positive semi-definite.
    """
    mean_a, covariance_a, mean_b, covariance_b = (t.double() for t in (mean_a, covariance_a, mean_b, covariance_b))
    root, singular = torch.linalg.cholesky_ex(covariance_a)  # faster than eigenvectors
    if singular:
        values, vectors = torch.linalg.eigh(covariance_a)
        root = vectors * values.clamp(min=0).sqrt()
    cross = torch.linalg.eigvalsh(root.T @ covariance_b @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * cross
    return max(float(distance), 0.0)  # rounding may leave -1e-15 for equal sets


def kid(
    features_a: Tensor, features_b: Tensor, generator: torch.Generator, subsets: int = 100, subset_size: int = 1000
) -> float:
    """Return the kernel distance: the mean over random subsets of the unbiased MMD² (Bińkowski et al. 2018, 4.1).

    Being unbiased it may come out below 0, and it holds for few samples where `fid` does not.

    Args:
        features_a: (N, D).
        features_b: (M, D).
        generator: A CPU generator that draws the subsets.
        subsets: Number of subsets.
        subset_size: Samples of each set in a subset, drawn without replacement; all of the smaller set where there
            are not so many.

    Raises:
        DataError: Features that are not finite, of different dimensions, or fewer than two.
        RecipeError: `subsets` below 1 or `subset_size` below 2.
    """
    if subsets < 1 or subset_size < 2:
        raise RecipeError(f"kid: expected subsets >= 1 and subset_size >= 2, found {subsets} and {subset_size}")
    a, b = checked(features_a, features_b, 2, 2)
    size = min(subset_size, len(a), len(b))
    centre = _centre(a, b)
    a_about, b_about = _About.of(a, centre), _About.of(b, centre)

    def draw(about: _About) -> _About:
        return about.of_rows(torch.randperm(len(about.lean), generator=generator)[:size])

    return math.fsum(_mmd2(draw(a_about), draw(b_about), centre) for _ in range(subsets)) / subsets


def mmd2(features_a: Tensor, features_b: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy under the kernel (x·y / D + 1)³.

    mean over i≠j of k(a_i, a_j) + mean over i≠j of k(b_i, b_j) - 2 mean of k(a_i, b_j) (Gretton et al. 2012, Eq. 3).

    Args:
        features_a: (N, D), N >= 2.
        features_b: (M, D), M >= 2.

    Raises:
        DataError: Features that are not finite, of different dimensions, or fewer than two.
    """
    a, b = checked(features_a, features_b, 2, 2)
    centre = _centre(a, b)
    return _mmd2(_About.of(a, centre), _About.of(b, centre), centre)


def inception_score(logits: Tensor, splits: int = 10) -> float:
    """Return the mean over splits of exp(mean KL(p(y|x) ‖ p(y))), from 1 to K (Salimans et al. 2016, section 4).

    The splits are consecutive, so the images must not be sorted by class.

    Args:
        logits: (N, K).
        splits: Number of equal parts.

    Raises:
        DataError: Logits that are not finite, or fewer of them than splits.
        RecipeError: `splits` below 1.
    """
    if splits < 1:
        raise RecipeError(f"inception_score: expected splits >= 1, found {splits}")
    log_p = finite(logits, "logits", least=splits).double().log_softmax(dim=1)
    scores = []
    for part in log_p.tensor_split(splits):
        log_marginal = part.logsumexp(dim=0) - math.log(len(part))
        scores.append((part.exp() * (part - log_marginal)).sum(dim=1).mean().exp())
    return float(torch.stack(scores).mean())


class _About(NamedTuple):
    """Features x as they lie about a point c: x·y / D is |c|² / D + e, e = offset_x·offset_y + lean_x + lean_y.

    Attributes:
        offset: (x - c) / √D, (N, D), in the precision of the features.
        lean: c·(x - c) / D, (N,), to be summed in float64.
        square: |offset|², (N,), to be summed in float64.
    """

    offset: Tensor
    lean: Tensor
    square: Tensor

    @classmethod
    def of(cls, features: Tensor, centre: Tensor) -> Self:
        root = features.shape[1] ** 0.5
        offset = (features - centre).div_(root)
        # Each sample's figures are the same in all means that the discrepancy is made of: their rounding cancels.
        return cls(offset, (offset @ (centre / root)).double(), offset.square().sum(1).double())

    def of_rows(self, rows: Tensor) -> _About:
        rows = rows.to(self.lean.device)
        return _About(*(part[rows] for part in self))


def _centre(a: Tensor, b: Tensor) -> Tensor:
    return (a.mean(0) + b.mean(0)) / 2


def _mmd2(a: _About, b: _About, centre: Tensor) -> float:
    middle = float(centre.double().square().mean()) + 1
    return float(_kernel_mean(a, a, middle) + _kernel_mean(b, b, middle) - 2 * _kernel_mean(a, b, middle))


def _kernel_mean(x: _About, y: _About, middle: float) -> Tensor:
    """Return the mean of (m + e)³ = m³ + 3 m² e + (3 m + e) e² over all pairs, m being its root at the centre.

    A discrepancy is a small difference of large means. What is large in them is sums over samples, which cost nothing
    in float64; only the last part is over pairs, whose products may be in float32. Of a set with itself, pairs of a
    sample with itself are left out.
    """
    itself, pairs = x is y, len(x.lean) * (len(y.lean) - (x is y))
    linear = x.offset.sum(0).double() @ y.offset.sum(0).double()
    linear += x.lean.sum() * len(y.lean) + y.lean.sum() * len(x.lean)
    if itself:
        linear -= x.square.sum() + 2 * x.lean.sum()
    rest = torch.zeros_like(linear)
    x_lean, y_lean = x.lean.to(x.offset), y.lean.to(y.offset)
    for start in range(0, len(x.lean), ROWS):
        part, first = slice(start, start + ROWS), start if itself else 0  # symmetric: one half of it will do
        e = torch.addmm(y_lean[first:], x.offset[part], y.offset[first:].T).add_(x_lean[part, None])
        cubic = (e + 3 * middle).mul_(e).mul_(e)
        rest += cubic.sum(1).double().sum()
        if itself:
            rest += cubic[:, len(e) :].sum(1).double().sum() - cubic.diagonal().double().sum()
    return middle**3 + (3 * middle**2 * linear + rest) / pairs


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) and the unbiased covariance (D, D), in float64."""
    mean = features.mean(0, dtype=torch.float64)
    centred = features - mean
    products = centred.new_empty(centred.shape[1], centred.shape[1])
    for start in range(0, len(products), ROWS):  # symmetric: one half of it will do
        part, others = slice(start, start + ROWS), slice(start + ROWS, None)
        products[part, start:] = centred[:, part].T @ centred[:, start:]
        products[others, part] = products[part, others].T
    return mean, products.div_(len(features) - 1)

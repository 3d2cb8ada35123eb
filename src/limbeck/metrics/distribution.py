"""How close generated images are to real ones as a whole: pure functions of their features, in float64.

These are ours rather than torchmetrics': its versions own the feature network and accumulate state, and it has
neither precision and recall nor density and coverage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from limbeck.errors import DataError, RecipeError
from limbeck.metrics.base import FeatureExtractor

ROWS = 1024  # rows of a distance matrix held at once: 80 MB against 10,000 columns


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
    pairs = [extractor(part.to(device)) for batch in batches for part in batch.split(chunk) if len(part)]
    if not pairs:
        raise DataError("features of images: expected at least one image, found none")
    features, logits = zip(*((f.cpu(), k.cpu()) for f, k in pairs), strict=True)
    return torch.cat(features), torch.cat(logits)


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
    a, b = _checked(features_a, features_b, 2, 2)
    return frechet_distance(a.mean(dim=0), _covariance(a), b.mean(dim=0), _covariance(b))


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
    a, b = _checked(features_a, features_b, 2, 2)
    size = min(subset_size, len(a), len(b))

    def draw(features: Tensor) -> Tensor:
        chosen = torch.randperm(len(features), generator=generator)[:size]
        return features[chosen.to(features.device)]

    return math.fsum(mmd2(draw(a), draw(b)) for _ in range(subsets)) / subsets


def mmd2(features_a: Tensor, features_b: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy under the kernel (x·y / D + 1)³.

    mean over i≠j of k(a_i, a_j) + mean over i≠j of k(b_i, b_j) - 2 mean of k(a_i, b_j) (Gretton et al. 2012, Eq. 3).

    Args:
        features_a: (N, D), N >= 2.
        features_b: (M, D), M >= 2.

    Raises:
        DataError: Features that are not finite, of different dimensions, or fewer than two.
    """
    a, b = _checked(features_a, features_b, 2, 2)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)

    def mean_of_others(x: Tensor) -> Tensor:
        k = kernel(x, x)
        return (k.sum() - k.trace()) / (len(x) * (len(x) - 1))

    return (mean_of_others(a) + mean_of_others(b) - 2 * kernel(a, b).mean()).item()


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
    log_p = _finite(logits, "logits", least=splits).log_softmax(dim=1)
    scores = []
    for part in log_p.tensor_split(splits):
        log_marginal = part.logsumexp(dim=0) - math.log(len(part))
        scores.append((part.exp() * (part - log_marginal)).sum(dim=1).mean().exp())
    return float(torch.stack(scores).mean())


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
    real, generated = _neighbours_checked(real, generated, k, least_generated=k + 1)
    real_radius, generated_radius = _radius(real, k), _radius(generated, k)
    precise = torch.zeros(len(generated), dtype=torch.bool, device=real.device)
    recalled = []
    for rows, distance in _distances(real, generated):
        precise |= (distance <= real_radius[rows, None]).any(dim=0)
        recalled.append((distance <= generated_radius).any(dim=1))
    return precise.double().mean().item(), torch.cat(recalled).double().mean().item()


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
    real, generated = _neighbours_checked(real, generated, k, least_generated=1)
    radius = _radius(real, k)
    inside, covered = 0, 0
    for rows, distance in _distances(real, generated):
        within = distance < radius[rows, None]
        inside += int(within.count_nonzero())
        covered += int(within.any(dim=1).count_nonzero())
    return inside / (k * len(generated)), covered / len(real)


def _covariance(features: Tensor) -> Tensor:
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


def _radius(features: Tensor, k: int) -> Tensor:
    """Return the squared distance of each sample to its k-th nearest other one, (N,)."""
    # The nearest of all, at distance 0, is the sample itself: hence k + 1.
    return torch.cat([d.topk(k + 1, largest=False).values[:, -1] for _, d in _distances(features, features)])


def _distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield some rows at a time of the squared distances (N, M), as |a|² + |b|² - 2 a·b; valid until the next ones."""
    centre = a.mean(dim=0)  # distances do not change, and the three terms cancel less
    a, b = a - centre, b - centre
    b_square = b.square().sum(dim=1)
    memory = a.new_empty(min(ROWS, len(a)), len(b))  # used again and again: fresh pages cost more than the products
    for start in range(0, len(a), ROWS):
        part = a[start : start + ROWS]
        distance = torch.addmm(b_square.expand(len(part), -1), part, b.T, alpha=-2, out=memory[: len(part)])
        yield slice(start, start + ROWS), distance.add_(part.square().sum(dim=1, keepdim=True)).clamp_(min=0)


def _neighbours_checked(real: Tensor, generated: Tensor, k: int, least_generated: int) -> tuple[Tensor, Tensor]:
    if k < 1:
        raise RecipeError(f"nearest neighbours: expected k >= 1, found {k}")
    return _checked(real, generated, k + 1, least_generated)


def _checked(a: Tensor, b: Tensor, least_a: int, least_b: int) -> tuple[Tensor, Tensor]:
    a, b = _finite(a, "features", least_a), _finite(b, "features", least_b)
    if a.shape[1] != b.shape[1]:
        raise DataError(f"features to compare: expected one dimension, found {a.shape[1]} and {b.shape[1]}")
    return a, b.to(a.device)


def _finite(values: Tensor, what: str, least: int) -> Tensor:
    if values.ndim != 2 or len(values) < least:
        raise DataError(f"{what}: expected two axes (N, D) with N >= {least}, found {tuple(values.shape)}")
    bad = int((~values.isfinite().all(dim=1)).sum())
    if bad:
        raise DataError(
            f"{what}: expected finite numbers, found NaN or infinity in {bad} of {len(values)} samples;"
            " the images or the weights they come from are damaged"
        )
    return values.detach().double()

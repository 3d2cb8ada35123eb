"""What an evaluation costs: its distances against torch-fidelity's formulas on the same features, and its memory.

torch-fidelity needs torchvision, so its formulas are written down here: FID by the
eigenvalues of the product of both covariances, KID as the mean of 100 polynomial MMD² of 1000 samples each, precision
and recall by `cdist` and `kthvalue`. Features are float32, as its networks give them, and so are its kernels and
distances. Ours counts density and coverage as well, which it has not. Both take turns within a round; a figure is the
median over rounds. Equality is to the same formulas in float64, on the same subsets; counts must be the same.

Memory is the peak of a process of its own, which evaluates a tiny generator of images of 128x128 by small features.

    python benchmarks/evaluation.py --rounds 2        last lines: ratio R, for 96 and 2048 features
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from record import record
from torch import Tensor, nn

from limbeck.data.tensors import TensorImages
from limbeck.ground.randomness import generator
from limbeck.metrics.distribution import fid, kid
from limbeck.metrics.features import ClassifierFeatures
from limbeck.metrics.neighbours import neighbours
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.tasks.generation import Generation

SAMPLES, DIMENSIONS = 10_000, (96, 2048)
SUBSETS, SUBSET = 100, 1000
PEAKS, SIDE = (2_000, 20_000), 128
Array = np.ndarray  # (N, D)


def features(dimension: int, seed: int) -> Tensor:
    """Return correlated features (N, D), none below 0, with variances that fall by three orders of magnitude."""
    draw = generator(seed, dimension)
    mix = torch.randn(dimension, dimension, generator=generator(dimension, "mix")) / dimension**0.5
    drawn = torch.randn(SAMPLES, dimension, generator=draw) * torch.logspace(0, -1.5, dimension)
    return (drawn @ mix * (1 + 0.05 * seed) + 0.3 + 0.02 * seed).relu()


def their_fid(a: Array, b: Array) -> float:
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    apart = a.mean(0) - b.mean(0)
    root = np.sqrt(np.linalg.eigvals(covariance_a @ covariance_b)).real.sum()
    return float(apart @ apart + np.trace(covariance_a) + np.trace(covariance_b) - 2 * root)


def their_mmd2(a: Array, b: Array) -> float:
    def kernel(x: Array, y: Array) -> Array:
        return (np.matmul(x, y.T) * (1.0 / x.shape[1]) + 1) ** 3  # type: ignore[no-any-return]

    size, aa, bb, ab = len(a), kernel(a, a), kernel(b, b), kernel(a, b)
    others = (aa.sum(1) - np.diagonal(aa)).sum() + (bb.sum(1) - np.diagonal(bb)).sum()
    return float(others / (size * (size - 1)) - 2 * ab.sum(0).sum() / size**2)


def their_kid(a: Array, b: Array) -> float:
    draw = np.random.RandomState(2020)

    def some(x: Array) -> Array:
        return x[draw.choice(len(x), SUBSET, replace=False)]

    return float(np.mean([their_mmd2(some(a), some(b)) for _ in range(SUBSETS)]))


def their_precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> tuple[float, float]:
    real_radius = torch.cdist(real, real).kthvalue(k + 1).values
    generated_radius = torch.cdist(generated, generated).kthvalue(k + 1).values
    apart = torch.cdist(generated, real)
    precise, recalled = (apart <= real_radius).any(1), (generated_radius >= apart.T).any(1)
    return precise.float().mean().item(), recalled.float().mean().item()


def same_kid(a: Tensor, b: Tensor, subsets: int = 10) -> float:
    """Return by how much KID is off that of float64 on the same subsets, relative to it."""
    draw, found = generator(1, "kid"), []
    for _ in range(subsets):
        rows = [torch.randperm(SAMPLES, generator=draw)[:SUBSET] for _ in range(2)]
        found.append(their_mmd2(*(x[row].double().numpy() for x, row in zip((a, b), rows, strict=True))))
    expected = math.fsum(found) / subsets
    return abs(kid(a, b, generator(1, "kid"), subsets, SUBSET) / expected - 1)


def contest(dimension: int, rounds: int) -> dict[str, float]:
    """Return seconds, ratios and differences of all metrics at so many features."""
    a, b = features(dimension, 0), features(dimension, 1)
    x, y = a.numpy(), b.numpy()
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "fid": (lambda: fid(a, b), lambda: their_fid(x, y)),
        "kid": (lambda: kid(a, b, generator(0, "kid")), lambda: their_kid(x, y)),
        "neighbours": (lambda: neighbours(a, b)[:2], lambda: their_precision_recall(a, b)),
    }
    figures: dict[str, float] = {}
    spent = [{name: [0.0, 0.0] for name in pairs} for _ in range(rounds)]
    for number, seconds in enumerate(spent):
        for name, pair in pairs.items():
            for which in (0, 1) if number % 2 else (1, 0):
                start = time.perf_counter()
                pair[which]()
                seconds[name][which] = time.perf_counter() - start
    for name in pairs:
        ours, theirs = (median(seconds[name][which] for seconds in spent) for which in (0, 1))
        figures |= {f"{name}_seconds": ours, f"{name}_their_seconds": theirs}
        print(f"{dimension} features: {name} {ours:.2f} s, theirs {theirs:.2f} s: {ours / theirs:.2f}")
    figures["ratio"] = median(
        sum(ours for ours, _ in seconds.values()) / sum(theirs for _, theirs in seconds.values()) for seconds in spent
    )
    figures["fid_off"] = abs(fid(a, b) / their_fid(x.astype(np.float64), y.astype(np.float64)) - 1)
    figures["kid_off"] = same_kid(a, b)
    counted = zip(neighbours(a, b), their_precision_recall(a, b), strict=False)
    figures["samples_counted_otherwise"] = max(round(SAMPLES * abs(ours - theirs)) for ours, theirs in counted)
    off, others = max(figures["fid_off"], figures["kid_off"]), int(figures["samples_counted_otherwise"])
    word = "equal" if off <= 1e-6 and not others else "NOT equal"
    print(f"{dimension} features: {word}: FID and KID off by {off:.1e}, {others} samples counted otherwise")
    return figures


def evaluate(samples: int) -> None:
    """Print the peak of the memory of this process, which evaluates so many samples, in MiB."""
    import resource  # noqa: PLC0415 (not everywhere; in KiB on Linux)

    torch.manual_seed(0)
    layers = (
        nn.Linear(8, 4 * 16 * 16),
        nn.Unflatten(1, (4, 16, 16)),
        nn.Upsample((SIDE, SIDE)),
        nn.Conv2d(4, 3, 3, 1, 1),
    )
    made = nn.Sequential(*layers, nn.Tanh()).eval()
    images = torch.randint(0, 256, (1000, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator(0))
    data = TensorImages(images, validation=0.1, test=0.5)
    extractor = ClassifierFeatures(SmallCnn(4, channels=3, size=SIDE, classes=10), "small")
    Generation((8,), samples).evaluate(made, data, split="test", seed=0, extractor=extractor)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(samples: int) -> float:
    command = [sys.executable, __file__, "--evaluate", str(samples)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description="an evaluation's time and memory")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--evaluate", type=int, help="only this: evaluate so many samples and print the peak memory")
    options = parser.parse_args()
    if options.evaluate is not None:
        evaluate(options.evaluate)
        return
    peaks = {count: peak(count) for count in PEAKS}
    few, many = peaks.values()
    for count, found in peaks.items():
        print(f"{count} samples of {SIDE}x{SIDE}: {found:.0f} MiB at most")
    print(f"memory of {PEAKS[1]} samples to that of {PEAKS[0]}: {many / few:.2f}")
    figures = {str(dimension): contest(dimension, options.rounds) for dimension in DIMENSIONS}
    record("evaluation", {"peak_mib": peaks, "memory_ratio": many / few, **figures}, {"rounds": options.rounds})
    for dimension in DIMENSIONS:
        print(f"{dimension} features: ratio {figures[str(dimension)]['ratio']:.3f}")


if __name__ == "__main__":
    main()

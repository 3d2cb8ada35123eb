"""How often does a metric that is a count, an accuracy over few images, give a verdict where there is nothing to find?

Students and their control are right about an image with the same probability, whatever the seed: no teacher helps.
A family is all students on one metric; one verdict in it that is not INCONCLUSIVE is false. 5 % are promised.

    python benchmarks/false_verdicts.py                              the table in docs/metrics.md, in two minutes
    python benchmarks/false_verdicts.py --families 200 --seeds 3     a quick look
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from limbeck.report.result import ArmResult, Quality
from limbeck.report.statistics import judge

ACCURACIES = (0.5, 0.9, 0.98, 0.99, 0.995)


def false_families(families: int, seeds: int, accuracy: float, students: int = 15, images: int = 200) -> float:
    """Return the share of families with a false verdict, the same for the same arguments.

    Args:
        families: How many are drawn.
        seeds: Of every arm.
        accuracy: The probability that an image's class is right.
        students: In a family, with one control.
        images: That an accuracy is taken of.
    """
    draw = np.random.default_rng(families + seeds)
    pairs = [(f"student {i}", "control") for i in range(students)]
    false = 0
    for _ in range(families):
        right = draw.binomial(images, accuracy, (students + 1, seeds)) / images
        arms = {"control": _arm("control", right[students])}
        arms |= {name: _arm("student", right[i]) for i, (name, _) in enumerate(pairs)}
        verdicts = judge(arms, pairs, {"top1": "higher"})
        false += any(verdict.verdict in ("BEATS", "LOSES") for verdict in verdicts)
    return false / families


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="false verdicts of 15 students, accuracy on 200 images, no effect"
    )
    parser.add_argument("--families", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10])
    options = parser.parse_args(words)
    print("| accuracy | " + " | ".join(f"{n} seeds" for n in options.seeds) + " |")
    print("| ---: |" + " ---: |" * len(options.seeds))
    for accuracy in ACCURACIES:
        shares = (false_families(options.families, n, accuracy) for n in options.seeds)
        print(f"| {accuracy} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |", flush=True)
    return 0


def _arm(role: str, values: np.ndarray) -> ArmResult:
    return ArmResult(role, {"top1": Quality.of([float(value) for value in values])}, {"parameters": 1.0})


if __name__ == "__main__":
    sys.exit(main())

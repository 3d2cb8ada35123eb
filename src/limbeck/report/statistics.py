"""What seeds can and cannot show: paired differences, their interval, the verdict, and many comparisons at once.

A student and its control share a seed (the same initial weights, data order and latents), so their difference is
taken seed by seed. Fewer than three seeds give no verdict. The teacher is the same for all seeds: what is tested is
whether *this* teacher helps, over the randomness of training the student.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from limbeck.report.result import ArmResult, Outcome, Quality, Verdict

SEEDS_NEEDED = 3
LEVEL = 0.05
ROUNDING = 1e-6  # of the largest value: what single precision may leave between values that are equal
SQUARABLE = 1e-150  # the square of less is 0


@dataclass(frozen=True)
class PairedDifference:
    """The mean of paired differences, its 95 % interval, and the two-sided p-value of "there is no difference".

    The interval is that of one comparison, and of the t-test: it may leave out 0 where p is not below 0.05.
    """

    mean: float
    low: float
    high: float
    p_value: float


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Return the t-interval of `first` - `second`, pair by pair (Student 1908), and the p-value.

    With d the differences, n their number and s their standard deviation: mean(d) ± t(0.975, n - 1) · s / √n.

    Differences that are equal show that the metric is a count, such as an accuracy over few images, and then s may be
    too small by chance, or 0. So h² / 12 is added to s², with h the step that the values show: the variance of an error
    of half a step at most. Where all differences are equal, p is no smaller than that of the sign test, 2^(1 - n).
    `benchmarks/false_verdicts.py` measures how many false verdicts are left.

    Raises:
        ValueError: The lengths differ, or there are fewer than two pairs.
    """
    from scipy.stats import t  # noqa: PLC0415 (heavy, and only needed once training is over)

    differences = [a - b for a, b in zip(first, second, strict=True)]
    n = len(differences)
    if n < 2:
        raise ValueError(f"a paired difference needs at least two pairs, found {n}")
    mean, variance = statistics.fmean(differences), statistics.variance(differences)
    noise = ROUNDING * max(map(abs, [*first, *second])) + SQUARABLE
    gaps = _gaps(differences, noise)
    if not gaps and abs(mean) <= noise:
        return PairedDifference(mean, mean, mean, 1.0)
    if len(gaps) < n - 1:
        step = min(_gaps([0.0, *differences], noise) + _gaps([*first, *second], noise), default=0.0)
        variance += step**2 / 12
    error = math.sqrt(variance / n)
    width, p_value = float(t.ppf(1 - LEVEL / 2, n - 1)) * error, float(2 * t.sf(abs(mean) / error, n - 1))
    return PairedDifference(mean, mean - width, mean + width, p_value if gaps else max(p_value, 2.0 ** (1 - n)))


def _gaps(numbers: Sequence[float], noise: float) -> list[float]:
    """Return the distances between neighbours of the sorted numbers, those left out that are no more than noise."""
    return [above - below for below, above in pairwise(sorted(numbers)) if above - below > noise]


def compare(metric: str, student: str, control: str, arms: Mapping[str, ArmResult], direction: str) -> Verdict:
    """Return the verdict on one metric: does the student beat its control?

    Args:
        metric: Full name of the metric; both arms have it.
        student: Name of the student's arm.
        control: Name of the control's arm.
        arms: The arms by name.
        direction: "lower" or "higher": what is better.

    Raises:
        ValueError: The direction is another, or the arms have different numbers of seeds.
    """
    if direction not in ("lower", "higher"):
        raise ValueError(f"{metric}: expected the direction 'lower' or 'higher', found {direction!r}")
    first, second = arms[student].quality[metric].per_seed, arms[control].quality[metric].per_seed
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(pairs) < len(first):
        return Verdict(metric, student, control, None, None, "NONE", "a value is not finite")
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    if len(pairs) < SEEDS_NEEDED:
        mean = statistics.fmean(a - b for a, b in pairs)
        return Verdict(metric, student, control, mean, None, "NONE", f"fewer than {SEEDS_NEEDED} seeds")
    found = paired_difference(ours, theirs)
    outcome = _outcome(found.mean, found.p_value, direction)
    return Verdict(metric, student, control, found.mean, (found.low, found.high), outcome, p_value=found.p_value)


def judge(
    arms: Mapping[str, ArmResult], pairs: Sequence[tuple[str, str]], directions: Mapping[str, str]
) -> list[Verdict]:
    """Return the verdicts of all (student, control) pairs on every metric that both have and that has a direction.

    The pairs of one metric are one family: when there is more than one, verdicts stand on p-values corrected for
    their number (`holm`).

    Args:
        arms: The arms by name.
        pairs: Names of (student, control).
        directions: "lower", "higher" or "none" for the base name of each metric (`Task.directions`).

    Raises:
        KeyError: A metric has no direction.
    """
    verdicts = []
    for metric in dict.fromkeys(name for student, _ in pairs for name in arms[student].quality):
        direction = directions[base_name(metric)]
        shared = [(s, c) for s, c in pairs if metric in arms[s].quality and metric in arms[c].quality]
        if direction != "none":
            verdicts += correct([compare(metric, s, c, arms, direction) for s, c in shared], direction)
    return verdicts


def correct(family: Sequence[Verdict], direction: str) -> list[Verdict]:
    """Return the verdicts of one family with `p_holm`, decided by it; a single comparison needs no correction."""
    tested = [v.p_value for v in family if v.p_value is not None]
    if len(tested) < 2:
        return list(family)
    adjusted = iter(holm(tested))
    corrected = []
    for verdict in family:
        if verdict.p_value is None or verdict.student_minus_control is None:
            corrected.append(verdict)
            continue
        p = next(adjusted)
        outcome = _outcome(verdict.student_minus_control, p, direction)
        corrected.append(replace(verdict, p_holm=p, verdict=outcome))
    return corrected


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down procedure, in the order given.

    With p(1) <= ... <= p(m): adjusted p(i) = max over j <= i of min(1, (m - j + 1) · p(j)). Rejecting where this is
    below 0.05 keeps the chance of even one false rejection below 5 % (Holm 1979, "A simple sequentially rejective
    multiple test procedure").
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def base_name(metric: str) -> str:
    """Return the name of a metric without its features: "fid" of "fid[fashion-cnn]"."""
    return metric.partition("[")[0]


def better(first: Quality, second: Quality, direction: str) -> bool:
    """Return whether the mean of `first` is known and better than that of `second`, or `second` is not known."""
    if first.mean is None or second.mean is None:
        return first.mean is not None
    return first.mean < second.mean if direction == "lower" else first.mean > second.mean


def _outcome(difference: float, p_value: float, direction: str) -> Outcome:
    if not p_value < LEVEL:
        return "INCONCLUSIVE"
    return "BEATS" if (difference < 0) == (direction == "lower") else "LOSES"

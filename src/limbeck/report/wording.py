"""The words of a report: labels, units, and the verdict in one sentence, made from numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from limbeck.report.numbers import decimals, number
from limbeck.report.result import ArmResult, Result, Verdict
from limbeck.report.statistics import base_name, better

ACRONYMS = {"fid", "rfid", "kid", "is", "psnr", "ssim", "ms", "lpips", "mse", "auc", "nll", "ece", "kl", "f1"}
SPELT = {"iou": "IoU", "miou": "mIoU"}
LATENCY = "latency_ms_batch1"
COST_LABELS = {
    "parameters": "Parameters",
    "macs": "MACs / image",
    "file_bytes": "File",
    LATENCY: "Latency, batch 1",
    "images_per_second": "Images / s",
    "peak_memory_bytes": "Peak memory",
    "cpu_percent": "CPU use",
    "train_seconds": "Training",
}


def metric_label(metric: str) -> str:
    """Return a heading for a metric: "FID" of "fid[fashion-cnn]", "precision" of "precision"."""
    words = base_name(metric).split("_")
    return " ".join(word.upper() if word in ACRONYMS else SPELT.get(word, word) for word in words)


def metric_features(metric: str) -> str:
    """Return the features that a metric looks through: "fashion-cnn" of "fid[fashion-cnn]", else ""."""
    return metric.partition("[")[2].rstrip("]")


def metric_name(metric: str) -> str:
    """Return a metric as a sentence names it, its features with it: "FID [fashion-cnn]", "precision"."""
    features = metric_features(metric)
    return f"{metric_label(metric)} [{features}]" if features else metric_label(metric)


def cost_label(cost: str) -> str:
    """Return a heading for a cost."""
    return COST_LABELS.get(cost, cost.replace("_", " "))


def cost_text(cost: str, value: float | None) -> str:
    """Return a cost with its unit, which is in its name: "30.6 k", "1.2 ms", "120 KiB", "3 min 20 s"."""
    if value is None:
        return "–"
    if "_bytes" in cost:
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB"))
    if "_ms" in cost:
        return f"{number(value)} ms"
    if cost.endswith("_percent"):
        return f"{value:.0f} %"
    if cost.endswith("_seconds"):
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds:02d} s" if minutes else f"{number(value)} s"
    return _scaled(value, 1000, ("", "k", "M", "G", "T"))


def spread_text(arm: ArmResult, cost: str) -> str:
    """Return the quartiles of a cost that is a median of many measurements, "0.91 ms to 1.30 ms", else ""."""
    return " to ".join(cost_text(cost, end) for end in arm.spread.get(cost, ()))


def times(ratio: float) -> str:
    """Return a ratio as one says it: "18×", "1.3×"."""
    return f"{ratio:.0f}×" if ratio >= 9.95 else f"{ratio:.1f}×"


def main_metric_of(result: Result, main_metric: str) -> str | None:
    """Return the full name of the main metric among the metrics of the result, or None when it was not measured."""
    # Of the students first: not every arm can be measured in every way, and the run is about them.
    order = dict.fromkeys([*result.named("student"), *result.named("control"), *result.arms])
    everything = [metric for name in order for metric in result.arms[name].quality]
    return next((metric for metric in everything if base_name(metric) == main_metric), None)


def headline(result: Result, main_metric: str, direction: str) -> str:
    """Return the outcome of a run in one sentence.

    Args:
        result: What the run found.
        main_metric: Base name of the metric that the run is about, e.g. "fid".
        direction: "lower" or "higher": which is better.
    """
    metric = main_metric_of(result, main_metric)
    students = [name for name in result.named("student") if metric in result.arms[name].quality]
    if metric is None or not students:
        return "No student was measured, so there is nothing to tell yet."
    if len(students) > 1:
        return _many(result, metric, students, direction)
    parts = [*gains(result, students[0]), _quality_against_teacher(result, metric, students[0])]
    sentence = ", ".join(parts) + _without_teacher(result, metric, students[0])
    spelt = not sentence.split()[0].islower()  # "mIoU" begins as it is
    return (sentence if spelt else sentence[0].upper() + sentence[1:]) + "."


def gains(result: Result, student: str) -> list[str]:
    """Return what the student saves of its teacher's parameters and latency, or fails to: "18× smaller", "no faster".

    Nothing is said of a speed that the machine was too busy to tell.
    """
    teachers = result.named("teacher")
    if not teachers:
        return []
    teacher, ours = result.arms[teachers[0]], result.arms[student]
    size, speed = _ratio(teacher, ours, "parameters"), _ratio(teacher, ours, LATENCY)
    texts = []
    if size is not None:
        texts.append(_gain(size, "smaller", "larger", "no smaller"))
    if speed is not None and max(speed, 1 / speed) > _noise(result) and not _overlap(teacher, ours):
        texts.append(_gain(speed, "faster", "slower", "no faster"))
    return texts


def verdict_of(result: Result, metric: str, student: str) -> Verdict | None:
    """Return the verdict on a student, or None when it has no control."""
    return next((v for v in result.verdicts if v.metric == metric and v.student == student), None)


def explain(verdict: Verdict, seeds: int) -> str:
    """Return what a verdict means, with its numbers."""
    label = metric_name(verdict.metric)
    if verdict.verdict == "NONE" or verdict.interval95 is None or verdict.student_minus_control is None:
        return f"No verdict on {label}: {verdict.reason}. Any difference seen here may be chance."
    numbers = (
        f"student minus control is {number(verdict.student_minus_control)} {label}"
        f" (95 % interval {interval_text(verdict)} over {seeds} seeds; p = "
        + (f"{verdict.p_value:.2g})" if verdict.p_holm is None else f"{verdict.p_holm:.2g} after Holm's correction)")
    )
    meaning = {
        "BEATS": "The teacher helps",
        "LOSES": "The teacher does harm: the same student alone is better",
        "INCONCLUSIVE": "Whether the teacher helps is not shown: chance explains the difference as well",
    }[verdict.verdict]
    return f"{meaning}; {numbers}."


def interval_text(verdict: Verdict) -> str:
    """Return the interval of a verdict: "−25.1 to −22.2"."""
    if verdict.interval95 is None or verdict.student_minus_control is None:
        return "–"
    places = decimals(verdict.student_minus_control)
    return " to ".join(number(end, places) for end in verdict.interval95)


def corrections(verdicts: Sequence[Verdict]) -> str:
    """Return what verdicts that stand side by side are corrected for, and what not; "" of a single one."""
    students = any(verdict.p_holm is not None for verdict in verdicts)
    metrics = len({verdict.metric for verdict in verdicts}) > 1
    if students:
        text = "Verdicts and p-values are corrected for the number of students (Holm); intervals are not"
        return f"{text}, and nothing is for that of metrics." if metrics else f"{text}."
    return "Nothing is corrected for the number of metrics." if metrics else ""


def _quality_against_teacher(result: Result, metric: str, student: str) -> str:
    text = f"{metric_name(metric)} {_mean(result.arms[student], metric)}"
    teachers = [name for name in result.named("teacher") if metric in result.arms[name].quality]
    return f"{text} against the teacher's {_mean(result.arms[teachers[0]], metric)}" if teachers else text


def _without_teacher(result: Result, metric: str, student: str) -> str:
    verdict = verdict_of(result, metric, student)
    if verdict is None:
        return "; without a control arm, what the teacher brings is unknown"
    text = f"; without the teacher the same student reaches {_mean(result.arms[verdict.control], metric)}"
    return (
        text
        + {
            "BEATS": "",
            "LOSES": ", which is better",
            "INCONCLUSIVE": f", a difference that {len(result.seeds)} seeds cannot tell from chance",
            "NONE": f" (no verdict: {verdict.reason})",
        }[verdict.verdict]
    )


def _many(result: Result, metric: str, students: list[str], direction: str) -> str:
    best = worst = students[0]
    for name in students[1:]:
        ours = result.arms[name].quality[metric]
        best = name if better(ours, result.arms[best].quality[metric], direction) else best
        worst = worst if better(ours, result.arms[worst].quality[metric], direction) else name
    spread = (
        f"{metric_name(metric)} from {_mean(result.arms[best], metric)} ({best})"
        f" to {_mean(result.arms[worst], metric)} ({worst})"
    )
    teachers = [name for name in result.named("teacher") if metric in result.arms[name].quality]
    against = f" against the teacher's {_mean(result.arms[teachers[0]], metric)}" if teachers else ""
    return f"{len(students)} students, {spread}{against}: {_tally(result, metric, students)}."


def _tally(result: Result, metric: str, students: list[str]) -> str:
    """Return how many of the students have which verdict, such as "2 beat their control, 1 is inconclusive"."""
    outcomes = [v.verdict for name in students if (v := verdict_of(result, metric, name)) is not None]
    counted = {
        ("beats its control", "beat their control"): outcomes.count("BEATS"),
        ("loses to its control", "lose to their control"): outcomes.count("LOSES"),
        ("is inconclusive", "are inconclusive"): outcomes.count("INCONCLUSIVE"),
        ("has no verdict", "have no verdict"): len(students) - len(outcomes) + outcomes.count("NONE"),
    }
    return ", ".join(f"{count} {one if count == 1 else many}" for (one, many), count in counted.items() if count)


def _mean(arm: ArmResult, metric: str) -> str:
    quality = arm.quality.get(metric)
    if quality is None:
        return "unmeasured"
    return quality.texts()[0]


def _ratio(teacher: ArmResult, student: ArmResult, cost: str) -> float | None:
    above, below = teacher.cost.get(cost), student.cost.get(cost)
    return above / below if above and below else None


def _noise(result: Result) -> float:
    """Return the factor by which latencies of equal networks differ, as a student's and its control's; at least 1."""
    sized = [arm for arm in result.arms.values() if arm.cost.get("macs")]
    equal = [
        (a, b) for a, b in combinations(sized, 2) if all(a.cost[c] == b.cost.get(c) for c in ("macs", "parameters"))
    ]
    ratios = [ratio for a, b in equal if (ratio := _ratio(a, b, LATENCY))]
    return max([1.0, *ratios, *(1 / ratio for ratio in ratios)])


def _overlap(first: ArmResult, second: ArmResult) -> bool:
    """Return whether the middle halves of two arms' latencies have times in common; False where they were not noted."""
    if LATENCY not in first.spread or LATENCY not in second.spread:
        return False
    (low, high), (other_low, other_high) = first.spread[LATENCY], second.spread[LATENCY]
    return low <= other_high and other_low <= high


def _gain(ratio: float, gained: str, lost: str, neither: str) -> str:
    if ratio >= 1.05:
        return f"{times(ratio)} {gained}"
    return f"{times(1 / ratio)} {lost}" if ratio <= 1 / 1.05 else neither


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= step and power < len(units) - 1:
        value, power = value / step, power + 1
    text = f"{value:.0f}" if power == 0 and value == round(value) else number(value)
    return f"{text} {units[power]}".rstrip()

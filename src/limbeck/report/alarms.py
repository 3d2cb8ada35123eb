"""What a reader has to know before the numbers: what went wrong in training, what cannot have taught or learnt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from limbeck.report.result import ArmResult, Result
from limbeck.report.statistics import better
from limbeck.report.wording import LATENCY, main_metric_of, metric_name

MUCH_LONGER = 10  # times


def alarms(result: Result) -> list[str]:
    """Return what is wrong with the arms of a result and with their comparison, a line each."""
    return [*(alarm for arm in result.arms.values() for alarm in arm.alarms), *_cautions(result)]


def raised(
    result: Result, main_metric: str, direction: str, chance: Mapping[str, float], told: Collection[str] = ()
) -> Result:
    """Return the result with an alarm for each arm that has nothing to teach, or has learnt nothing.

    Args:
        result: What the run found.
        main_metric: Base name of the metric that the run is about.
        direction: "lower" or "higher": what is better; with "none" a teacher is not compared.
        chance: What is reached without looking at an image (`Task.chance`), by metric.
        told: Names of baselines that are told the truth, or a part of it.
    """
    found = {name: [*_at_chance(result, name, chance)] for name in result.arms}
    metric = main_metric_of(result, main_metric)
    for name in result.named("teacher"):
        found[name] += _no_better(result, name, metric, direction, told)
    arms = {name: replace(arm, alarms=(*arm.alarms, *found[name])) for name, arm in result.arms.items()}
    return replace(result, arms=arms)


def _at_chance(result: Result, name: str, chance: Mapping[str, float]) -> Iterator[str]:
    arm = result.arms[name]
    if arm.role not in ("teacher", "control", "student"):
        return
    for metric, level in chance.items():
        quality = arm.quality.get(metric)
        if quality is not None and quality.mean is not None and quality.mean <= level:
            reached = f"{name}: {metric_name(metric)} {quality.texts()[0]}"
            yield f"{reached} is what the same answer to every image would reach: it has learnt nothing"


def _no_better(
    result: Result, teacher: str, metric: str | None, direction: str, told: Collection[str]
) -> Iterator[str]:
    arm = result.arms[teacher]
    ours = arm.quality.get(metric or "")
    if metric is None or ours is None or ours.mean is None or direction == "none":
        return
    ahead = [
        f"{name} ({rival.quality[metric].texts()[0]})"
        for name, rival in result.arms.items()
        if rival.role in ("control", "baseline") and name not in told and not _takes_its_time(rival, arm)
        if metric in rival.quality and better(rival.quality[metric], ours, direction)
    ]
    if ahead:
        reached = f"{teacher}: {metric_name(metric)} {ours.texts()[0]}"
        yield f"{reached} is worse than what needs no teacher, {', '.join(ahead)}: it may have nothing to teach"


def _takes_its_time(rival: ArmResult, teacher: ArmResult) -> bool:
    """Return whether a rival takes so much longer for an image, as an optimisation does, that it may well be better."""
    ours, theirs = teacher.cost.get(LATENCY), rival.cost.get(LATENCY)
    return bool(ours and theirs and theirs > MUCH_LONGER * ours)


def _cautions(result: Result) -> list[str]:
    """Return what makes a comparison of this result unfair, a sentence each."""
    tried = result.budget.settings_tried
    ours, theirs = tried.get("student", 0), tried.get("control", 0)
    pairs = dict.fromkeys((verdict.student, verdict.control) for verdict in result.verdicts)
    return [
        f"{control} had {theirs} settings tried and {student} {ours}: what the student gains may come from its tuning."
        for student, control in pairs
        if ours > theirs
    ]

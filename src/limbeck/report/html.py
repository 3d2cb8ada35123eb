"""The report of a run: one self-contained HTML file; opens offline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from limbeck.errors import LimbeckError
from limbeck.ground.files import write_atomically
from limbeck.report import plots
from limbeck.report.alarms import alarms
from limbeck.report.grids import data_uri, grids, over_time
from limbeck.report.meanings import meaning
from limbeck.report.numbers import number
from limbeck.report.result import Quality, Result
from limbeck.report.statistics import base_name, better
from limbeck.report.wording import (
    corrections,
    cost_label,
    cost_text,
    explain,
    headline,
    interval_text,
    main_metric_of,
    metric_features,
    metric_label,
    spread_text,
    verdict_of,
)
from limbeck.tasks.base import Picture

ORDER = ("teacher", "control", "student", "baseline", "floor")
ARROWS = {"lower": "↓", "higher": "↑"}


@dataclass(frozen=True)
class Cell:
    """A cell of a table of arms.

    Attributes:
        text: What it says.
        note: Small print beneath.
        best: Whether it is the best of the students and controls.
    """

    text: str
    note: str = ""
    best: bool = False


def write_report(
    path: Path,
    result: Result,
    pictures: Mapping[str, Sequence[Picture]],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    recipe_yaml: str,
    *,
    moments: Mapping[str, Sequence[Mapping[str, Any]]],
    directions: Mapping[str, str],
    main_metric: str,
    command: str,
    title: str = "",
) -> None:
    """Write the report of a run as one self-contained HTML file, whole or not at all.

    Args:
        path: Where to.
        result: What the run found; its verdicts are shown as they are, its students in the order of the main metric,
            its alarms on top.
        pictures: Pictures by arm; those with the same title stand side by side.
        histories: Rows of training by arm, e.g. {"step": 10, "discriminator.real_fake": 0.7, "fid[cnn]": 20.1}: keys
            with a "player.loss" are losses, keys whose base name has a direction are validation metrics.
        recipe_yaml: The recipe as it was run.
        moments: What arms made at some steps of their training, as {"step": 10, "samples": (N, C, H, W) of uint8}.
        directions: "lower", "higher" or "none" by base name of a metric (`Task.directions`).
        main_metric: Base name of the metric that the run is about (`Task.main_metric`).
        command: The command that makes this run again.
        title: Heading; the recipe's name when empty.

    Raises:
        LimbeckError: The file could not be written.
    """
    page = _environment().get_template("template.html")
    metric = main_metric_of(result, main_metric)
    direction = directions[main_metric]
    result = _ranked(result, metric, direction)
    colours = plots.arm_colours(result)
    html = page.render(
        title=title or str(result.recipe.get("name", "Limbeck run")),
        headline=headline(result, main_metric, direction),
        verdicts=_main_verdicts(result, metric),
        corrections=corrections(result.verdicts),
        all_verdicts=_verdict_rows(result, metric, directions),
        alarms=alarms(result),
        result=result,
        arms=_arm_names(result),
        colours=colours,
        quality=_quality_table(result, metric, directions),
        cost=_cost_table(result),
        grids=grids(_arm_names(result), pictures),
        tradeoff=_tradeoff(result, metric, colours, direction),
        losses=_losses(histories, colours),
        progress=_progress(histories, colours, directions),
        over_time=over_time(moments),
        recipe_yaml=recipe_yaml.strip(),
        date=f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}".lstrip("0"),
        command=command,
    )
    try:
        write_atomically(path, html.encode())
    except OSError as error:
        raise LimbeckError(f"{path}: could not be written ({error.strerror}); choose another folder") from error


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("limbeck.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _arm_names(result: Result) -> list[str]:
    return sorted(result.arms, key=lambda name: ORDER.index(result.arms[name].role))


def _ranked(result: Result, metric: str | None, direction: str) -> Result:
    """Return the result with the best of its students first; those without the metric stay last."""
    if metric is None or direction == "none":
        return result

    def place(name: str) -> float:
        quality = result.arms[name].quality.get(metric)
        mean = None if quality is None else quality.mean
        return math.inf if mean is None else -mean if direction == "higher" else mean

    students = sorted(result.named("student"), key=place)
    others = [name for name in result.arms if name not in students]
    return replace(result, arms={name: result.arms[name] for name in [*others, *students]})


def _main_verdicts(result: Result, metric: str | None) -> list[dict[str, str]]:
    """Return the verdict of each student on the main metric, in words."""
    found = []
    for student in result.named("student"):
        verdict = None if metric is None else verdict_of(result, metric, student)
        if verdict is None:
            text = "No control arm was run: the same student, budget and seed without the teacher."
            found.append({"student": student, "verdict": "NONE", "text": text})
        else:
            text = explain(verdict, len(result.seeds))
            found.append({"student": student, "verdict": verdict.verdict, "text": text})
    return found


def _verdict_rows(result: Result, metric: str | None, directions: Mapping[str, str]) -> list[dict[str, str]]:
    rows = []
    for verdict in sorted(result.verdicts, key=lambda v: v.metric != metric):
        arrow = ARROWS.get(directions[base_name(verdict.metric)], "")
        difference = verdict.student_minus_control
        p_value = verdict.p_value if verdict.p_holm is None else verdict.p_holm
        rows.append(
            {
                "metric": f"{metric_label(verdict.metric)} {arrow}",
                "features": metric_features(verdict.metric),
                "pair": f"{verdict.student} – {verdict.control}",
                "verdict": verdict.verdict,
                "difference": verdict.reason if difference is None else number(difference),
                "interval": interval_text(verdict) if verdict.interval95 else verdict.reason,
                "p": "–" if p_value is None else f"{p_value:.2g}",
            }
        )
    return rows


def _quality_table(result: Result, main: str | None, directions: Mapping[str, str]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(metric for name in _arm_names(result) for metric in result.arms[name].quality))
    metrics.sort(key=lambda metric: (metric != main, directions[base_name(metric)] == "none"))
    heads = [
        {
            "label": f"{metric_label(m)}\u00a0{ARROWS.get(directions[base_name(m)], '')}".strip(),
            "note": metric_features(m),
        }
        for m in metrics
    ]
    best = {metric: _best_arm(result, metric, directions[base_name(metric)]) for metric in metrics}
    rows = {
        name: [_quality_cell(arm.quality.get(metric), best=name == best[metric]) for metric in metrics]
        for name, arm in result.arms.items()
    }
    chosen = {
        name: {
            "label": f"best on validation, {_steps(arm.best.steps)}",
            "cells": [_quality_cell(arm.best.quality.get(metric)) for metric in metrics],
        }
        for name, arm in result.arms.items()
        if arm.best is not None
    }
    return {"heads": heads, "rows": rows, "chosen": chosen, "meanings": _meanings(metrics)}


def _meanings(metrics: Sequence[str]) -> dict[str, str]:
    """Return what the metrics mean, a sentence each, by their label."""
    return {metric_label(metric): text for metric in metrics if (text := meaning(metric))}


def _steps(steps: Sequence[int]) -> str:
    """Return e.g. "step 500", or "steps 500 to 900"."""
    first, last = min(steps), max(steps)
    return f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"


def _best_arm(result: Result, metric: str, direction: str) -> str | None:
    """Return the best of the students and controls; None when there is no contest."""
    rivals = [n for n, a in result.arms.items() if a.role in ("control", "student") and metric in a.quality]
    if direction == "none" or len(rivals) < 2:
        return None
    best = rivals[0]
    for name in rivals[1:]:
        if better(result.arms[name].quality[metric], result.arms[best].quality[metric], direction):
            best = name
    return best if result.arms[best].quality[metric].mean is not None else None


def _quality_cell(quality: Quality | None, *, best: bool = False) -> Cell:
    if quality is None:
        return Cell("–")
    mean, deviation = quality.texts()
    return Cell(mean, f"± {deviation}" if deviation else "", best=best)


def _cost_table(result: Result) -> dict[str, Any]:
    costs = list(dict.fromkeys(cost for name in _arm_names(result) for cost in result.arms[name].cost))
    rows = {
        name: [Cell(cost_text(c, arm.cost.get(c)), spread_text(arm, c)) for c in costs]
        for name, arm in result.arms.items()
        if arm.cost
    }
    return {"heads": [{"label": cost_label(cost), "note": ""} for cost in costs], "rows": rows, "chosen": {}}


def _tradeoff(result: Result, metric: str | None, colours: Mapping[str, str], direction: str) -> str | None:
    costs = [] if metric is None else plots.plottable_costs(result, metric)
    if metric is None or not costs:
        return None
    return data_uri(plots.quality_against_cost(result, metric, costs, colours, direction), "image/svg+xml")


def _losses(histories: Mapping[str, Sequence[Mapping[str, Any]]], colours: Mapping[str, str]) -> str | None:
    keys = sorted(key for key in _keys(histories) if "." in key and "[" not in key)
    return data_uri(plots.curves(histories, keys, colours, {}), "image/svg+xml") if keys else None


def _progress(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], colours: Mapping[str, str], directions: Mapping[str, str]
) -> str | None:
    often = _often(histories)
    keys = [key for key in _keys(histories) if key in often and directions.get(base_name(key)) in ARROWS]
    titles = {key: f"{metric_label(key)} {ARROWS[directions[base_name(key)]]}  {metric_features(key)}" for key in keys}
    return data_uri(plots.curves(histories, keys, colours, titles), "image/svg+xml") if keys else None


def _often(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> set[str]:
    """Return what an arm was measured by more than once: one point is no curve."""
    counted = (Counter(key for row in rows for key in row) for rows in histories.values())
    return {key for count in counted for key, times in count.items() if times > 1}


def _keys(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(key for rows in histories.values() for row in rows for key in row if key != "step"))

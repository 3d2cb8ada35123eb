"""The story of a run: teacher, control, student; evaluate; report."""

from __future__ import annotations

from pathlib import Path

from limbeck.export.base import Format
from limbeck.export.safetensors import Safetensors
from limbeck.ground.files import clear_half_written
from limbeck.ground.locks import held
from limbeck.ground.progress import say
from limbeck.ground.sources import one_reading
from limbeck.networks.roles import unwrap
from limbeck.recipe.reader import Recipe
from limbeck.report.alarms import alarms, raised
from limbeck.report.html import write_report
from limbeck.report.result import Result
from limbeck.report.wording import headline, main_metric_of
from limbeck.run.assessing import assess
from limbeck.run.earlier import keep_earlier
from limbeck.run.preparing import Run, prepare
from limbeck.tasks.base import Task

FORMAT: Format = Safetensors()  # in which every run writes its students


def run(recipe: Recipe, out: Path, *, arms: Path | None = None, accelerator: str = "auto", command: str = "") -> Result:
    """Train what is not trained yet, evaluate every arm alike, and write `result.json` and `report.html` to `out`.

    Args:
        recipe: What to run.
        out: Folder of the run.
        arms: Folder of the arms, which several runs can share; `out/arms` by default.
        accelerator: "auto", "cpu", "cuda" or "mps".
        command: How to make this run again; shown in the report.

    Raises:
        LimbeckError: Anything in recipe, data or weights that cannot be used; `Interrupted` if asked to stop.
    """
    with one_reading():
        return _told(recipe, out, arms, accelerator, command)


def _told(recipe: Recipe, out: Path, arms: Path | None, accelerator: str, command: str) -> Result:
    prepared = prepare(recipe, out, arms, accelerator)
    for arm in (arm for group in prepared.arms().values() for arm in group):
        arm.fit()
    with held(out / ".lock", f"report in {out}"):  # of two runs in a folder, each writes all of its files
        result = _with_alarms(assess(prepared), prepared)
        _write(prepared, result, out, command)
    return result


def _write(prepared: Run, result: Result, out: Path, command: str) -> None:
    """Write the result, the students and the report; what another recipe has left there is kept beside them."""
    for written in ("result.json", "report.html", f"*{FORMAT.suffix}"):
        clear_half_written(out, written)
    keep_earlier(out, result)
    result.write(out / "result.json")
    _export(prepared, out)
    _report(prepared, result, out, command)


def _main_metric(result: Result, task: Task) -> str:
    """Return the metric that the verdict is about: the task's, or without features for it another that was measured."""
    judged = (name for name, direction in task.directions.items() if direction != "none")
    return next((m for m in (task.main_metric, *judged) if main_metric_of(result, m)), task.main_metric)


def _with_alarms(result: Result, prepared: Run) -> Result:
    task = prepared.setting.task
    metric = _main_metric(result, task)
    told = [name for name, network in prepared.baselines.items() if getattr(unwrap(network), "oracle", False)]
    return raised(result, metric, task.directions[metric], task.chance(prepared.setting.data), told)


def _export(prepared: Run, out: Path) -> None:
    """Write the student of every name, that of the first seed."""
    example = prepared.setting.task.example(prepared.setting.data, 1)
    for name, (first, *_) in prepared.students.items():
        FORMAT.write(first.network(), example, out / f"{name}{FORMAT.suffix}")


def _report(prepared: Run, result: Result, out: Path, command: str) -> None:
    task, data = prepared.setting.task, prepared.setting.data
    firsts = {name: group[0] for name, group in prepared.arms().items()}
    device = prepared.setting.device
    metric = _main_metric(result, task)
    pictures = {name: task.preview(arm.answering.to(device), data, 0) for name, arm in firsts.items()}
    pictures |= {name: task.preview(network, data, 0) for name, network in prepared.baselines.items()}
    write_report(
        out / "report.html",
        result,
        {**pictures, **task.references(data, 0)},
        {name: arm.history for name, arm in firsts.items()},
        prepared.recipe.to_yaml(),
        moments={name: arm.moments for name, arm in firsts.items()},
        directions=task.directions,
        main_metric=metric,
        command=command,
    )
    for alarm in alarms(result):
        say(f"alarm: {alarm}")
    say(headline(result, metric, task.directions[metric]))
    say(f"report: {out / 'report.html'}")

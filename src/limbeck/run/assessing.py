"""What a run found: quality and cost of every arm, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from limbeck.ground.progress import say
from limbeck.metrics.cost import Cost, costs
from limbeck.recipe.reader import canonical
from limbeck.report.machine import hardware, versions
from limbeck.report.result import ArmResult, Best, Budget, DataUsed, Quality, Result, Role
from limbeck.report.statistics import judge
from limbeck.run.arm import Arm
from limbeck.run.evaluation import evaluate
from limbeck.run.preparing import Run


def assess(prepared: Run) -> Result:
    """Return quality and cost of every arm, and the verdicts."""
    recipe, setting = prepared.recipe, prepared.setting
    data, task = setting.data, setting.task
    spent = _costs(prepared)
    results: dict[str, ArmResult] = {}
    for name, group in prepared.arms().items():
        role: Role = "teacher" if name == "teacher" else "student" if name in prepared.students else "control"
        results[name] = _measured(role, group, prepared, spent[name])
    for name, network in prepared.baselines.items():
        quality = task.evaluate(network, data, split=data.reference_split, seed=0, extractor=prepared.extractor)
        measured = {metric: Quality.of([value]) for metric, value in quality.items()}
        results[name] = ArmResult("baseline", measured, spent[name].values, spread=spent[name].spread)
    if floor := task.floor(data, extractor=prepared.extractor):
        results["floor"] = ArmResult("floor", {name: Quality.of([value]) for name, value in floor.items()})
    return Result(
        recipe=recipe.tree,
        recipe_hash=canonical(recipe.tree),
        data=DataUsed(data.name, data.split(data.reference_split).fingerprint(), data.reference_split),
        seeds=recipe.seeds,
        budget=Budget(_steps(prepared), recipe.settings_tried),
        arms=results,
        verdicts=judge(results, list(prepared.control_of.items()), task.directions),
        versions=versions(),
        hardware=hardware(prepared.setting.device.type),
    )


def _measured(role: Role, group: list[Arm], prepared: Run, spent: Cost) -> ArmResult:
    """Return what an arm of several seeds reached, and what it cost."""
    teacher = None if role == "teacher" else prepared.teacher
    alarms = tuple(line for arm in group for line in arm.alarms) + _shorter_control(prepared, group[0])
    machines = tuple(dict.fromkeys(machine for arm in group for machine in arm.machines))
    quality, best = _quality(group, prepared, teacher), _best(group, prepared, teacher)
    cost, curves = spent.values | _train_seconds(group), _curves(group[0].history)
    return ArmResult(role, quality, cost, curves, best, alarms, machines, spent.spread)


def _train_seconds(group: list[Arm]) -> dict[str, float | None]:
    """Return the mean time of training, of an arm that was trained."""
    seconds = [arm.seconds for arm in group if arm.seconds is not None]
    return {"train_seconds": fmean(seconds)} if seconds else {}


def _best(group: list[Arm], prepared: Run, teacher: Arm | None) -> Best | None:
    """Return what the checkpoints reach that were best on validation; None where these are the last of every seed."""
    if not any(arm.best_step for arm in group):
        return None
    steps = tuple(arm.best_step or int(arm.state["step"]) for arm in group)
    return Best(steps, _quality(group, prepared, teacher, best=True))


def _shorter_control(prepared: Run, student: Arm) -> tuple[str, ...]:
    """Return a warning when the control of a student saw fewer images than the student did."""
    control = prepared.control_of.get(student.name)
    pair = [arm.recipe.training for arm in (student, *(prepared.arms()[control][:1] if control else []))]
    seen = [training.steps * training.batch for training in pair if training is not None]
    if len(seen) < 2 or seen[1] >= seen[0]:
        return ()
    return (f"{control} saw {seen[1]:,} images in its training, {student.name} {seen[0]:,}: no fair comparison",)


def _quality(group: list[Arm], prepared: Run, teacher: Arm | None, *, best: bool = False) -> dict[str, Quality]:
    found = [evaluate(arm, prepared.extractor, teacher, best=best) for arm in group]
    return {name: Quality.of([metrics[name] for metrics in found]) for name in found[0]}


def _costs(prepared: Run) -> dict[str, Cost]:
    """Return what the first arm of every name and every baseline cost, all timed in turns."""
    data, task, device = prepared.setting.data, prepared.setting.task, prepared.setting.device
    networks = {name: task.ready(group[0].network()).to(device) for name, group in prepared.arms().items()}
    networks |= prepared.baselines
    say(f"measuring the costs of {', '.join(networks)}")
    return costs(networks, lambda count: tuple(part.to(device) for part in task.example(data, count)))


def _steps(prepared: Run) -> int:
    trainings = (group[0].recipe.training for group in prepared.students.values())
    return max((training.steps for training in trainings if training is not None), default=0)


def _curves(history: Iterable[Mapping[str, float]]) -> dict[str, list[tuple[int, float | None]]]:
    curves: dict[str, list[tuple[int, float | None]]] = {}
    for row in history:
        for name, value in row.items():
            if name != "step":
                curves.setdefault(name, []).append((int(row["step"]), value))
    return curves

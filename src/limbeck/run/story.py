"""The story of a run: teacher, control, student; evaluate; report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from limbeck.data.base import Data
from limbeck.errors import DataError, LimbeckError, RecipeError
from limbeck.ground.progress import say
from limbeck.ground.randomness import generator
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.cost import costs
from limbeck.metrics.features import ClassifierFeatures
from limbeck.networks.given.external import unwrap
from limbeck.networks.given.weights import save_weights
from limbeck.networks.roles import Fitted
from limbeck.recipe.reader import FeatureArm, Recipe, canonical
from limbeck.report.html import write_report
from limbeck.report.machine import hardware, versions
from limbeck.report.result import ArmResult, Best, Budget, DataUsed, Quality, Result, Role
from limbeck.report.statistics import judge
from limbeck.report.wording import headline, main_metric_of
from limbeck.run.arm import Arm, Setting
from limbeck.tasks.base import Task
from limbeck.tasks.classification import Classification
from limbeck.training.options import device_of


@dataclass(frozen=True)
class Story:
    """The arms of a run, built but not yet trained.

    Attributes:
        recipe: What to run.
        setting: What the arms share.
        features: What distribution metrics compare by, or None.
        teacher: The teacher, or None.
        controls: For each name of a control, one arm a seed.
        students: For each name of a student, one arm a seed.
        control_of: The name of the control of each student that has one.
    """

    recipe: Recipe
    setting: Setting
    features: FeatureExtractor | None
    teacher: Arm | None
    controls: Mapping[str, list[Arm]]
    students: Mapping[str, list[Arm]]
    control_of: Mapping[str, str]

    def arms(self) -> dict[str, list[Arm]]:
        """Return all arms by name, in the order in which they train."""
        teacher = {"teacher": [self.teacher]} if self.teacher else {}
        return {**teacher, **self.controls, **self.students}

    @cached_property
    def baselines(self) -> dict[str, nn.Module]:
        """The recipe's baselines by name, ready to be called, fitted to training images where they need that."""
        task, data, device = self.setting.task, self.setting.data, self.setting.device
        parts = self.recipe.baselines.items()
        return {name: task.ready(_fitted(part.build(), data)).to(device).eval() for name, part in parts}


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
    recipe.rehearse()
    story = tell(recipe, out, arms, accelerator)
    for arm in (arm for group in story.arms().values() for arm in group):
        arm.fit()
    result = judged(story)
    result.write(out / "result.json")
    for name, (first, *_) in story.students.items():
        save_weights(unwrap(first.network()), out / f"{name}.safetensors")
    _report(story, result, out, command)
    return result


def tell(recipe: Recipe, out: Path, arms: Path | None = None, accelerator: str = "auto") -> Story:
    """Return the arms of a recipe; only the feature network, by which the others are measured, is trained."""
    device = device_of(accelerator).type
    most = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device)
    store = arms or out / "arms"
    setting = Setting(recipe.data.build(), recipe.task.build(), store, accelerator)
    count = len(setting.data.split("train"))
    for part in ("validation", setting.data.reference_split):
        setting.data.split(part)  # what is missing there would show at the end of a training
    for name, arm in recipe.arms().items():
        if arm.training is not None and arm.training.batch > count:
            found = f"found {arm.training.batch} and {count}; make the batch smaller"
            raise DataError(f"{name}: expected a training.batch of at most the number of training images, {found}")
        if arm.training is not None and most is not None and arm.training.processes > most:
            found = f"found {arm.training.processes}; make them fewer, or choose --accelerator cpu"
            raise RecipeError(f"{name}: expected at most {most} training.processes on {device}, one a device, {found}")
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LimbeckError(f"{store}: cannot be made ({error.strerror}); choose another folder with --out") from error
    features = measured_by(recipe, setting)
    first = recipe.seeds[0]
    teacher = Arm("teacher", recipe.teacher, setting, first, None, features) if recipe.teacher else None
    own = {id(student): name for name, student in recipe.students.items()}  # a control may be another student
    distinct = {id(control): control for control in recipe.controls.values() if id(control) not in own}
    names = {key: "control" if len(distinct) == 1 else f"control of {_students_of(recipe, key)}" for key in distinct}
    names |= own
    return Story(
        recipe,
        setting,
        features,
        teacher,
        {
            names[k]: [Arm(names[k], c, setting, seed, None, features) for seed in recipe.seeds]
            for k, c in distinct.items()
        },
        _students(recipe, setting, teacher, features),
        {name: names[id(control)] for name, control in recipe.controls.items()},
    )


def _students(
    recipe: Recipe, setting: Setting, teacher: Arm | None, features: FeatureExtractor | None
) -> dict[str, list[Arm]]:
    """Return the students; one that another student teaches learns from that one's arm of the same seed."""
    students: dict[str, list[Arm]] = {}
    for name, student in recipe.students.items():
        same = [teacher] * len(recipe.seeds)
        teachers = same if student.taught_by is None else students[student.taught_by]
        arms = zip(recipe.seeds, teachers, strict=True)
        students[name] = [Arm(name, student, setting, seed, taught_by, features) for seed, taught_by in arms]
    return students


def _students_of(recipe: Recipe, control: int) -> str:
    return ", ".join(name for name, arm in recipe.controls.items() if id(arm) == control)


def measured_by(recipe: Recipe, setting: Setting) -> FeatureExtractor | None:
    """Return what distribution metrics compare by: a classifier, trained here if need be, or a ready extractor."""
    if recipe.features is None:
        return None
    if isinstance(recipe.features, FeatureArm):
        labelled = replace(setting, task=Classification())
        arm = Arm(f"features {recipe.features.name}", recipe.features.arm, labelled, recipe.seeds[0]).fit()
        right = arm.evaluate(None, None)["top1"]
        say(f"{recipe.features.name}: {right:.1%} right on the {setting.data.reference_split} split")
        return ClassifierFeatures(arm.network(), recipe.features.name)
    return recipe.features.build()


def judged(story: Story) -> Result:
    """Return quality and cost of every arm, and the verdicts."""
    recipe, setting = story.recipe, story.setting
    data, task = setting.data, setting.task
    spent = _costs(story)
    results: dict[str, ArmResult] = {}
    for name, group in story.arms().items():
        role: Role = "teacher" if name == "teacher" else "student" if name in story.students else "control"
        results[name] = _measured(role, group, story, spent[name])
    for name, network in story.baselines.items():
        quality = task.evaluate(network, data, split=data.reference_split, seed=0, features=story.features)
        results[name] = ArmResult("baseline", {k: Quality.of([v]) for k, v in quality.items()}, spent[name])
    if floor := task.floor(data, features=story.features):
        results["floor"] = ArmResult("floor", {name: Quality.of([value]) for name, value in floor.items()})
    return Result(
        recipe=recipe.tree,
        recipe_hash=canonical(recipe.tree),
        data=DataUsed(data.name, data.split(data.reference_split).fingerprint(), data.reference_split),
        seeds=recipe.seeds,
        budget=Budget(_steps(story), recipe.settings_tried),
        arms=results,
        verdicts=judge(results, list(story.control_of.items()), task.directions),
        versions=versions(),
        hardware=hardware(story.setting.device.type),
    )


def _fitted(network: nn.Module, data: Data) -> nn.Module:
    """Return a baseline as it is, or if it needs that fitted to training images drawn once for all runs."""
    if isinstance(network, Fitted):
        say(f"fitting {type(network).__name__}")
        train = data.split("train")
        batch = train.read(torch.randperm(len(train), generator=generator(0, "fit"))[: network.train_images])
        truth: torch.Tensor | None = getattr(batch, network.truth)
        if batch.image is None or truth is None:
            what = f"{network.truth}s"
            raise DataError(f"{data.name}: expected images with {what}, found no {what}; choose a labelled set")
        network.fit(batch.image, truth)
    return network


def _measured(role: Role, group: list[Arm], story: Story, spent: dict[str, float | None]) -> ArmResult:
    if (seconds := [arm.seconds for arm in group if arm.seconds is not None]) != []:
        spent = {**spent, "train_seconds": fmean(seconds)}
    teacher = None if role == "teacher" else story.teacher
    best = None
    if any(arm.best_step for arm in group):
        steps = tuple(arm.best_step or int(arm.state["step"]) for arm in group)
        best = Best(steps, _quality(group, story, teacher, best=True))
    alarms = tuple(line for arm in group for line in arm.alarms) + _shorter_control(story, group[0])
    machines = tuple(dict.fromkeys(machine for arm in group for machine in arm.machines))
    return ArmResult(role, _quality(group, story, teacher), spent, _curves(group[0].history), best, alarms, machines)


def _shorter_control(story: Story, student: Arm) -> tuple[str, ...]:
    """Return a warning when the control of a student saw fewer images than the student did."""
    control = story.control_of.get(student.name)
    pair = [arm.recipe.training for arm in (student, *(story.arms()[control][:1] if control else []))]
    seen = [training.steps * training.batch for training in pair if training is not None]
    if len(seen) < 2 or seen[1] >= seen[0]:
        return ()
    return (f"{control} saw {seen[1]:,} images in its training, {student.name} {seen[0]:,}: no fair comparison",)


def _quality(group: list[Arm], story: Story, teacher: Arm | None, *, best: bool = False) -> dict[str, Quality]:
    found = [arm.evaluate(story.features, teacher, best=best) for arm in group]
    return {name: Quality.of([metrics[name] for metrics in found]) for name in found[0]}


def _costs(story: Story) -> dict[str, dict[str, float | None]]:
    """Return what the first arm of every name and every baseline cost, all timed in turns."""
    data, task, device = story.setting.data, story.setting.task, story.setting.device
    networks = {name: task.ready(group[0].network()).to(device) for name, group in story.arms().items()}
    networks |= story.baselines
    say(f"measuring the costs of {', '.join(networks)}")
    return costs(networks, lambda count: tuple(part.to(device) for part in task.example(data, count)))


def _steps(story: Story) -> int:
    trainings = (group[0].recipe.training for group in story.students.values())
    return max((training.steps for training in trainings if training is not None), default=0)


def _curves(history: Iterable[Mapping[str, float]]) -> dict[str, list[tuple[int, float | None]]]:
    curves: dict[str, list[tuple[int, float | None]]] = {}
    for row in history:
        for name, value in row.items():
            if name != "step":
                curves.setdefault(name, []).append((int(row["step"]), value))
    return curves


def _main_metric(result: Result, task: Task) -> str:
    """Return the metric that the verdict is about: the task's, or without features for it another that was measured."""
    judged = (name for name, direction in task.directions.items() if direction != "none")
    return next((m for m in (task.main_metric, *judged) if main_metric_of(result, m)), task.main_metric)


def _report(story: Story, result: Result, out: Path, command: str) -> None:
    task, data = story.setting.task, story.setting.data
    firsts = {name: group[0] for name, group in story.arms().items()}
    device = story.setting.device
    metric = _main_metric(result, task)
    pictures = {name: task.preview(arm.answering.to(device), data, 0) for name, arm in firsts.items()}
    pictures |= {name: task.preview(network, data, 0) for name, network in story.baselines.items()}
    write_report(
        out / "report.html",
        result,
        {**pictures, **task.references(data, 0)},
        {name: arm.history for name, arm in firsts.items()},
        story.recipe.to_yaml(),
        directions=task.directions,
        main_metric=metric,
        command=command,
    )
    say(headline(result, metric, task.directions[metric]))
    say(f"report: {out / 'report.html'}")

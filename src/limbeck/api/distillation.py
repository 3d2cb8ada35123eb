"""Distilling one's own model in five lines of Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.api.given import GivenData, check_answer, check_view, data_of, shape_of
from limbeck.api.options import check_terms, method_of, sorted_out, task_of
from limbeck.api.plan import Plan
from limbeck.errors import require
from limbeck.methods.base import Terms
from limbeck.metrics.base import FeatureExtractor
from limbeck.networks.given.weights import load_weights
from limbeck.recipe.needs import check_needs
from limbeck.recipe.parts import Part
from limbeck.recipe.plan import Recipe
from limbeck.run.story import run
from limbeck.tasks.base import Task
from limbeck.weighting.schedule import Schedule


def distill(
    teacher: nn.Module,
    student: nn.Module,
    data: GivenData,
    *,
    out: str | Path,
    task: Task | None = None,
    image_shape: Sequence[int] | None = None,
    method: str | None = None,
    terms: Terms | None = None,
    weights: Mapping[str, float | Schedule] | None = None,
    features: FeatureExtractor | None = None,
    steps: int = 3000,
    batch: int = 64,
    seeds: int = 1,
    control: bool = True,
    accelerator: str = "auto",
    **options: Any,
) -> nn.Module:
    """Distil `teacher` into `student` with its control arm, write the report to `out`, and return the student.

    Teacher and student are any modules that do the task: neither they nor their weights are changed, and the student
    that comes back is a trained copy. Before anything is trained they are called once with the data, and take a step.

    Args:
        teacher: The trained network.
        student: The network to train; its present weights are where it starts.
        data: A folder of images; a tensor of images (N, C, H, W), uint8 or floats in [-1, 1]; such a tensor with
            labels (N,), masks (N, H, W) or targets (N, C', H', W'), as (images, labels); or a data set.
        out: Folder of the run.
        task: What they are for, such as `Classification()`; without one they are generators, and `latent` is needed.
        image_shape: (C, H, W) that the images of a folder are to have, where the networks do not say.
        method: Name of the method; the task's own by default.
        terms: Terms that the student learns by, by "player.term", beside those of task and method or in their place;
            None takes one away.
        weights: Weights of terms, by "player.term"; those of the method otherwise.
        features: What distribution metrics (FID...) compare by, e.g. `InceptionFeatures(weights="...")`. Without it
            there are none.
        steps: Training steps.
        batch: Images a step.
        seeds: Runs of student and control; a verdict needs three.
        control: Train the control arm too.
        accelerator: "auto", "cpu", "cuda" or "mps".
        options: Of four kinds. How networks without a role of ours see images: `image_range`, such as (0, 1), or `mean`
            and `std`, and whatever else their role takes (see `networks.given.called_as`); networks that see them in
            other ways are wrapped, `Wrapped(teacher, "classifier", mean=..., std=...)`. Further networks of the method
            by its arguments, such as `discriminator` or `teacher_discriminator`; they see images in [-1, 1]. Further
            arguments of the method, such as `critic_steps`. Attributes of `Training`, such as `optimizers`, `ema` or
            `precision`. Without a task also `latent`, the shape of one latent, such as (128,), drawn from a standard
            normal, and what else `Generation` takes, such as `samples`.

    Raises:
        RecipeError: Shapes, names or values that do not fit.
        DataError: The data cannot be used.
    """
    task, rest = task_of(task, options)
    cls = method_of(method, task)
    given = sorted_out(rest, cls, task)
    networks = {"teacher": teacher, "student": student}
    for name, network in networks.items():
        require(f"distill: {name}", isinstance(network, nn.Module), "a torch.nn.Module", network)
    check_view(networks, given.view)
    check_terms(terms)
    require("distill: seeds", seeds >= 1, "a whole number of at least 1", seeds)
    good = features is None or isinstance(features, FeatureExtractor)
    require("distill: features", good, "a FeatureExtractor", features)

    images = data_of(data, image_shape, lambda: shape_of(networks.values(), task))
    check_needs(cls, task.gives(images), images)
    plan = Plan(task, images, cls, given, terms or {})
    for name, network in networks.items():
        check_answer(name, plan.part(network).build(), task, images)
    arm = plan.student(student, steps, batch, weights or {})
    recipe = Recipe(
        name=Path(out).name,
        data=Part({"class_path": type(images).__name__}, lambda: images),
        task=Part({"class_path": type(task).__name__}, lambda: task),
        students={"student": arm},
        seeds=tuple(range(seeds)),
        teacher=plan.teacher(teacher),
        controls={"control": plan.student(student, steps, batch, {})} if control else {},
        control_of={"student": "control"} if control else {},
        features=None if features is None else Part({"class_path": type(features).__name__}, lambda: features),
        tree={"name": Path(out).name, "teacher": type(teacher).__name__, **arm.description()},
    )
    arm.weigh()  # names a wrong loss
    run(recipe, Path(out), accelerator=accelerator, command=f"limbeck.distill(..., out={str(out)!r})")
    trained = deepcopy(student)
    load_weights(trained, Path(out) / "student.safetensors")
    return trained.eval()

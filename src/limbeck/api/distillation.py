"""Distilling one's own model in five lines of Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.api.data import GivenData, data_of
from limbeck.api.given import check_answer, check_view, described, described_task, path_of, shape_of
from limbeck.api.networks import bare, check_pair
from limbeck.api.optimizers import GivenOptimizer, Optimizers
from limbeck.api.options import check_features, check_terms, method_of, sorted_out, task_of, weights_of
from limbeck.api.plan import USUAL, Plan
from limbeck.api.reading import read
from limbeck.api.sending import check_sent
from limbeck.api.signature import with_options_of
from limbeck.data.base import Augmentation
from limbeck.errors import require
from limbeck.methods.base import Method, Terms
from limbeck.metrics.base import FeatureExtractor
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.copying import copied
from limbeck.recipe.needs import check_needs
from limbeck.recipe.parts import Part
from limbeck.recipe.plan import Recipe
from limbeck.run.story import run
from limbeck.tasks.base import Task
from limbeck.training.options import Training, device_of
from limbeck.weighting.schedule import Schedule


@with_options_of(Training, **USUAL)
def distill(
    teacher: nn.Module,
    student: nn.Module,
    data: GivenData,
    *,
    out: str | Path = "runs/distilled",
    task: Task | None = None,
    image_shape: Sequence[int] | None = None,
    validation: GivenData | float | None = None,
    test: GivenData | float | None = None,
    method: str | type[Method] | None = None,
    terms: Terms | None = None,
    weights: Mapping[str, float | Schedule] | None = None,
    features: FeatureExtractor | None = None,
    steps: int = 3000,
    batch: int = 64,
    lr: float | None = None,
    optimizer: GivenOptimizer | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    seeds: int = 1,
    control: bool = True,
    accelerator: str = "auto",
    **options: Any,
) -> nn.Module:
    """Distil `teacher` into `student` with its control arm, write the report to `out`, and return the student.

        student = limbeck.distill(teacher, student, "photos/", latent=(128,), image_range=(0, 1), steps=3000, lr=2e-4)

    Teacher and student are any modules that do the task: neither they nor their weights are changed, and the student
    that comes back is a trained copy. Before anything is trained they are called once with the data, and take a step.

    Args:
        teacher: The trained network.
        student: The network to train; its present weights are where it starts.
        data: A folder of images; a tensor of images (N, C, H, W) or an array (N, H, W, C), alone or with labels (N,),
            masks (N, H, W) or targets of its own shape, as (images, labels); a torch `Dataset` or `DataLoader` of the
            same, which is read into memory; or a data set of the package. Images are uint8, or floats in the range
            that the networks see: `image_range`, [0, 1] beside `mean` and `std`, else [-1, 1]; floats in another range
            are `TensorImages(images, labels, image_range=...)`.
        out: Folder of the run.
        task: What they are for, such as `Classification()`; without one they are generators, and `latent` is needed.
        image_shape: (C, H, W) that the images of a folder are to have, where the networks do not say.
        validation: Samples like those of `data` that watch the training, or the part of `data` in (0, 1) that is held
            out for it; a tenth by default.
        test: Samples that the report is about, likewise.
        method: Name or class of the method; the task's own by default.
        terms: Terms that the student learns by, by "player.term", beside those of task and method or in their place;
            None takes one away.
        weights: Weights of terms, by "player.term"; those of the method otherwise.
        features: What distribution metrics (FID...) compare by, e.g. `InceptionFeatures(weights="...")`. Without it
            there are none.
        steps: Training steps.
        batch: Images a step.
        lr: Learning rate of every optimiser, 0.001 where it is Adam, the default; it then follows `schedule`.
        optimizer: Of every player: a class such as `torch.optim.AdamW`, its name, or a function that makes it of
            parameters, such as `partial(torch.optim.AdamW, weight_decay=0.05)`. `optimizers` has one for each player.
        augmentation: Random change of training images, such as `Flip()`.
        seed: The first seed.
        seeds: Runs of student and control, with as many seeds; a verdict needs three.
        control: Train the control arm too.
        accelerator: "auto", "cpu", "cuda" or "mps".
        options: Of four kinds. How networks without a role of ours see images: `image_range`, such as (0, 1), or `mean`
            and `std`, and whatever else their role takes (see `networks.given.called_as`); networks that see them in
            other ways are wrapped, `Wrapped(teacher, "classifier", mean=..., std=...)`. Further networks of the method
            by its arguments, such as `discriminator` or `teacher_discriminator`; they see images in [-1, 1]. Further
            arguments of the method, such as `critic_steps`. Attributes of `Training`: `schedule`, `warmup`,
            `milestones` and `rates` of the learning rate, `optimizers`, `clip`, `ema`, `precision`, `channels_last`,
            `compile`, `micro_batches`, `processes`, `workers`, `checkpoint_every`, `evaluate_every`, `views`,
            `teacher_cache`, `freeze`. Without a task also `latent`, the shape of one latent, such as (128,), drawn
            from a standard normal, and what else `Generation` takes, such as `samples`.

    Raises:
        RecipeError: Shapes, names or values that do not fit.
        DataError: The data cannot be used.
    """
    task, rest = task_of(task, options)
    cls = method_of(method, task)
    given = sorted_out(rest, cls, task)
    teacher, student = bare("teacher", teacher), bare("student", student)
    check_pair(teacher, student)
    networks = {"teacher": teacher, "student": student}
    view = check_view(networks, given.view)
    check_terms(terms)
    check_features(features, cls)
    weights, steps, batch = weights_of(weights), read("steps", int, steps), read("batch", int, batch)
    first, runs = read("seed", int, seed), read("seeds", int, seeds)
    require("distill: seed", first >= 0, "a whole number of at least 0", seed)
    require("distill: seeds", runs >= 1, "a whole number of at least 1", seeds)
    optimizers = Optimizers(read("lr", float | None, lr), optimizer, given.training.get("optimizers"))
    require("distill: augmentation", isinstance(augmentation, Augmentation | None), "one, such as Flip()", augmentation)
    require("distill: out", isinstance(out, str | Path), "the path of a folder", out)
    device_of(read("accelerator", str, accelerator))

    known = {"validation": validation, "test": test}
    images = data_of(data, image_shape, lambda: shape_of(networks.values(), task), view, **known)
    check_needs(cls, task.gives(images), images)
    plan = Plan(task, images, cls, given, terms or {}, optimizers, augmentation)
    for name, network in networks.items():
        check_answer(name, plan.part(network).build(), task, images)
    arm = plan.student(student, steps, batch, weights)
    name = Path(out).resolve().name
    recipe = Recipe(
        name=name,
        data=Part({"class_path": path_of(type(images))}, lambda: images),
        task=Part(described_task(task), lambda: task),
        students={"student": arm},
        seeds=tuple(range(first, first + runs)),
        teacher=plan.teacher(teacher),
        controls={"control": plan.student(student, steps, batch, {})} if read("control", bool, control) else {},
        control_of={"student": "control"} if control else {},
        features=None if features is None else Part(described(features), lambda: features),
        tree={"name": name, "teacher": type(teacher).__name__, **arm.description()},
    )
    arm.weigh()  # names a wrong loss
    check_sent(recipe)
    run(recipe, Path(out), accelerator=accelerator, command=f"limbeck.distill(..., out={str(out)!r})")
    trained = copied(student)
    load_weights(trained, Path(out) / "student.safetensors")
    return trained.eval()

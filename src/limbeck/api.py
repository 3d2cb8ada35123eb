"""Distilling one's own model in five lines of Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.base import Data
from limbeck.data.folder import ImageFolder
from limbeck.data.tensors import TensorImages
from limbeck.errors import RecipeError, nearest, require
from limbeck.ground.randomness import generator, seed_of
from limbeck.methods.base import Method
from limbeck.metrics.base import FeatureExtractor
from limbeck.networks.gan.dcgan import DcganDiscriminator
from limbeck.networks.given.external import Wrapped
from limbeck.networks.given.weights import load_weights, weights_hash
from limbeck.recipe.catalogue import arguments, catalogue, network_arguments
from limbeck.recipe.parts import Part
from limbeck.recipe.reader import ArmRecipe, Recipe
from limbeck.run.story import run
from limbeck.tasks.generation import Generation
from limbeck.training.options import Training
from limbeck.weighting.scheduled import Scheduled

OPTIMIZERS = {
    "student": partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.99)),
    "discriminator": partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.99)),
}


def distill(
    teacher: nn.Module,
    student: nn.Module,
    data: str | Path | Tensor | Data,
    *,
    latent: Sequence[int],
    image_range: tuple[float, float],
    out: str | Path,
    method: str = "gan",
    discriminator: nn.Module | None = None,
    teacher_discriminator: nn.Module | None = None,
    features: FeatureExtractor | None = None,
    steps: int = 3000,
    batch: int = 64,
    seeds: int = 1,
    control: bool = True,
    weights: Mapping[str, float] | None = None,
    samples: int = 10000,
    accelerator: str = "auto",
    **options: Any,
) -> nn.Module:
    """Distil `teacher` into `student` with its control arm, write the report to `out`, and return the student.

    Teacher and student are generators: any module that takes a latent (N, *latent) and returns images (N, C, H, W).
    Neither they nor their weights are changed: the student that comes back is a trained copy.

    Args:
        teacher: The trained generator.
        student: The generator to train; its present weights are where it starts.
        data: Real images: a folder, a tensor (N, C, H, W) of uint8 or of floats in [-1, 1], or a data set.
        latent: Shape of one latent, e.g. (128,); drawn from a standard normal.
        image_range: The range of values that both generators produce, e.g. (-1, 1) or (0, 1).
        out: Folder of the run.
        method: Name of the method, e.g. "gan".
        discriminator: What tells real images from generated ones; a small convolutional one by default.
        teacher_discriminator: What the teacher was trained against, if it is still there: its features guide too.
        features: What distribution metrics (FID...) compare by, e.g. `InceptionFeatures(weights="...")`. Without it
            only the distance to the teacher is measured.
        steps: Training steps.
        batch: Images a step.
        seeds: Runs of student and control; a verdict needs three.
        control: Train the control arm too.
        weights: Weights of losses, by "player.loss"; the method's defaults otherwise.
        samples: Images generated for an evaluation.
        accelerator: "auto", "cpu", "cuda" or "mps".
        options: Further arguments of the method, e.g. `penalty="r1"`.

    Raises:
        RecipeError: Shapes, names or values that do not fit.
        DataError: The data cannot be used.
    """
    shape = _image_shape(teacher, student, _latent(latent))
    images = _data(data, shape)
    cls = _method(method, options)
    weighed = dict(weights or {})
    Scheduled(weighed, cls.losses())  # names a wrong loss
    require("distill: seeds", seeds >= 1, "a whole number of at least 1", seeds)
    require(
        "distill: features", features is None or isinstance(features, FeatureExtractor), "a FeatureExtractor", features
    )
    for critic in (discriminator, teacher_discriminator):
        _check_discriminator(critic, shape)
    given = {name: repr(value) for name, value in options.items()}
    # Copies, as an option can have a state that a training changes: every arm begins with what was given.
    how = Part(
        {"class_path": cls.__name__, "init_args": given}, lambda **networks: cls(**networks, **deepcopy(options)), cls
    )
    wrap = partial(Wrapped, role="generator", image_range=image_range, latent_shape=tuple(latent))
    seen_as = {"image_range": list(image_range)}
    own = _own_discriminator(shape) if discriminator is None else discriminator
    alone = ArmRecipe(
        network=_part(student, wrap, **seen_as),
        method=how,
        training=Training(steps, batch, OPTIMIZERS, ema=0.99, schedule="cosine"),
        networks={"discriminator": _part(own)},
        training_description={"steps": steps, "batch": batch},
    )
    beside = {} if teacher_discriminator is None else {"discriminator": _part(teacher_discriminator)}
    recipe = Recipe(
        name=Path(out).name,
        data=Part({"class_path": type(images).__name__}, lambda: images),
        task=Part({"class_path": "Generation"}, lambda: Generation(tuple(latent), samples)),
        students={"student": replace(alone, weights=weighed)},
        seeds=tuple(range(seeds)),
        teacher=ArmRecipe(network=_part(teacher, wrap, **seen_as), method=how, training=None, networks=beside),
        controls={"control": alone} if control else {},
        control_of={"student": "control"} if control else {},
        features=None if features is None else Part({"class_path": type(features).__name__}, lambda: features),
        tree={"name": Path(out).name, "teacher": type(teacher).__name__, **alone.description()},
    )
    run(recipe, Path(out), accelerator=accelerator, command=f"limbeck.distill(..., out={str(out)!r})")
    trained = deepcopy(student)
    load_weights(trained, Path(out) / "student.safetensors")
    return trained.eval()


def _latent(latent: Sequence[int]) -> tuple[int, ...]:
    sizes = isinstance(latent, Sequence) and all(isinstance(size, int) and size >= 1 for size in latent)
    require("distill: latent", sizes and len(latent) > 0, "the shape of one latent, such as (128,)", latent)
    return tuple(latent)


def _check_discriminator(critic: nn.Module | None, shape: tuple[int, int, int]) -> None:
    """Check that a discriminator can be called with images and gives each at least one score."""
    if critic is None:
        return
    try:
        with torch.no_grad():
            score = deepcopy(critic).cpu().eval()(torch.zeros(2, *shape))
    except (RuntimeError, TypeError, ValueError) as error:
        raise RecipeError(
            f"distill: {type(critic).__name__} cannot be called with images of shape (N, C, H, W) = (2,"
            f" {', '.join(map(str, shape))}): {str(error).splitlines()[0]}; give a discriminator of such images"
        ) from error
    good = isinstance(score, Tensor) and score.ndim > 0 and len(score) == 2
    require("distill: discriminator", good, "one that returns scores (N, ...)", type(score).__name__)


def _image_shape(teacher: nn.Module, student: nn.Module, latent: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (C, H, W) of what both generators make."""
    shapes = {}
    for name, network in (("teacher", teacher), ("student", student)):
        require(f"distill: {name}", isinstance(network, nn.Module), "a torch.nn.Module", network)
        try:
            with torch.no_grad():
                image = deepcopy(network).cpu().eval()(torch.randn(2, *latent, generator=generator(0, "probe")))
        except (RuntimeError, TypeError, ValueError) as error:
            raise RecipeError(
                f"distill: the {name} cannot be called with latents of shape (N, {', '.join(map(str, latent))}):"
                f" {str(error).splitlines()[0]}; check `latent`"
            ) from error
        if not isinstance(image, Tensor) or image.ndim != 4:
            found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise RecipeError(f"distill: expected a {name} that returns images (N, C, H, W), found {found}")
        if not image.isfinite().all():
            raise RecipeError(f"distill: the {name} makes images with NaN or infinity; check its weights")
        shapes[name] = (image.shape[1], image.shape[2], image.shape[3])
    if shapes["teacher"] != shapes["student"]:
        raise RecipeError(
            f"distill: the student makes images {shapes['student']}, the teacher {shapes['teacher']} (C, H, W);"
            " give a student of the teacher's image shape"
        )
    return shapes["teacher"]


def _data(data: str | Path | Tensor | Data, shape: tuple[int, int, int]) -> Data:
    if isinstance(data, Data):
        found = data
    elif isinstance(data, Tensor):
        found = TensorImages(data)
    elif shape[1] == shape[2]:
        found = ImageFolder(str(data), size=shape[1], channels=shape[0])
    else:
        raise RecipeError(f"distill: images from a folder are made square, the networks make {shape[1]}x{shape[2]}")
    if found.image_shape != shape:
        raise RecipeError(f"distill: the data has images {found.image_shape}, the networks make {shape} (C, H, W)")
    return found


def _method(name: str, options: Mapping[str, Any]) -> type[Method]:
    """Return the method of that name, which must know all of the options."""
    known = {cls.__name__.lower(): cls for cls in catalogue(Method)}
    if name.lower() not in known:
        raise RecipeError(f"distill: no method {name!r}{nearest(name.lower(), known)}; there is {', '.join(known)}")
    cls = known[name.lower()]
    takes = arguments(cls).keys() - network_arguments(cls).keys()
    for option in options:
        if option not in takes:
            there = f"{cls.__name__} has {', '.join(sorted(takes))}"
            raise RecipeError(f"distill: no such argument {option!r}{nearest(option, takes)}; {there}")
    return cls


def _own_discriminator(shape: tuple[int, int, int]) -> nn.Module:
    """Return the default one, the same whenever it is made: arms are known by its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("distill", "discriminator"))
        return DcganDiscriminator(width=32, channels=shape[0], size=shape[1:])


def _part(
    network: nn.Module, wrap: Callable[[nn.Module], nn.Module] = lambda network: network, **seen_as: Any
) -> Part[nn.Module]:
    """Return a part that makes copies of a live network, known by its class, its layers and weights, and `seen_as`."""
    kind = type(network)
    known = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "layers": repr(network)}
    return Part({**known, "weights": weights_hash(network), **seen_as}, lambda: wrap(deepcopy(network)))

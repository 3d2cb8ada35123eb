"""Linear maps from the student's features to the teacher's width (Romero et al. 2015, FitNets)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.handling.tap import Tap


def adapters(student: nn.Module, teacher: nn.Module, features: Mapping[str, str]) -> nn.ModuleList:
    """Return one adapter for each pair of layers of two generators, in the order of `features`.

    Args:
        student: Generator that states its `latent_shape` (and `classes`, when it takes a label).
        teacher: Another one.
        features: Module path in the student for each module path of the teacher, {student path: teacher path}.

    Raises:
        RecipeError: A path names no module, a generator does not state its latent, or a pair does not fit.
    """
    if not features:
        return nn.ModuleList()
    mine, goal = _shapes(student, list(features)), _shapes(teacher, list(features.values()))
    names = [f"{of_student!r} -> {of_teacher!r}" for of_student, of_teacher in features.items()]
    return nn.ModuleList(adapter(*pair) for pair in zip(mine, goal, names, strict=True))


def feature_shapes(
    network: nn.Module, paths: Sequence[str], *inputs: Tensor, call: Callable[[], object] | None = None
) -> list[tuple[int, ...]]:
    """Return the shape of one sample's features at each path, e.g. (C, H, W).

    The network runs once without gradients and in evaluation mode, and is left as it was.

    Args:
        network: Any network.
        paths: Module paths of it.
        inputs: What it is called with, on its device.
        call: Calls it, where that takes more than inputs.

    Raises:
        RecipeError: A path names no module, or a module whose output is no tensor.
    """
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), Tap(network, paths) as tap:
            network.eval()
            _ = network(*inputs) if call is None else call()
        features = [_read(tap, path, network) for path in paths]
    finally:
        for module, training in modes.items():
            module.training = training
    return [tuple(feature.shape[1:]) for feature in features]


def adapter(student: Sequence[int], teacher: Sequence[int], where: str) -> nn.Module:
    """Return what makes features of the shape `student` comparable with features of the shape `teacher`.

    A 1x1 convolution for (C, H, W), a linear layer for (D,), nothing when the shapes are equal.

    Args:
        student: Shape of one sample's features in the student.
        teacher: The same in the teacher.
        where: What to call the pair in an error.

    Raises:
        RecipeError: The shapes differ in more than their width, or are of another kind.
    """
    if tuple(student) == tuple(teacher):
        return nn.Identity()
    if len(student) == len(teacher) == 1:
        return nn.Linear(student[0], teacher[0])
    if len(student) == len(teacher) == 3 and tuple(student[1:]) == tuple(teacher[1:]):
        return nn.Conv2d(student[0], teacher[0], kernel_size=1)
    raise RecipeError(
        f"features {where}: expected features that differ in width only, found {tuple(student)} and"
        f" {tuple(teacher)}; choose layers of the same height and width"
    )


def _shapes(generator: nn.Module, paths: Sequence[str]) -> list[tuple[int, ...]]:
    latent_shape: tuple[int, ...] | None = getattr(generator, "latent_shape", None)
    if latent_shape is None:
        raise RecipeError(f"features: expected {type(generator).__name__} to state its latent_shape, found none")
    weight = next(generator.parameters(), torch.empty(0))
    label = [weight.new_zeros(2, dtype=torch.long)] if getattr(generator, "classes", 0) else []
    return feature_shapes(generator, paths, weight.new_zeros(2, *latent_shape), *label)


def _read(tap: Tap, path: str, network: nn.Module) -> Tensor:
    try:
        feature = tap[path]
    except KeyError:
        raise RecipeError(f"feature path {path!r}: {type(network).__name__} does not run this module") from None
    if not isinstance(feature, Tensor):
        raise RecipeError(f"feature path {path!r}: expected a tensor, found {type(feature).__name__}")
    return feature

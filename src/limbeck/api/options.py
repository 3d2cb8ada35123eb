"""What `distill` is told beside its own arguments, by who takes it: the method, the training, or the view of images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.api.networks import bare
from limbeck.api.reading import read
from limbeck.api.spellings import ELSEWHERE
from limbeck.errors import RecipeError, nearest, nearest_or_all, require
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.methods.base import Method, Terms
from limbeck.metrics.base import FeatureExtractor
from limbeck.networks.given.called_as.base import roles
from limbeck.recipe.catalogue import arguments, catalogue, network_arguments
from limbeck.tasks.base import Task
from limbeck.tasks.generation import Generation
from limbeck.terms.base import Term
from limbeck.training.options import Training
from limbeck.weighting.schedule import Schedule

OWN = (  # arguments of `distill` itself
    "student", "teacher", "terms", "weights", "out", "task", "image_shape", "validation", "test", "features", "steps",
    "batch", "lr", "optimizer", "augmentation", "seed", "seeds", "control", "accelerator",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The options of one call.

    Attributes:
        method: Arguments of the method.
        networks: Further networks of the method, by its arguments.
        training: Attributes of `Training`.
        view: How networks without a role see images: arguments of the roles of `networks.given.called_as`.
    """

    method: Mapping[str, Any]
    networks: Mapping[str, nn.Module]
    training: Mapping[str, Any]
    view: Mapping[str, Any]


def task_of(task: Task | None, options: Mapping[str, Any]) -> tuple[Task, dict[str, Any]]:
    """Return the task, generation where none is given, and the options that are not its own.

    Raises:
        RecipeError: Generation is not told the shape of a latent, or an argument of it cannot be used.
    """
    if task is not None:
        require("distill: task", isinstance(task, Task), "a Task, such as Classification()", task)
        return task, dict(options)
    own = {
        name: options[name] if name == "latent" else read(name, argument.annotation, options[name])
        for name, argument in arguments(Generation).items()
        if name in options
    }
    rest = {name: value for name, value in options.items() if name not in own}
    return Generation(**{**own, "latent": _latent(own.get("latent"))}), rest


def _latent(shape: Any) -> tuple[int, ...]:
    """Return the shape of one latent."""
    if shape is None:
        raise RecipeError(
            "distill: latent: expected the shape of one latent, such as (128,), as generators are distilled where no"
            " `task` is given, found none"
        )
    expected = "the shape of one latent, such as (128,)"
    require("distill: latent", isinstance(shape, list | tuple), expected, shape)
    sizes = tuple(read("latent", Sequence[int], shape))
    require("distill: latent", len(sizes) > 0 and min(sizes) >= 1, expected, shape)
    return sizes


def method_of(name: str | type[Method] | None, task: Task) -> type[Method]:
    """Return the method of that name, the class as it is, or the one that the task names.

    Raises:
        RecipeError: There is no such method.
    """
    known = {cls.__name__.lower(): cls for cls in catalogue(Method)}
    wanted = task.method if name is None else name
    if wanted is None:
        raise RecipeError(f"distill: method: expected its name, as {type(task).__name__} names none, found none")
    cls = wanted if isinstance(wanted, type) and issubclass(wanted, Method) else known.get(str(wanted).lower())
    if cls is None:
        close = nearest(str(wanted).lower(), known)
        raise RecipeError(f"distill: no method {wanted!r}{close}; there is {', '.join(known)}, and any class of one")
    learns = "teacher" in network_arguments(cls)
    require("distill: method", learns, "one with a teacher", cls.__name__)
    return cls


def sorted_out(options: Mapping[str, Any], method: type[Method], task: Task) -> Options:
    """Return the options by who takes them.

    Raises:
        RecipeError: Nobody takes one, or it is of another type than its taker wants.
    """
    takers = _takers(method)
    for name in options:
        if not any(name in names for names in takers.values()):
            raise RecipeError(f"distill: {_unknown(name, takers, method, task)}")
    told = {
        taker: {
            name: read(name, types[name], options[name])
            for name in types
            if name in options and not (taker == "view" and options[name] is None)
        }
        for taker, types in takers.items()
    }
    told["networks"] = {name: bare(name, network) for name, network in told["networks"].items()}
    return Options(**told)


def _takers(method: type[Method]) -> dict[str, dict[str, Any]]:
    """Return the options that go to each part of `Options`, with the type of each."""
    taken = {name: argument.annotation for name, argument in arguments(method).items() if name not in OWN}
    networks = {name: Any for name in network_arguments(method) if taken.pop(name, None)}
    views = {n: a.annotation for role in roles().values() for n, a in arguments(role).items() if n != "image_shape"}
    training = {name: argument.annotation for name, argument in arguments(Training).items()}
    return {"method": taken, "networks": networks, "training": training | {"optimizers": Any}, "view": views}


def check_terms(terms: Terms | None) -> None:
    """Refuse what are no terms, such as a class in place of what it makes.

    Raises:
        RecipeError: There is one.
    """
    require("distill: terms", terms is None or isinstance(terms, Mapping), "a mapping of terms by player.term", terms)
    for name, term in (terms or {}).items():
        good = term is None or isinstance(term, Term | LogitLoss | FeatureLoss)
        require(f"distill: terms: {name}", good, "a term, or a loss of logits or features, such as Kd()", term)


def check_features(features: Any, method: type[Method]) -> None:
    """Refuse what distributions cannot be compared by.

    Raises:
        RecipeError: It is no extractor; what the student follows the teacher by is a term.
    """
    moved = method.moved_arguments.get("features")
    hint = f"; what the student follows is a term, {in_python(moved)}" if moved else ""
    good = features is None or isinstance(features, FeatureExtractor)
    require("distill: features", good, "a FeatureExtractor, by which FID compares images", features, hint)


def weights_of(weights: Any) -> dict[str, float | Schedule]:
    """Return the weights of terms.

    Raises:
        RecipeError: One is no number and no schedule.
    """
    good = weights is None or isinstance(weights, Mapping)
    require("distill: weights", good, 'weights by player.term, such as {"student.output": 1.0}', weights)
    numbers = {n: w for n, w in (weights or {}).items() if not isinstance(w, Schedule)}
    return {**(weights or {}), **{name: read(f"weights: {name}", float, weight) for name, weight in numbers.items()}}


def _unknown(name: str, takers: Mapping[str, Mapping[str, Any]], method: type[Method], task: Task) -> str:
    """Return what to do about an option that nobody takes."""
    if name in method.moved_arguments:
        return f"{name}: now written as a term: {in_python(method.moved_arguments[name])}"
    if name in arguments(type(task)):
        kind = type(task).__name__
        return f"{name}: expected it as an argument of the task, task={kind}({name}=...), found it beside the task"
    if name in ELSEWHERE:
        return f"{name}: here it is {ELSEWHERE[name]}"
    known = [*OWN, *(known for names in takers.values() for known in names)]
    close = nearest(name, method.moved_arguments) or nearest_or_all(name, known)
    return f"no such argument {name!r} of {method.__name__}, the training or the networks' view{close}"


def in_python(moved: str) -> str:
    """Return in Python how a recipe spells a term.

    Example:
        >>> in_python("student.logits: {class_path: Kd, init_args: {temperature: ...}}")
        'terms={"student.logits": Kd(temperature=...)}'
    """
    text = ""
    while moved != text:  # from the inner parts to the outer ones
        text, moved = moved, re.sub(r"\{class_path: ([\w ]+), init_args: \{([^{}]*)\}\}", _call, moved)
    named = re.sub(r"\b(\w+\.\w+): ", r'"\1": ', text)
    return f"terms={{{named}}}"


def _call(part: re.Match[str]) -> str:
    """Return a class with its arguments as a call; words are text, and a class alone is made."""
    given = re.sub(r"(\w+): ", r"\1=", part[2])
    given = re.sub(r"=([a-z_]\w*)(?=,|$)", r'="\1"', given)
    given = re.sub(r"=([A-Z][A-Za-z]*)(?=,|$)", r"=\1()", given)
    kind, either, other = part[1].partition(" or ")
    return f"{kind}({given}){either}{other}{'(...)' if other else ''}"

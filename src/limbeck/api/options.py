"""What `distill` is told beside its own arguments, by who takes it: the method, the training, or the view of images."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from limbeck.errors import RecipeError, nearest, nearest_or_all, require
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.methods.base import Method, Terms
from limbeck.networks.given.called_as.base import roles
from limbeck.recipe.catalogue import arguments, catalogue, network_arguments
from limbeck.tasks.base import Task
from limbeck.tasks.generation import Generation
from limbeck.terms.base import Term
from limbeck.training.options import Training

OWN = ("student", "teacher", "terms")  # arguments of methods that are `distill`'s own


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
    own = {name: options[name] for name in arguments(Generation) if name in options}
    rest = {name: value for name, value in options.items() if name not in own}
    return Generation(**{**own, "latent": _latent(own.get("latent"))}), rest


def _latent(shape: Any) -> tuple[int, ...]:
    """Return the shape of one latent."""
    if shape is None:
        raise RecipeError(
            "distill: latent: expected the shape of one latent, such as (128,), as generators are distilled where no"
            " `task` is given, found none"
        )
    sizes = isinstance(shape, list | tuple) and all(isinstance(size, int) and size >= 1 for size in shape)
    require("distill: latent", sizes and len(shape) > 0, "the shape of one latent, such as (128,)", shape)
    return tuple(shape)


def method_of(name: str | None, task: Task) -> type[Method]:
    """Return the method of that name, or the one that the task names.

    Raises:
        RecipeError: There is no such method.
    """
    known = {cls.__name__.lower(): cls for cls in catalogue(Method)}
    wanted = task.method if name is None else name
    if wanted is None:
        raise RecipeError(f"distill: method: expected its name, as {type(task).__name__} names none, found none")
    if not isinstance(wanted, str) or wanted.lower() not in known:
        close = nearest(str(wanted).lower(), known)
        raise RecipeError(f"distill: no method {wanted!r}{close}; there is {', '.join(known)}")
    cls = known[wanted.lower()]
    learns = "teacher" in network_arguments(cls)
    require("distill: method", learns, "one with a teacher", cls.__name__)
    return cls


def sorted_out(options: Mapping[str, Any], method: type[Method], task: Task) -> Options:
    """Return the options by who takes them.

    Raises:
        RecipeError: Nobody takes one.
    """
    takers = _takers(method)
    for name in options:
        if not any(name in names for names in takers.values()):
            raise RecipeError(f"distill: {_unknown(name, takers, method, task)}")
    told = {taker: {name: options[name] for name in names if name in options} for taker, names in takers.items()}
    for name, network in told["networks"].items():
        require(f"distill: {name}", isinstance(network, nn.Module), "a torch.nn.Module", network)
    return Options(**told)


def _takers(method: type[Method]) -> dict[str, list[str]]:
    """Return the names of the options that go to each part of `Options`."""
    networks = [name for name in network_arguments(method) if name not in OWN]
    views = (name for role in roles().values() for name in inspect.signature(role).parameters if name != "image_shape")
    return {
        "method": [name for name in arguments(method) if name not in (*networks, *OWN)],
        "networks": networks,
        "training": [field.name for field in fields(Training)],
        "view": list(dict.fromkeys(views)),
    }


def check_terms(terms: Terms | None) -> None:
    """Refuse what are no terms, such as a class in place of what it makes.

    Raises:
        RecipeError: There is one.
    """
    require("distill: terms", terms is None or isinstance(terms, Mapping), "a mapping of terms by player.term", terms)
    for name, term in (terms or {}).items():
        good = term is None or isinstance(term, Term | LogitLoss | FeatureLoss)
        require(f"distill: terms: {name}", good, "a term, or a loss of logits or features, such as Kd()", term)


def _unknown(name: str, takers: Mapping[str, list[str]], method: type[Method], task: Task) -> str:
    """Return what to do about an option that nobody takes."""
    if name in method.moved_arguments:
        return f"{name}: now written as a term: {in_python(method.moved_arguments[name])}"
    if name in arguments(type(task)):
        kind = type(task).__name__
        return f"{name}: expected it as an argument of the task, task={kind}({name}=...), found it beside the task"
    known = [known for names in takers.values() for known in names]
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

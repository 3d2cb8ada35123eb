"""Networks by their name in timm, torchvision and transformers, which are used when they are installed.

None of them is ever required: timm and torchvision fit only the torch that they were made for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from torch import nn

from limbeck.errors import MissingExtra, RecipeError, in_a_line, nearest


@dataclass(frozen=True)
class Library:
    """How a library makes a classifier or a segmenter from a name.

    Attributes:
        create: Where the function is that makes it, "module:function".
        names: Returns the names to choose from, when given the one that was not found.
        pretrained: The argument that asks for published weights; "" where they always come.
        new_head: Arguments that replace the last layer by an untrained one.
        fixed: Arguments that a recipe cannot change.
        install: What to install; "" where the extra `models` brings it.
        purpose: What the models are trained to do.
    """

    create: str
    names: Callable[[str], Iterable[str]]
    pretrained: str = ""
    new_head: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    install: str = ""
    purpose: str = "classify"

    @property
    def package(self) -> str:
        """The package to import."""
        return self.create.split(":")[0].split(".")[0]

    def maker(self, name: str, arguments: Mapping[str, Any]) -> Callable[..., nn.Module]:
        """Return what makes the network `name` when it is called with `arguments`.

        Raises:
            RecipeError: The library cannot be imported, or an argument is not the recipe's to give.
            MissingExtra: It is not installed, and an extra brings it.
        """
        for given in self.fixed.keys() & arguments.keys():
            text = f"{self.package} is always called with {given}={self.fixed[given]}; leave it out"
            raise RecipeError(f"arguments.{given}: {text}")
        made_for = f"{self.install}, made for the installed torch {torch.__version__}" if self.install else ""
        if find_spec(self.package) is None:
            if not made_for:
                raise MissingExtra(self.package, "models")
            raise RecipeError(f"needs {self.package}, which is not installed: install {made_for}")
        try:
            create = resolve_name(self.create)
        except Exception as error:  # torchvision fails in its own ways when it does not fit torch
            hint = f"; install {made_for}" if made_for else ""
            raise RecipeError(f"importing {self.package} failed: {in_a_line(error)}{hint}") from error
        return partial(_make, create, name, self.fixed, self.purpose)

    def hint(self, name: str) -> str:
        """Return the nearest name as in `errors.nearest`, or "" when there is such a name."""
        known = list(self.names(name))
        return "" if name in known else nearest(name, known)


def _listed(function: str) -> Callable[[str], Iterable[str]]:
    return lambda name: resolve_name(function)()


def _folders(name: str) -> Iterable[str]:
    """Return the folders beside a folder; what there is to download is not known here."""
    parent = Path(name).parent
    return [str(path) for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


_TRANSFORMERS = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
_NEW_LABELS = ("num_labels", "id2label", "ignore_mismatched_sizes")

LIBRARIES: Mapping[str, Library] = {
    "timm": Library(
        create="timm:create_model",
        names=_listed("timm:list_models"),
        pretrained="pretrained",
        new_head=("num_classes",),
        install="timm and a torchvision",
    ),
    "torchvision": Library(
        create="torchvision.models:get_model",
        names=_listed("torchvision.models:list_models"),
        pretrained="weights",
        install="a torchvision",
    ),
    "transformers": Library(
        create="transformers:AutoModelForImageClassification.from_pretrained",
        names=_folders,
        new_head=_NEW_LABELS,
        fixed=_TRANSFORMERS,
    ),
    "transformers-segmentation": Library(
        create="transformers:AutoModelForSemanticSegmentation.from_pretrained",
        names=_folders,
        new_head=_NEW_LABELS,
        fixed=_TRANSFORMERS,
        purpose="segment",
    ),
}


def library_of(target: str) -> tuple[Library | None, str]:
    """Return the library that "library:name" means, and the name; None where it means something else."""
    prefix, _, name = target.partition(":")
    return (LIBRARIES[prefix], name) if name and prefix in LIBRARIES else (None, target)


def is_pretrained(target: str, arguments: Mapping[str, Any], *, head: bool = True) -> bool:
    """Return whether a library fills the network at `target` with published weights.

    Args:
        target: "library:name"; anything else is not pretrained.
        arguments: What the library is called with.
        head: The last layer has to have them too.
    """
    library, _ = library_of(target)
    if library is None or (library.pretrained and not arguments.get(library.pretrained)):
        return False
    return not (head and any(name in arguments for name in library.new_head))


def _make(create: Callable[..., Any], name: str, fixed: Mapping[str, Any], purpose: str, **arguments: Any) -> Any:
    with _weights_only():
        made = create(name, **fixed, **arguments)
    if not isinstance(made, tuple):
        return made
    network, report = made  # transformers' report of what was loaded
    absent = sorted(report["missing_keys"])
    if absent and "num_labels" not in arguments:
        raise ValueError(
            f"{name} has no weights for {', '.join(absent[:3])}: it was not trained to {purpose}; give a model that"
            " was, or train it (say by `arguments: {num_labels: ...}` that the last layer is new)"
        )
    return network


@contextmanager
def _weights_only() -> Iterator[None]:
    """Let no pickle run code, whatever the library asks torch to do."""
    switch = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before

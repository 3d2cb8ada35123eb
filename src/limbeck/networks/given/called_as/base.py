"""How somebody else's module is called in a role: what it is given, and what it has to return.

A role is the class below `CalledAs` that bears its name. A new one is one new file beside this.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data.ranges import checked_range
from limbeck.errors import RecipeError, nearest
from limbeck.networks.blocks.building import Standardize, Statistics, check_sizes
from limbeck.networks.given.answers import Answer, check_images


class CalledAs(ABC):
    """Calls a module as its role is called, converting values and shapes on the way in and out.

    Images outside are float (N, C, H, W) in [-1, 1]; the module sees or makes them in `image_range`.

    Attributes:
        role: The name of the role.
        standardize: Holds the tensors that have to be where the module is.

    Args:
        image_range: (low, high) of the images that the module makes or takes.
        image_shape: (C, H, W) of one image of the data; a flat output is viewed so. Null for any.
        classes: Number of classes K, or 0.

    Raises:
        RecipeError: An argument cannot be used.
    """

    room: ClassVar[str] = "roles of external networks"

    role: ClassVar[str]

    def __init__(
        self, image_range: Sequence[float] = (-1.0, 1.0), image_shape: Sequence[int] | None = None, classes: int = 0
    ) -> None:
        check_sizes(self, at_least=0, classes=classes)
        self.image_range = checked_range("image_range", image_range)
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.classes = classes
        self.standardize = Standardize(self, 0, Statistics())

    def states(self) -> dict[str, Any]:
        """Return what a network in this role states of itself, by name, as `networks.roles` has it."""
        return {"image_range": self.image_range, "image_shape": self.image_shape, "classes": self.classes}

    def check(self, module: nn.Module) -> None:  # noqa: B027 (most roles take any module)
        """Refuse a module that cannot be called in this way, as far as that shows without a call.

        Raises:
            RecipeError: It cannot.
        """

    @abstractmethod
    def __call__(self, module: nn.Module, value: Tensor, label: Tensor | None) -> Tensor:
        """Return what the module makes of `value`, as its role has it.

        Raises:
            RecipeError: The module returns something else than its role promises.
        """

    def check_answer(self, module: nn.Module, answer: Answer) -> None:  # noqa: B027 (some roles answer anything)
        """Refuse what `__call__` made of a batch of the data, where that cannot be what the role promises.

        Raises:
            RecipeError: It cannot.
        """

    def features(self, module: nn.Module, image: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, C, H, W).

        Raises:
            RecipeError: They are not known.
        """
        raise RecipeError(f"{name_of(module)}: expected a classifier, found a {self.role}, which has no features")

    def tensor(self, module: nn.Module, output: Any) -> Tensor:
        """Return what a module returned, if that is one tensor.

        Raises:
            RecipeError: It is not.
        """
        if not isinstance(output, Tensor):
            raise RecipeError(
                f"{name_of(module)}: expected a {self.role} that returns one tensor, found {type(output).__name__};"
                " wrap it in a module of your own that returns the tensor alone"
            )
        return output

    def check_images(self, module: nn.Module, answer: Answer) -> None:
        """Refuse images that `to_ours` returned and that cannot have been in the module's range.

        Raises:
            RecipeError: They cannot.
        """
        check_images(name_of(module), answer, self.image_range, converted=self.image_range != (-1, 1))

    def to_theirs(self, image: Tensor) -> Tensor:
        """Return images in [-1, 1] in the module's range."""
        low, high = self.image_range
        return image if (low, high) == (-1, 1) else (image + 1) * ((high - low) / 2) + low

    def to_ours(self, module: nn.Module, image: Tensor) -> Tensor:
        """Return what a module made, in its range, as images (N, C, H, W) in [-1, 1]."""
        low, high = self.image_range
        image = viewed(module, image, "image_shape", self.image_shape)
        if image.ndim != 4:
            raise RecipeError(
                f"{name_of(module)}: expected images (N, C, H, W), found {tuple(image.shape)}; say by `image_shape` how"
                " one image is to be viewed, e.g. [1, 28, 28]"
            )
        return image if (low, high) == (-1, 1) else (image - low) * (2 / (high - low)) - 1


class LooksAtImages(CalledAs):
    """A role in which the module takes images and makes none.

    Args:
        image_range: (low, high) of the images that the module takes.
        image_shape: (C, H, W) of one image of the data. Null for any.
        classes: Number of classes K, or 0.
        mean: What the module wants subtracted from images in [0, 1], one number a channel, instead of an image_range.
        std: What it then wants them divided by.
        image_size: Height and width at which the module sees images; null leaves them at the size of the data.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        image_range: Sequence[float] = (-1.0, 1.0),
        image_shape: Sequence[int] | None = None,
        classes: int = 0,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int | None = None,
    ) -> None:
        super().__init__(image_range, image_shape, classes)
        if image_size is not None:
            check_sizes(self, image_size=image_size)
        if (mean or std) and self.image_range != (-1, 1):
            raise RecipeError("image_range: expected none beside mean and std, which say what the network sees")
        self.image_size = image_size
        self.standardize = Standardize(self, len(mean or std or ()), Statistics(mean, std))

    def states(self) -> dict[str, Any]:
        """Return what every network states, and its `image_size`."""
        return {**super().states(), "image_size": self.image_size}

    def look(self, module: nn.Module, image: Tensor, *labels: Tensor) -> Any:
        """Return whatever the module makes of images (N, C, H, W) in [-1, 1]."""
        size = self.image_size
        if size is not None and image.shape[-2:] != (size, size):
            image = F.interpolate(image, (size, size), mode="bilinear", antialias=True)
        if not self.standardize.active:
            return module(self.to_theirs(image), *labels)
        channels = len(self.standardize.scale)
        if image.shape[1] != channels:
            raise RecipeError(
                f"{name_of(module)}: expected images of {channels} channels, as mean and std have, found"
                f" {image.shape[1]}; data of images has `channels`"
            )
        return module(self.standardize(image), *labels)


def called_as(role: str, **arguments: Any) -> CalledAs:
    """Return the way of calling a module in the role of that name.

    Args:
        role: Its name.
        arguments: Those that it takes.

    Raises:
        RecipeError: There is no such role, it has no such argument, or the argument cannot be used.
    """
    known = roles()
    if role not in known:
        raise RecipeError(f"role: expected one of {', '.join(known)}, found {role!r}{nearest(role, known)}")
    takes = {each: list(inspect.signature(way).parameters) for each, way in known.items()}
    for name in arguments:
        if name not in takes[role]:
            others = [each for each, names in takes.items() if name in names]
            found = f"found one of {', '.join(others)}" if others else f"found none{nearest(name, takes[role])}"
            raise RecipeError(f"{name}: expected an argument of a {role}, {found}; it has {', '.join(takes[role])}")
    return known[role](**arguments)


def roles() -> dict[str, type[CalledAs]]:
    """Return the ways of calling a module by role: those of this folder, and whatever else has been imported."""
    package = importlib.import_module(__name__.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    found = {each.role: each for each in _below(CalledAs) if not inspect.isabstract(each)}  # type: ignore[type-abstract]
    return dict(sorted(found.items()))


def _below(base: type[CalledAs]) -> Iterator[type[CalledAs]]:
    for each in base.__subclasses__():
        yield each
        yield from _below(each)


def logits_of(output: Any) -> Any:
    """Return the logits of a library that returns them in an object or a mapping with more."""
    output = getattr(output, "logits", output)
    return output.get("out", output) if isinstance(output, Mapping) else output


def name_of(module: nn.Module) -> str:
    """Return what messages call a module."""
    return type(module).__name__


def viewed(module: nn.Module, tensor: Tensor, argument: str, shape: tuple[int, ...] | None) -> Tensor:
    """Return `tensor` with every sample in the shape that an argument gives, if it gives one.

    Raises:
        RecipeError: A sample has another number of values.
    """
    if shape is None:
        return tensor
    try:
        return tensor.reshape(len(tensor), *shape)
    except RuntimeError as error:
        raise RecipeError(
            f"{name_of(module)}: {argument} {list(shape)} does not fit samples of shape {list(tensor.shape[1:])}"
        ) from error

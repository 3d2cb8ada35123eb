"""What a user hands to `distill`, as a run takes it: data, networks without a role, and live objects as parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.base import Data
from limbeck.data.folder import ImageFolder
from limbeck.data.tensors import TensorImages
from limbeck.errors import LimbeckError, RecipeError, in_a_line, require
from limbeck.networks.given.weights import tensor_hash, weights_hash
from limbeck.networks.handling.precision import in_float32
from limbeck.networks.roles import Wrapper, unwrap
from limbeck.recipe.arm import ROLES
from limbeck.recipe.parts import Part
from limbeck.tasks.base import Task

GivenData = str | Path | Tensor | Sequence[Tensor] | Data
BESIDE = {1: "label", 3: "mask", 4: "target"}  # what a tensor beside the images is, by its number of dimensions


def has_role(network: nn.Module) -> bool:
    """Return whether a network is called as we call ours: one of ours, or one that is wrapped already."""
    return isinstance(network, (Wrapper, *(role for role in ROLES if issubclass(role, nn.Module))))


def check_view(networks: Mapping[str, nn.Module], view: Mapping[str, Any]) -> None:
    """Refuse a network without a role of which nobody says how it sees images, and a view that none of them needs.

    Raises:
        RecipeError: There is one.
    """
    plain = [name for name, network in networks.items() if not has_role(network)]
    if not plain:
        _check_idle(networks.values(), view)
    elif all(view.get(name) is None for name in ("image_range", "mean", "std")):
        raise RecipeError(
            f"distill: image_range: expected the range of the images that the {' and the '.join(plain)} takes or"
            " makes, such as (0, 1), or what it standardizes them by as mean and std, found none"
        )


def _check_idle(networks: Iterable[nn.Module], view: Mapping[str, Any]) -> None:
    """Refuse a view that no network needs, unless it is what they have."""
    idle = next((name for name, value in view.items() if value not in ((-1, 1), [-1, 1])), None)
    if idle is not None:
        kinds = " and ".join(dict.fromkeys(type(network).__name__ for network in networks))
        raise RecipeError(f"distill: {idle}: expected none, as {kinds} say themselves how they see images")


def data_of(
    given: GivenData, wanted: Sequence[int] | None, known: Callable[[], Sequence[int] | None] = lambda: None
) -> Data:
    """Return a data set of a folder of images, of tensors, or as it is.

    Args:
        given: A folder; images (N, C, H, W), alone or with what belongs to them: labels (N,), masks (N, H, W) or
            targets (N, C', H', W'); or a data set.
        wanted: (C, H, W) that its images are to have, or None.
        known: Tells which shape networks want, if any says so, where a folder is given and nothing is `wanted`.

    Raises:
        RecipeError: It is something else, has images of another shape, or nobody knows the shape.
        DataError: The data cannot be used.
    """
    sizes = wanted is None or (len(wanted) == 3 and all(isinstance(size, int) and size >= 1 for size in wanted))
    require("distill: image_shape", sizes, "(C, H, W), such as (3, 32, 32)", wanted)
    if isinstance(given, str | Path):
        return _folder(str(given), wanted or known())
    data = given if isinstance(given, Data) else _of_tensors(given)
    alike = wanted is None or tuple(wanted) == data.image_shape
    require("distill: image_shape", alike, f"{data.image_shape}, as {data.name} has, or none", wanted)
    return data


def _of_tensors(given: Any) -> Data:
    """Return a data set of images, or of images and what belongs to them."""
    if isinstance(given, Tensor):
        return TensorImages(given)
    tensors = list(given) if isinstance(given, list | tuple) else []
    expected = "a folder, a tensor, tensors (images, labels or masks or targets), or a data set"
    good = len(tensors) > 1 and all(isinstance(tensor, Tensor) for tensor in tensors)
    require("distill: data", good, expected, type(given).__name__)
    image, *others = tensors
    beside = {BESIDE.get(tensor.ndim, "other"): tensor for tensor in others}
    shapes = [tuple(tensor.shape) for tensor in others]
    good = "other" not in beside and len(beside) == len(others)
    require("distill: data", good, "beside images labels (N,), masks (N, H, W) or targets (N, C, H, W)", shapes)
    return TensorImages(image, **beside)


def shape_of(networks: Iterable[nn.Module], task: Task) -> tuple[int, ...] | None:
    """Return (C, H, W) of the images that networks are for, or None where none can tell.

    Raises:
        RecipeError: One cannot be called with what the task says that it takes.
    """
    for network in networks:
        try:
            shape = task.image_shape(network)
        except Exception as error:  # whatever the owner's module raises
            raise RecipeError(f"distill: {type(network).__name__} cannot be called: {in_a_line(error)}") from error
        if shape is not None:
            return shape
    return None


def _folder(path: str, shape: Sequence[int] | None) -> Data:
    """Return the images of a folder, in that shape."""
    if shape is None:
        raise RecipeError(
            f"distill: image_shape: expected (C, H, W) that the images of {path} are to have, found none; give it, or a"
            " data set such as ImageFolder(path, size=64)"
        )
    channels, height, width = shape
    if height != width:
        raise RecipeError(f"distill: data: images from a folder are made square, found {height}x{width}")
    return ImageFolder(path, size=height, channels=channels)


def check_answer(name: str, network: nn.Module, task: Task, data: Data) -> None:
    """Refuse a network that answers images or latents of this data with something else than the task expects.

    Raises:
        RecipeError: It does.
    """
    inputs = task.example(data, 2)
    shape, asked = task.answer(data, *inputs), tuple(inputs[0].shape)
    try:
        with torch.no_grad():  # a copy: the owner's may be elsewhere, in another precision, or keep something
            found: Any = deepcopy(network).cpu().float().eval()(*inputs)
    except LimbeckError as error:
        raise RecipeError(f"distill: {name}: {error}") from error
    except Exception as error:  # whatever the owner's module raises
        kind = type(unwrap(network)).__name__
        raise RecipeError(
            f"distill: {name}: {kind} cannot be called with an input {asked}: {in_a_line(error)}"
        ) from error
    made = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if made != (2, *shape):
        hint = "; name the classes, if there are more: TensorImages(..., classes=...)"
        raise RecipeError(
            f"distill: {name}: expected {task.answers} {(2, *shape)} of {data.name} for an input {asked}, found {made}"
            f"{hint if task.answers != 'images' and isinstance(data, TensorImages) else ''}"
        )
    if not found.isfinite().all():
        raise RecipeError(f"distill: the {name} answers with NaN or infinity; check its weights")


def as_it_is(network: nn.Module) -> nn.Module:
    """Return the network."""
    return network


def network_part(
    network: nn.Module, call: Callable[[nn.Module], nn.Module] = as_it_is, **seen_as: Any
) -> Part[nn.Module]:
    """Return a part that makes copies of a live network, known by its class, its layers and weights, and `seen_as`."""
    kind = type(network)
    known = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "layers": repr(network)}
    return Part({**known, "weights": weights_hash(network), **seen_as}, partial(_copied, network, call))


def _copied(network: nn.Module, call: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a float32 copy of a network as it is called; a function of its own so that processes can be sent it."""
    return call(in_float32(deepcopy(network)))


def described(value: Any) -> Any:
    """Return what a live object is known by, as plain JSON: of a module all that it has, and its weights."""
    if isinstance(value, nn.Module):
        own = {name: described(each) for name, each in vars(value).items() if name not in vars(nn.Module())}
        parts = {name: described(child) for name, child in value.named_children()}
        parts |= {name: tensor_hash(buffer) for name, buffer in value.named_buffers(recurse=False)}
        return {"class_path": type(value).__qualname__, **own, **parts, "weights": weights_hash(value)}
    if isinstance(value, Tensor):
        return tensor_hash(value)
    if isinstance(value, Mapping):
        return {str(name): described(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [described(each) for each in value]
    return value if isinstance(value, bool | int | float | str | None) else repr(value)

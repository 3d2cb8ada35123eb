"""What a user hands to `distill`, as a run takes it: networks without a role, and live objects as parts."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data.base import Data
from limbeck.data.ranges import checked_range
from limbeck.data.tensors import TensorImages
from limbeck.errors import LimbeckError, RecipeError, in_a_line
from limbeck.networks.given.weights import tensor_hash, weights_hash
from limbeck.networks.handling.copying import copied
from limbeck.networks.handling.precision import in_float32
from limbeck.networks.roles import Wrapper, unwrap
from limbeck.recipe.arm import ROLES
from limbeck.recipe.content import KNOWN
from limbeck.recipe.parts import Part, canonical
from limbeck.tasks.base import Task


def has_role(network: nn.Module) -> bool:
    """Return whether a network is called as we call ours: one of ours, or one that is wrapped already."""
    return isinstance(network, (Wrapper, *(role for role in ROLES if issubclass(role, nn.Module))))


def check_view(networks: Mapping[str, nn.Module], view: Mapping[str, Any]) -> tuple[float, float]:
    """Return the range of float images in the data: that of the networks, of which those without a role need one.

    Raises:
        RecipeError: Nobody says how such a network sees images, or a view is given that none of them needs.
    """
    plain = [name for name, network in networks.items() if not has_role(network)]
    if not plain:
        _check_idle(networks.values(), view)
    elif all(view.get(name) is None for name in ("image_range", "mean", "std")):
        raise RecipeError(
            f"distill: image_range: expected the range of the images that the {' and the '.join(plain)} takes or"
            " makes, such as (0, 1), or what it standardizes them by as mean and std, found none"
        )
    if plain and (view.get("mean") is not None or view.get("std") is not None):
        return 0.0, 1.0
    return checked_range("image_range", view.get("image_range") or (-1.0, 1.0))


def _check_idle(networks: Iterable[nn.Module], view: Mapping[str, Any]) -> None:
    """Refuse a view that no network needs, unless it is what they have."""
    idle = next((name for name, value in view.items() if value not in ((-1, 1), [-1, 1])), None)
    if idle is not None:
        kinds = " and ".join(dict.fromkeys(type(network).__name__ for network in networks))
        raise RecipeError(f"distill: {idle}: expected none, as {kinds} say themselves how they see images")


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


def check_answer(name: str, network: nn.Module, task: Task, data: Data) -> None:
    """Refuse a network that answers images or latents of this data with something else than the task expects.

    Raises:
        RecipeError: It does.
    """
    inputs = task.example(data, 2)
    shape, asked = task.answer(data, *inputs), tuple(inputs[0].shape)
    try:
        with torch.no_grad():  # a copy: the owner's may be elsewhere, in another precision, or keep something
            found: Any = copied(network).cpu().float().eval()(*inputs)
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
    known = {**described(network), "layers": repr(network)}
    return Part({**known, **seen_as}, partial(_copied, network, call))


def _copied(network: nn.Module, call: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a float32 copy of a network as it is called; a function of its own so that processes can be sent it."""
    with torch.no_grad():  # else the weights of TorchScript would come out as results of a computation
        return call(in_float32(copied(network)))


def path_of(cls: type) -> str:
    """Return the dotted path of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def described(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Return what a live object is known by, as plain JSON: of a module its classes, weights and all else that it has.

    With the paths of classes the code behind them counts (see `recipe.content`).

    Args:
        value: The object.
        inside: The `id` of objects that it is part of, which are not described again.
    """
    if id(value) in inside:
        return "what it is part of"
    inside = (*inside, id(value))
    if isinstance(value, nn.Module):
        return _of_module(value, inside)
    if isinstance(value, Tensor | np.ndarray):
        return tensor_hash(value) if isinstance(value, Tensor) else _array_hash(value)
    if isinstance(value, Mapping):
        return {str(name): described(each, inside) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [described(each, inside) for each in value]
    return value if isinstance(value, bool | int | float | str | None) else re.sub(" at 0x[0-9a-f]+", "", repr(value))


def _array_hash(array: np.ndarray[Any, Any]) -> str:
    return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"


def described_task(task: Task) -> dict[str, Any]:
    """Return what a live task is known by, as plain JSON."""
    return {"class_path": path_of(type(task)), **{name: described(value) for name, value in vars(task).items()}}


def _of_module(module: nn.Module, inside: tuple[int, ...]) -> dict[str, Any]:
    """Return a module's class, those of its parts, and hashes of its weights and of what no file of weights holds."""
    kinds = {type(part) for part in module.modules()} - {type(module)}
    paths = sorted(path for path in map(path_of, kinds) if not path.startswith(KNOWN))
    beside = {path: _beside_weights(part, inside) for path, part in module.named_modules()}
    return {
        "class_path": path_of(type(module)),
        "parts": [{"class_path": path} for path in paths],
        "beside": canonical([beside, *(_typed_in(kind) for kind in sorted({type(module), *kinds}, key=path_of))]),
        "weights": weights_hash(module),
    }


def _beside_weights(module: nn.Module, inside: tuple[int, ...]) -> dict[str, Any]:
    """Return the attributes and buffers of a module that no file of weights need hold."""
    own = {name: described(each, inside) for name, each in vars(module).items() if name not in vars(nn.Module())}
    return own | {name: tensor_hash(buffer) for name, buffer in module.named_buffers(recurse=False)}


def _typed_in(cls: type) -> str:
    """Return the hash of the methods of a class that no file holds, as in a notebook; "" of one that a file holds."""
    if getattr(sys.modules.get(cls.__module__), "__file__", None):
        return ""
    digest = hashlib.sha256()
    for function in filter(inspect.isfunction, vars(cls).values()):
        code = function.__code__
        constants = [each for each in code.co_consts if not inspect.iscode(each)]
        digest.update(repr((code.co_name, code.co_code, constants, code.co_names)).encode())
    return digest.hexdigest()

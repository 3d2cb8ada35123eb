"""The networks that a user hands to `distill`: bare of what only says how they run, or refused in a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from limbeck.errors import RecipeError, require
from limbeck.ground.progress import say
from limbeck.networks.handling.bare import inside


def bare(name: str, network: Any) -> nn.Module:
    """Return a network without `DataParallel`, `DistributedDataParallel` and `torch.compile` around it, and say so.

    Args:
        name: The argument that it is given as.
        network: Any `nn.Module`.

    Raises:
        RecipeError: It is no network, or has no weights yet.
    """
    found = network if isinstance(network, str | type | None) else type(network).__name__
    require(f"distill: {name}", isinstance(network, nn.Module), "a torch.nn.Module", found, _instead(network))
    own: nn.Module = network
    around = []
    while (inner := inside(own)) is not None:
        around.append(type(own).__name__)
        own = inner
    if around:
        say(f"distill: {name}: taken out of its {' and '.join(around)}: a run says itself where and how it trains")
    for path, tensor in [*own.named_parameters(), *own.named_buffers()]:
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise RecipeError(
                f"distill: {name}: expected a network with weights, found that {path} has no shape yet; call the"
                " network once on a batch before"
            )
        if tensor.is_meta:
            raise RecipeError(
                f"distill: {name}: expected a network with weights, found that {path} is on the meta device; build the"
                " network on the CPU and load its weights"
            )
    return own


def _instead(given: Any) -> str:
    """Return what to do about something that is no network."""
    if isinstance(given, type):
        return f"; make one: {given.__name__}(...)"
    if isinstance(given, str | Path | Mapping):
        return "; build the network, and load its weights with load_state_dict"
    return "; call it in the forward of a module of your own" if callable(given) else ""


def check_pair(teacher: nn.Module, student: nn.Module) -> None:
    """Refuse a student that is its own teacher, or has no Python code, and say that shared weights part here.

    Raises:
        RecipeError: It is.
    """
    if student is teacher:
        raise RecipeError(
            "distill: student: expected another network than the teacher, found the same object; to train on from its"
            " weights, give copy.deepcopy(teacher)"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in student.modules()):
        raise RecipeError(
            "distill: student: expected a module of Python code, found one of TorchScript, which cannot be rebuilt"
            " elsewhere; give the module that it was scripted or traced from"
        )
    theirs = {id(parameter) for parameter in teacher.parameters()}
    shared = [path for path, parameter in student.named_parameters() if id(parameter) in theirs]
    if shared:
        say(
            f"distill: student: shares {len(shared)} parameters with the teacher, {shared[0]} among them; both are"
            " copied, so the teacher's stay as they are"
        )

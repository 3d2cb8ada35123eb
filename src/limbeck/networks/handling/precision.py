"""The precision of somebody else's network."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from limbeck.ground.progress import say_once

M = TypeVar("M", bound=nn.Module)


def in_float32(module: M) -> M:
    """Return a module whose parameters are in float32: brought there, which is said, where they are in another kind.

    Data, losses, students and optimisers are in float32; `training.precision` says what a step makes of that. Every
    float16 and bfloat16 is a float32, too.
    """
    floats = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    if others := sorted(str(kind).removeprefix("torch.") for kind in floats - {torch.float32}):
        say_once(f"{type(module).__name__}: its weights are in {' and '.join(others)}, and are brought to float32")
        module.float()
    return module

"""The shapes of a network's features, as it shows them when it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.handling.tap import Tap


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
        features = [_read(tap, path) for path in paths]
    finally:
        for module, training in modes.items():
            module.training = training
    return [tuple(feature.shape[1:]) for feature in features]


def _read(tap: Tap, path: str) -> Tensor:
    feature = tap[path]
    if not isinstance(feature, Tensor):
        raise RecipeError(f"feature path {path!r}: expected a tensor, found {type(feature).__name__}")
    return feature

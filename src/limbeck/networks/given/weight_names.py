"""The tensors of a file in a network's own names: old names, bookkeeping, and tensors that are saved once."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

COUNTERS = ("num_batches_tracked", "total_ops", "total_params")  # of batch norms, and of a profiler
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # attention in older diffusers


def fitted(network: nn.Module, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in the network's own names, without the bookkeeping that a file may hold beside weights.

    Args:
        network: The network.
        expected: Its state, by name.
        found: Tensors that may be its weights, by the file's names.
    """
    names = {_present_name(name, expected): tensor for name, tensor in found.items()}
    norms = _plain_norms(network)
    names = {name: tensor for name, tensor in names.items() if name in expected or not _beside(name, norms)}
    names |= _saved_once(expected, names)
    whole = f".{COUNTERS[0]}"  # a whole number, which some save as float
    return {name: tensor.long() if f".{name}".endswith(whole) else tensor for name, tensor in names.items()}


def _present_name(name: str, expected: Mapping[str, Tensor]) -> str:
    """Return what a tensor is called today, where the network knows that name and not the one in the file."""
    if name in expected:
        return name
    today = (re.sub(rf"(^|\.){old}\.", rf"\g<1>{new}.", name) for old, new in RENAMED.items())
    return next((new for new in today if new in expected), name)


def _plain_norms(network: nn.Module) -> set[str]:
    """Return the paths of the instance norms, of which PyTorch 0.3 saved statistics that nobody used."""
    kinds = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
    return {path for path, module in network.named_modules() if isinstance(module, kinds)}


def _beside(name: str, norms: set[str]) -> bool:
    """Return whether a tensor that the network does not have is bookkeeping."""
    path, _, last = name.rpartition(".")
    return last in COUNTERS or (path in norms and last.startswith("running_"))


def _saved_once(expected: Mapping[str, Tensor], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that the network has under two names, of which a file holds one, under the other."""
    held = {tensor.data_ptr(): name for name, tensor in expected.items() if name in names and tensor.numel()}
    missing = {name: held.get(tensor.data_ptr()) for name, tensor in expected.items() if name not in names}
    twins = {name: names[twin] for name, twin in missing.items() if twin is not None}
    return {name: tensor for name, tensor in twins.items() if tensor.shape == expected[name].shape}

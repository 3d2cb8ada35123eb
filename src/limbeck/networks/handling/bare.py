"""Networks without what spreads them over devices or compiles them: Limbeck does that itself where it is asked to."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


def inside(network: nn.Module) -> nn.Module | None:
    """Return the network in one that only runs it elsewhere or faster; None where it is no such."""
    parallel = isinstance(network, DataParallel | DistributedDataParallel)
    return dict(network.named_children()).get("module" if parallel else "_orig_mod")  # the latter of torch.compile


def bare(network: nn.Module) -> nn.Module:
    """Return the innermost network, which is the same one where nothing is around it."""
    inner = inside(network)
    return network if inner is None else bare(inner)

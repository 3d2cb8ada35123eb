"""Finding what fits a network among everything that a weight file holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from limbeck.errors import WeightsError

_SHOWN = 3  # mismatching tensors that a message names

# First parts of names under which a file keeps one network beside others ("generator.blocks.0.weight").
_OWNERS = re.compile(
    "module|_orig_mod|model|net|network|state_dict|params|generator|discriminator|net[gd]|[gd]"
    "|teacher|student|classifier|encoder|decoder",
    re.IGNORECASE,
)
_MEANS = "ema|swa|shadow|averaged?"
_AVERAGED = re.compile(  # as a word of a name, "g_ema" or "netEma", and not "schema"
    f"(?<![a-zA-Z])({_MEANS})(?![a-z])|({re.sub(r'[a-z]+', lambda m: m[0].title(), _MEANS)})(?![a-z])"
    f"|(?<![A-Z])({_MEANS.upper()})(?![A-Z])"
)
_LOSSES = re.compile(".*(loss|criterion|metric|lpips).*", re.IGNORECASE)
_COUNTER = "num_batches_tracked"
_PROFILED = ("total_ops", "total_params")  # what thop adds to every module
# The attention of autoencoders of images, as diffusers named it until 2023 and since.
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Candidate:
    """What could be one network's weights: where they lie in the file, and what was left aside of them."""

    where: str
    tensors: dict[str, Tensor]
    aside: tuple[str, ...] = ()


def fitting(path: Path, network: nn.Module, held: Mapping[str, Any], new_layers: Sequence[str]) -> Candidate:
    """Return the weights of `network` among what the file at `path` holds, but for those of `new_layers`.

    Raises:
        WeightsError: None fit, or several.
    """
    expected = _without(new_layers, network.state_dict())
    candidates = [
        Candidate(c.where, _without(new_layers, tensors), aside)
        for c in _candidates("", held)
        for tensors, aside in [_adapted(network, c)]
    ]
    if not candidates:
        raise WeightsError(f"{path}: expected the weights of a {type(network).__name__}, found no tensor in the file")
    fits = [c for c in candidates if _misfits(expected, c.tensors) == ([], [], [])]
    if not fits:
        raise WeightsError(f"{path}: {_explain(type(network).__name__, expected, [c.tensors for c in candidates])}")
    return _choose(path, fits)


def averages_beside(held: Mapping[str, Any], chosen: Candidate) -> list[str]:
    """Return what else in the file says "ema", each by the first part of its name that does."""
    taken = chosen.where + "." if chosen.where else ""
    found = []
    for name, tensor in _everything(held, ""):
        parts = name.split(".")
        length = next((i for i, part in enumerate(parts, 1) if _AVERAGED.search(part)), 0)
        if length and tensor.dim() and not (name.startswith(taken) and name.removeprefix(taken) in chosen.tensors):
            found.append(".".join(parts[:length]))
    return list(dict.fromkeys(found))


def _everything(found: Any, where: str) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in a file with its whole name."""
    if isinstance(found, Tensor):
        yield where, found
    items: Any = found.items() if isinstance(found, Mapping) else enumerate(found) if isinstance(found, list) else ()
    for name, value in items:
        yield from _everything(value, f"{where}.{name}".lstrip("."))


def _candidates(where: str, found: Mapping[str, Any], aside: tuple[str, ...] = ()) -> Iterator[Candidate]:
    """Yield everything in a file that could be one network's weights."""
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield Candidate(where, tensors, aside)
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _candidates(f"{where}.{name}".lstrip("."), value)
    beside = tuple(name for name, tensor in tensors.items() if _beside(name, tensor))
    for owner, inside in _owned(tensors, beside).items():
        rest = beside
        if owner == _largest(tensors):  # whatever it is called; what lies beside it is no network of its own, then
            rest = tuple(name for name in tensors if name.partition(".")[0] != owner and not _of_network(name))
        yield from _candidates(f"{where}.{owner}".lstrip("."), inside, aside + rest)


def _beside(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor lies beside a network: a loss's, or a counter."""
    owner, _, inner = name.partition(".")
    counter = owner in _PROFILED or not (tensor.dim() or tensor.is_floating_point())
    return bool(_LOSSES.fullmatch(owner)) if inner else counter


def _owned(tensors: Mapping[str, Tensor], beside: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Return the tensors below each name that may be that of a whole network, without that name."""
    tops = {name.partition(".")[0] for name in tensors if name not in beside}
    tops -= {top for top in tops if _AVERAGED.search(top)}
    largest = _largest(tensors)
    found: dict[str, dict[str, Tensor]] = {}
    for name in sorted(tensors.keys() - set(beside)):
        owner, _, inner = name.partition(".")
        if inner and (tops == {owner} or _of_network(name) or owner == largest):
            found.setdefault(owner, {})[inner] = tensors[name]
    return found


def _of_network(name: str) -> bool:
    """Return whether the first part of a name is one that files give to a whole network."""
    owner, _, inner = name.partition(".")
    return bool(inner and (_OWNERS.fullmatch(owner) or _AVERAGED.search(owner)))


def _largest(tensors: Mapping[str, Tensor]) -> str:
    """Return the first part of the names of more than half of all numbers, or "" where there is none."""
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        owner = name.partition(".")[0]
        sizes[owner] = sizes.get(owner, 0) + tensor.numel()
    return next((owner for owner, size in sizes.items() if 2 * size > sum(sizes.values())), "")


def _adapted(network: nn.Module, candidate: Candidate) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors under the network's names without bookkeeping, and what is left aside with the rest."""
    own = network.state_dict().keys()
    untracked = {p for p, m in network.named_modules() if isinstance(m, _InstanceNorm) and m.running_mean is None}
    tensors, aside = {}, list(candidate.aside)
    for name, tensor in candidate.tensors.items():
        module, _, last = name.rpartition(".")
        statistic = last in ("running_mean", "running_var") and module in untracked  # PyTorch 0.3 always had them
        if name not in own and (statistic or last in (*_PROFILED, _COUNTER)):
            aside.append(name)
        else:
            renamed = re.sub(r"\b(query|key|value|proj_attn)(?=\.(weight|bias)$)", lambda m: _RENAMED[m[1]], name)
            tensors[renamed if name not in own and renamed in own else name] = tensor
    return tensors, tuple(aside)


def _without(layers: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that are not in the modules at these paths."""
    return {name: t for name, t in tensors.items() if not any(name.startswith(f"{path}.") for path in layers)}


def _misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Return the names of different shape or type, the missing and the unexpected ones."""
    different = [n for n, tensor in expected.items() if n in found and not _alike(n, tensor, found[n])]
    # Tied tensors lie in the same memory, and a file may hold only one of them.
    places = {n: (t.data_ptr(), t.shape, t.stride()) for n, t in expected.items() if t.data_ptr()}
    held = {places[name] for name in found if name in places}
    missing = [n for n in expected if n not in found and places.get(n) not in held and not n.endswith(_COUNTER)]
    return different, missing, [name for name in found if name not in expected]


def _alike(name: str, expected: Tensor, found: Tensor) -> bool:
    """Return whether one can stand for the other; counters of batches were saved as floats by some."""
    if name.endswith(_COUNTER):
        return expected.numel() == found.numel() == 1
    return _describe(expected) == _describe(found)


def _describe(tensor: Tensor) -> str:
    """Return the shape, and that values are whole numbers where they are: precisions may differ, kinds may not."""
    return f"{tuple(tensor.shape)}" + ("" if tensor.is_floating_point() else " of whole numbers")


def _choose(path: Path, fits: list[Candidate]) -> Candidate:
    """Return the only candidate that fits, or the only averaged one."""
    averaged = [fit for fit in fits if _AVERAGED.search(fit.where)]
    chosen = averaged if len(averaged) == 1 else fits
    if len(chosen) > 1:
        names = ", ".join(fit.where for fit in chosen)
        raise WeightsError(f"{path}: {names} all fit the network; save the one that is meant in a file of its own")
    return chosen[0]


def _explain(network: str, expected: Mapping[str, Tensor], candidates: list[dict[str, Tensor]]) -> str:
    """Return what is wrong with the candidate that has the most names in common with the network."""
    found = max(candidates, key=lambda candidate: len(expected.keys() & candidate.keys()))
    different, missing, unexpected = _misfits(expected, found)
    shapes = [f"{n} expected {_describe(expected[n])}, found {_describe(found[n])}" for n in different]
    parts = [
        some(shapes, "tensors of another shape"),
        some(missing, "tensors missing"),
        some(unexpected, "unexpected tensors"),
    ]
    return f"made for another network than this {network}: " + "; ".join(part for part in parts if part)


def some(items: list[str], what: str = "") -> str:
    """Return "3 tensors missing: a, b, c", with the first few named, or "" when there are none."""
    more = ", ..." if len(items) > _SHOWN else ""
    count = f"{len(items)} {what}: " if what else ""
    return f"{count}{', '.join(items[:_SHOWN])}{more}" if items else ""

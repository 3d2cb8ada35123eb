"""Weight files: reading them without running code, finding what fits a network, and writing them in one piece."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from limbeck.errors import WeightsError
from limbeck.ground.progress import say_once
from limbeck.networks.given.weight_files import damaged, held_in
from limbeck.networks.given.weight_names import fitted
from limbeck.networks.roles import unwrap

_SHOWN = 3  # mismatching tensors that a message names

# First parts of names under which a file keeps one network beside others ("generator.blocks.0.weight"), or its average.
_OWNERS = re.compile(
    "(ema_)?(module|_orig_mod|model|net|network|state_dict|params|generator|discriminator|net[gd]|[gd]|teacher|student"
    "|classifier|encoder|decoder)(_ema)?|ema|ema_model|shadow|averaged_model",
    re.IGNORECASE,
)
_OF_LOSSES = re.compile("loss|criteri|lpips|perceptual|metric|counter|step|epoch", re.IGNORECASE)
_AVERAGED = re.compile(r"(^|[._])(ema|shadow|averaged?)([._]|$)", re.IGNORECASE)


def load_weights(network: nn.Module, path: str | Path, new_layers: Sequence[str] = ()) -> None:
    """Load the weights of `network` from a file; the network stays as it was when that fails.

    Where the weights lie in the file need not be said: they may be nested ({"state_dict": ...}, {"g_ema": ...}),
    carry a prefix in all their names ("module."), or be one of several networks ("generator.", "discriminator.").
    What fits the network in every name and shape is taken; of several that fit, the averaged one (its name holds
    "ema"). The only tensors that may be missing are counters of batches (`num_batches_tracked`), which old files
    do not have.

    Args:
        network: The network, on any device.
        path: A file of safetensors, or a pickle, which is read with `weights_only=True`; known by its content.
        new_layers: Module paths that keep the weights they have, whatever the file says of them: a new head.

    Raises:
        WeightsError: The file is missing, damaged, holds code, fits another network, or holds NaN.
    """
    path, network = Path(path), unwrap(network)
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        network = network.module
    expected = _without(new_layers, network.state_dict())
    held = [(where, _without(new_layers, found)) for where, found in _candidates("", held_in(path))]
    candidates = [(where, fitted(network, expected, found)) for where, found in held]
    if not candidates:
        raise WeightsError(f"{path}: expected the weights of a {type(network).__name__}, found no tensor in the file")
    fits = [(where, found) for where, found in candidates if _misfits(expected, found) == ([], [], [])]
    if not fits:
        raise WeightsError(f"{path}: {_explain(type(network).__name__, expected, [c for _, c in candidates])}")
    where, tensors = _choose(path, fits)
    _tell(path, where, dict(held)[where], tensors, [place for place, _ in candidates])
    own = network.state_dict()
    for name, tensor in tensors.items():
        # Minus infinity where the network has it by design, as in a mask of attention.
        good = tensor.isfinite() | (
            (tensor == own[name].to(tensor)) if name in own else torch.zeros((), dtype=torch.bool)
        )
        if tensor.is_floating_point() and not bool(good.all()):
            raise WeightsError(
                f"{path}: {name} holds {int((~good).sum())} of {tensor.numel()} values that are NaN or infinite"
            )
    network.load_state_dict(tensors, strict=False)  # only counters and new layers can be missing: see above


def load_npz(network: nn.Module, path: str | Path, name_of: Callable[[str], str] = str) -> None:
    """Load the parameters of `network` from a .npz file of arrays.

    Args:
        network: The network.
        path: The file.
        name_of: The file's name of a parameter; the same by default.

    Raises:
        WeightsError: The file is missing, damaged, holds other weights or NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
    except Exception as error:  # the reader raises whatever a damaged file leads it to
        raise damaged(path) from error
    found = {name: _array(path, held, name_of(name), p.shape) for name, p in network.named_parameters()}
    network.load_state_dict(found, strict=False)


def _array(path: Path, held: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """Return the array of that name, after checking that it has this shape and holds numbers."""
    tensor = held.get(name)
    if tensor is None or tensor.shape != shape:
        found = "none" if tensor is None else tuple(tensor.shape)
        raise WeightsError(f"{path}: expected {name} {tuple(shape)}, found {found}")
    if not bool(tensor.isfinite().all()):
        raise WeightsError(f"{path}: {name} holds values that are NaN or infinite")
    return tensor


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the weights of `network` as .safetensors: beside `path` first and then renamed, so never half a file.

    Raises:
        WeightsError: The file cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    # Clones, because the format does not allow two tensors to share memory.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in unwrap(network).state_dict().items()
    }
    try:
        with beside.open("wb") as file:  # the library's own save_file makes files that only their owner may read
            file.write(save(tensors, metadata={"format": "pt"}))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot write the weights there: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def weights_hash(network: nn.Module) -> str:
    """Return a SHA-256 (64 hexadecimal digits) of the names, types, shapes and bytes of a network's state.

    Buffers that no file of weights holds count, too.
    """
    digest = hashlib.sha256()
    inner = unwrap(network)
    for name, tensor in sorted((dict(inner.named_buffers()) | inner.state_dict()).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def tensor_hash(tensor: Tensor) -> str:
    """Return a SHA-256 (64 hexadecimal digits) of the type, shape and bytes of a tensor."""
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode() + _bytes(tensor)).hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _candidates(where: str, found: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield everything in a file that could be one network's weights, with where it was found."""
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield where, tensors
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _candidates(f"{where}.{name}", value)
    for owner, inside in _owned(tensors).items():
        yield from _candidates(f"{where}.{owner}", inside)


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the tensors below each name that may be that of a whole network, without that name.

    It is a usual one, or the only one that is not usual, of a network or of a loss.
    """
    tops = {name.partition(".")[0] for name in tensors}
    unknown = {top for top in tops if not _OWNERS.fullmatch(top) and not _OF_LOSSES.search(top)}
    found: dict[str, dict[str, Tensor]] = {}
    for name in sorted(tensors):
        owner, _, inner = name.partition(".")
        if inner and (len(tops) == 1 or unknown <= {owner} or _OWNERS.fullmatch(owner)):
            found.setdefault(owner, {})[inner] = tensors[name]
    return found


def _tell(
    path: Path, where: str, held: Mapping[str, Tensor], taken: Mapping[str, Tensor], places: Sequence[str]
) -> None:
    """Say what of a file is not taken: bookkeeping, and averaged weights beside those that are."""
    aside = sorted(held.keys() - taken.keys())
    if len(aside) > 0 and len(held) > len(taken):
        say_once(f"{path}: {_some(aside, 'tensors left aside, which the network does not have')}")
    others = [
        p.lstrip(".") for p in places if _AVERAGED.search(p) and p != where and p.count(".") <= where.count(".") + 1
    ]
    if others and not _AVERAGED.search(where):
        say_once(
            f"{path}: took {where.lstrip('.') or 'the tensors'}; the averaged ones ({', '.join(others)}) do not fit"
        )


def _without(layers: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that are not in the modules at these paths."""
    return {name: t for name, t in tensors.items() if not any(name.startswith(f"{path}.") for path in layers)}


def _misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Return the names of different shape or type, the missing and the unexpected ones."""
    different = [
        name for name, tensor in expected.items() if name in found and _describe(tensor) != _describe(found[name])
    ]
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    return different, missing, [name for name in found if name not in expected]


def _describe(tensor: Tensor) -> str:
    """Return the shape, and that values are whole numbers where they are: precisions may differ, kinds may not."""
    return f"{tuple(tensor.shape)}" + ("" if tensor.is_floating_point() else " of whole numbers")


def _choose(path: Path, fits: list[tuple[str, dict[str, Tensor]]]) -> tuple[str, dict[str, Tensor]]:
    """Return the only candidate that fits, or the only averaged one, and where it was found."""
    averaged = [fit for fit in fits if _AVERAGED.search(fit[0])]
    chosen = averaged if len(averaged) == 1 else fits
    if len(chosen) > 1:
        names = ", ".join(where.lstrip(".") for where, _ in chosen)
        raise WeightsError(f"{path}: {names} all fit the network; save the one that is meant in a file of its own")
    return chosen[0]


def _explain(network: str, expected: Mapping[str, Tensor], candidates: list[dict[str, Tensor]]) -> str:
    """Return what is wrong with the candidate that has the most names in common with the network."""
    found = max(candidates, key=lambda candidate: len(expected.keys() & candidate.keys()))
    different, missing, unexpected = _misfits(expected, found)
    shapes = [f"{n} expected {_describe(expected[n])}, found {_describe(found[n])}" for n in different]
    parts = [
        _some(shapes, "tensors of another shape"),
        _some(missing, "tensors missing"),
        _some(unexpected, "unexpected tensors"),
    ]
    return f"made for another network than this {network}: " + "; ".join(part for part in parts if part)


def _some(items: list[str], what: str) -> str:
    """Return "3 tensors missing: a, b, c", with the first few named, or "" when there are none."""
    more = ", ..." if len(items) > _SHOWN else ""
    return f"{len(items)} {what}: {', '.join(items[:_SHOWN])}{more}" if items else ""

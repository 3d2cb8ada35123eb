"""Weight files: loading what fits a network, and writing them in one piece."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from limbeck.errors import WeightsError
from limbeck.ground.progress import say_once
from limbeck.networks.given.fitting import averages_beside, fitting, some
from limbeck.networks.given.reading import damaged, odd_values, read
from limbeck.networks.handling.bare import bare
from limbeck.networks.roles import unwrap


def load_weights(network: nn.Module, path: str | Path, new_layers: Sequence[str] = ()) -> None:
    """Load the weights of `network` from a file; the network stays as it was when that fails.

    Where the weights lie in the file need not be said: they may be nested ({"state_dict": ...}, {"g_ema": ...}),
    carry a prefix in all their names ("module."), or be one of several networks ("generator.", "discriminator."), or
    the larger part of what a file holds under any name ("unet."). What fits the network in every name and shape is
    taken; of several that fit, the averaged one (its name says "ema", "swa", "shadow" or "averaged"). The only
    tensors that may be missing are counters of batches (`num_batches_tracked`), which old files do not have, and all
    but one of those that are tied. What is no weight (counters of profilers, buffers of a loss...) is left aside, and
    one line says so, as it does of averaged weights that do not fit.

    Args:
        network: The network, on any device.
        path: A safetensors file or one of `torch.save`, which is read with `weights_only=True`; its name may be any.
        new_layers: Module paths that keep the weights they have, whatever the file says of them: a new head.

    Raises:
        WeightsError: The file is missing, damaged, holds code, fits another network, or holds NaN or an infinity that
            the network does not have.
    """
    path, network = Path(path), bare(unwrap(network))
    held = read(path)
    chosen = fitting(path, network, held, new_layers)
    _check_numbers(path, network, chosen.tensors)
    network.load_state_dict(chosen.tensors, strict=False)  # what may be missing: see above
    if aside := [*averages_beside(held, chosen), *chosen.aside, *odd_values(held)]:
        say_once(f"{path}: took {chosen.where or 'its tensors'}; left aside {some(aside)}")


def _check_numbers(path: Path, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity, but for infinity that the network has by design: the mask of an attention holds -inf."""
    own = network.state_dict()
    for name, tensor in tensors.items():
        bad = ~tensor.isfinite() & tensor.ne(own[name].to(tensor))
        if bool(bad.any()):
            raise WeightsError(
                f"{path}: {name} holds {int(bad.sum())} of {tensor.numel()} values that are NaN or infinite"
            )


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

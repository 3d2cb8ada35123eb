"""Atomic, checksummed checkpoints of a training's state.

A state is a tree: dictionaries with string keys, lists, tensors, and JSON scalars. One safetensors file holds its
tensors; its metadata holds the rest as JSON, and a SHA-256 over both. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from limbeck.errors import CheckpointError
from limbeck.ground.files import clear_half_written, write_atomically

KEPT = 2


def masks(network: nn.Module) -> frozenset[str]:
    """Return the names of the buffers that hold infinity by design, such as the mask of an attention.

    To be asked before a training: infinity in a running statistic, or one that comes later, is damage.
    """
    statistics = ("running_mean", "running_var")
    return frozenset(
        name
        for name, buffer in network.named_buffers()
        if buffer.is_floating_point() and buffer.isinf().any() and not name.endswith(statistics)
    )


def save(path: Path, state: dict[str, Any], infinite: Collection[str] = ()) -> None:
    """Write `state` to `path`, whole or not at all.

    Args:
        path: The file.
        state: A tree.
        infinite: Names of the tensors that may hold infinity (see `masks`), or names that end with theirs: the state
            of a method's student has the names of the student.

    Raises:
        CheckpointError: The file could not be written, or another tensor holds infinity, or any NaN.
    """
    tensors: dict[str, Tensor] = {}
    rest = json.dumps(_take_tensors(state, "", tensors))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        meant = any(f".{known}".endswith(f".{name.rpartition('/')[2]}") for known in infinite)
        if bool(tensor.isnan().any() if meant else not tensor.isfinite().all()):
            raise CheckpointError(
                f"{path.name}: not saved, {name} holds NaN or infinity; the file before it stays. Lower the"
                " learning rate or clip gradients (training.clip)"
            )
    content = to_safetensors(tensors, {"rest": rest, "sha256": _digest(rest, tensors)})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be written ({error.strerror}); free space, or choose another folder with --out; the"
            " same command goes on from the checkpoint before"
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Return the state saved at `path`, on the CPU.

    Raises:
        CheckpointError: The file is missing, truncated or altered.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint; the same command makes it anew") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error
    rest = metadata.get("rest", "")
    if metadata.get("sha256") != _digest(rest, tensors):
        raise CheckpointError(f"{path}: its content does not match its checksum: it was altered or damaged")
    state: dict[str, Any] = _put_tensors(json.loads(rest), tensors)
    return state


class Checkpoints:
    """The checkpoints of one training, in one folder; the last two are kept.

    Args:
        folder: Where they are.
        warn: Told of every damaged checkpoint that is passed over.
        infinite: Names of the tensors that may hold infinity (see `save`).
    """

    def __init__(self, folder: Path, warn: Callable[[str], None], infinite: Collection[str] = ()) -> None:
        self.folder, self.warn, self.infinite = folder, warn, infinite

    def paths(self) -> list[Path]:
        """Return the files, oldest first."""
        return sorted(self.folder.glob("step-*.safetensors"))

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Save the state after `step` steps; delete all but the last two, and what a killed process half wrote."""
        save(self.folder / f"step-{step:09d}.safetensors", state, self.infinite)
        clear_half_written(self.folder)
        for old in self.paths()[:-KEPT]:
            old.unlink()

    def last(self) -> str:
        """Return in words which is the last, for a message."""
        paths = self.paths()
        return f"the last checkpoint is {paths[-1].name}" if paths else "there is no checkpoint yet"

    def latest(self) -> dict[str, Any] | None:
        """Return the newest whole state, or None when there is no checkpoint.

        Raises:
            CheckpointError: There are checkpoints and all of them are damaged.
        """
        problems = []
        for path in reversed(self.paths()):
            try:
                return load(path)
            except CheckpointError as error:
                problems.append(str(error))
                self.warn(f"{error}; using the one before it")
        if problems:
            raise CheckpointError(
                f"{problems[0]}, and so is every other in the folder; delete {self.folder} to restart"
            )
        return None


def _take_tensors(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of `tree` into `tensors` by path and return the rest, with marks in their place."""
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"$tensor": path}
    if isinstance(tree, dict):
        return {key: _take_tensors(value, f"{path}/{key}", tensors) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_take_tensors(value, f"{path}/{i}", tensors) for i, value in enumerate(tree)]
    return tree


def _put_tensors(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if tree.keys() == {"$tensor"}:
            return tensors[tree["$tensor"]]
        return {key: _put_tensors(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_put_tensors(value, tensors) for value in tree]
    return tree


def _digest(rest: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(rest.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

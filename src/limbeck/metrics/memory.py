"""The memory of a network: its weights as a file, and the most that tensors take during one forward."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from limbeck.metrics.measuring import Inputs, first_tensor, measuring


def file_bytes(module: nn.Module) -> int:
    """Return the size of the weights (parameters and buffers) as a safetensors file, in bytes.

    A tensor that stands under several names is stored once, as safetensors' own `save_model` does.
    """
    stored: dict[tuple[Any, ...], tuple[str, Tensor]] = {}
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            place = (value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else (name,)
            stored.setdefault(place, (name, value.detach().cpu().clone(memory_format=torch.contiguous_format)))
    return len(save(dict(stored.values())))


def peak_memory_bytes(module: nn.Module, inputs: Inputs) -> int:
    """Return the most memory that tensors take at any moment of one forward: weights + inputs + what it allocates.

    On a GPU it is the rise of `torch.cuda.max_memory_allocated`. On the CPU it is the rise of the allocations that
    torch's profiler records. That is exact, repeatable, and includes the operators' own buffers, which watching
    tensors from Python would miss; the resident set of the process would depend on the allocator and on everything
    that ran before. The scratch space that oneDNN allocates by itself is not seen.

    Args:
        module: The network.
        inputs: Its inputs; a batch of 1 by convention.
    """
    device = first_tensor(inputs).device
    weights = [*module.parameters(), *module.buffers()]
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in weights}
    given: int = sum(t.numel() * t.element_size() for t in inputs if isinstance(t, Tensor))
    with measuring(module):
        module(*inputs)  # what is allocated once and kept, such as cuBLAS workspaces, is not the forward's
        rise = _rise_on_gpu(module, inputs, device) if device.type == "cuda" else _rise_on_cpu(module, inputs)
    return sum(held.values()) + given + rise


def _rise_on_gpu(module: nn.Module, inputs: Inputs, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    module(*inputs)
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before)


def _rise_on_cpu(module: nn.Module, inputs: Inputs) -> int:
    with _silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        module(*inputs)  # the output is freed at once, inside, so the next profile starts from a true balance
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    balance = [e for e in events if e.get("name") == "[memory]" and e["args"]["Device Type"] == 0]
    if not balance:
        return 0
    first = min(balance, key=lambda e: float(e["ts"]))["args"]
    start = first["Total Allocated"] - first["Bytes"]
    return int(max(e["args"]["Total Allocated"] for e in balance) - start)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Some builds of the profiler write two lines to the process's stderr whatever the log level."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

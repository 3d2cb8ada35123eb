"""What a network costs: size, work, time and memory. Everything is measured in evaluation mode, without gradients."""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from limbeck.errors import DataError

PATIENCE = 20.0  # seconds after which a timing ends, whatever it has seen
ROOM = 2 * 1024**3  # bytes that the large batch may take
TURNS = 5  # of every network
Inputs = tuple[Any, ...]
"""The positional arguments of a network's forward; at least one is a tensor whose first axis is the batch."""

# Operations that only make, copy or rearrange tensors. Views and elementwise ones are known by their tags.
MOVES = re.compile(
    "_?(arange|cat|clone|constant_pad_nd|copy_?|embedding|empty|empty_strided|eye|flip|full|gather|index|index_select"
    "|lift_fresh|local_scalar_dense|new_empty|new_full|new_ones|new_zeros|ones|pixel_shuffle|pixel_unshuffle"
    "|reflection_pad.d|repeat|replication_pad.d|reshape_alias|resize_|roll|scalar_tensor|stack|to_copy"
    "|unsafe_index|unsafe_view|zeros)(_like)?"
)


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulate operations.

    Attributes:
        count: Their number, for the given inputs.
        uncounted: Operations that ran, do arithmetic beyond elementwise, and are not in `count`, such as
            "aten.native_batch_norm".
    """

    count: int
    uncounted: tuple[str, ...]


def costs(
    modules: Mapping[str, nn.Module], inputs_of: Callable[[int], Inputs], batch: int = 64, seconds: float = 1.0
) -> dict[str, dict[str, float | None]]:
    """Return what each of `modules` costs, on the device where they and their inputs are.

    Args:
        modules: The networks by name. They are timed in turns, so that whatever else the machine does, or how warm it
            gets, meets all of them and not only one.
        inputs_of: Makes the inputs for a batch of the given size.
        batch: Size of the large batch that measures throughput; smaller where its timing would take more than 20
            seconds or a forward more than 2 GiB, as they do for large images.
        seconds: How long each of the two timings of a network runs, at least.

    Returns:
        For every name parameters; macs, latency_ms_batch1 and peak_memory_bytes for one sample; file_bytes;
        images_per_second and cpu_percent for the large batch. What runs outside torch, as an ONNX file does, has
        neither parameters nor work that torch could count: then parameters, macs and memory are None, for they are
        not 0.
    """
    one = inputs_of(1)
    latency = latencies_ms(modules, one, seconds)
    found: dict[str, dict[str, float | None]] = {}
    large: dict[str, int] = {}
    for name, module in modules.items():
        size, work = parameters(module), macs(module, one).count
        file, memory = file_bytes(module), peak_memory_bytes(module, one)
        in_time = int(1000 * PATIENCE / latency[name]) // (2 * TURNS)
        in_room = ROOM // max(1, memory - file)  # weights are there once, the rest for every image
        large[name] = max(1, min(batch, in_time, in_room))
        hidden = size == 0 and work == 0
        found[name] = {
            "parameters": None if hidden else size,
            "macs": None if hidden else work,
            "file_bytes": file,
            "latency_ms_batch1": latency[name],
            "peak_memory_bytes": None if hidden else memory,
        }
    inputs = {size: inputs_of(size) for size in set(large.values())}
    speeds = throughputs(modules, {name: inputs[size] for name, size in large.items()}, seconds)
    for name, (speed, cpu) in speeds.items():
        found[name] |= {"images_per_second": speed, "cpu_percent": cpu}
    return found


def parameters(module: nn.Module) -> int:
    """Return the number of parameters; one that is used twice counts once."""
    return sum(p.numel() for p in module.parameters())


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


def macs(module: nn.Module, inputs: Inputs) -> Macs:
    """Return the multiply-accumulates of one forward: half of the FLOPs that torch's counter knows a formula for.

    The counter covers matrix products, convolutions and attention, without their biases. Attention is made to run
    as matrix products, so that the count is the same on every device.

    Args:
        module: The network.
        inputs: Its inputs; a batch of 1 by convention.
    """
    counter = FlopCounterMode(display=False)
    # The counter is the inner mode: what it passes on has been decomposed as far as it can be.
    with _measuring(module), _plain_attention(), _Uncounted(counter) as rest, counter:
        module(*inputs)
    return Macs(counter.get_total_flops() // 2, tuple(sorted(rest.operations)))


def latencies_ms(modules: Mapping[str, nn.Module], inputs: Inputs, seconds: float = 1.0) -> dict[str, float]:
    """Return the median time of one forward of each module in milliseconds, taken in turns.

    Args:
        modules: The networks by name.
        inputs: Their inputs; a batch of 1 by convention.
        seconds: How long to go on measuring each, at least.
    """
    timed = _in_turns(modules, dict.fromkeys(modules, inputs), seconds)
    return {name: 1000 * statistics.median(timing.forwards) for name, timing in timed.items()}


def throughputs(
    modules: Mapping[str, nn.Module], inputs: Mapping[str, Inputs], seconds: float = 1.0
) -> dict[str, tuple[float, float]]:
    """Return images per second of each module and the process's use of the CPU meanwhile, taken in turns.

    Args:
        modules: The networks by name.
        inputs: The inputs of each, for a large batch.
        seconds: How long to go on measuring each, at least.

    Returns:
        The batch size over the median time of a forward, and CPU time over elapsed time in percent: 100 is one
        core, all threads of this process together. On a GPU it includes waiting for the device.
    """
    timed = _in_turns(modules, inputs, seconds)
    return {
        name: (len(_first_tensor(inputs[name])) / statistics.median(timing.forwards), 100 * timing.cpu / timing.wall)
        for name, timing in timed.items()
    }


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
    device = _first_tensor(inputs).device
    weights = [*module.parameters(), *module.buffers()]
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in weights}
    given: int = sum(t.numel() * t.element_size() for t in inputs if isinstance(t, Tensor))
    with _measuring(module):
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


@dataclass
class _Timing:
    """Seconds of each forward that counts; and of all that ran, on the clock and on the CPU."""

    forwards: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0


def _in_turns(modules: Mapping[str, nn.Module], inputs: Mapping[str, Inputs], seconds: float) -> dict[str, _Timing]:
    """Time the forwards of each module in several turns; one whose patience ends has no further turn."""
    timed = {name: _Timing() for name in modules}
    for _ in range(TURNS):
        for name, module in modules.items():
            if timed[name].wall <= max(PATIENCE, seconds):
                with _measuring(module):
                    _take_turn(module, inputs[name], seconds, timed[name])
    return timed


def _take_turn(module: nn.Module, inputs: Inputs, seconds: float, timing: _Timing) -> None:
    """Run forwards for a turn's share of the seconds: one to warm up, then one at least.

    What takes longer than the patience for one image, as an optimisation does, is run once: next to its time, what a
    first forward prepares is nothing.
    """
    device = _first_tensor(inputs).device
    until, warm = timing.wall + seconds / TURNS, False
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        module(*inputs)
        _wait(device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        timing.wall, timing.cpu = timing.wall + wall, timing.cpu + cpu
        over = timing.wall > max(PATIENCE, seconds)
        if warm or (over and not timing.forwards):
            timing.forwards.append(wall)
        if over or (warm and timing.wall >= until):
            return
        warm = True


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _first_tensor(inputs: Inputs) -> Tensor:
    for value in inputs:
        if isinstance(value, Tensor):
            return value
    raise DataError(f"inputs to measure: expected at least one tensor, found {[type(v).__name__ for v in inputs]}")


@contextmanager
def _measuring(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every part's own mode is restored afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products: fused kernels differ by device, and the counter does not know all of them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


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


class _Uncounted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operations that `counter` has no formula for and that do more than move or map elements."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter = counter
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        trivial = func.is_view or torch.Tag.pointwise in func.tags or MOVES.fullmatch(packet.__name__)
        if packet not in self.counter.flop_registry and not trivial:
            self.operations.add(str(packet))
        return func(*args, **(kwargs or {}))

"""What a network costs: size, work, time and memory. Everything is measured in evaluation mode, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from limbeck.metrics.measuring import Inputs
from limbeck.metrics.memory import file_bytes, peak_memory_bytes
from limbeck.metrics.timing import latencies_ms, most_in_time, throughputs
from limbeck.metrics.work import macs

ROOM = 2 * 1024**3  # bytes that the large batch may take


@dataclass(frozen=True)
class Cost:
    """What one network costs.

    Attributes:
        values: Costs by name, the unit in the name; None for what could not be measured.
        spread: The quartiles of the costs that are medians, by name.
    """

    values: dict[str, float | None]
    spread: dict[str, tuple[float, float]]


def costs(
    modules: Mapping[str, nn.Module], inputs_of: Callable[[int], Inputs], batch: int = 64, seconds: float = 0.5
) -> dict[str, Cost]:
    """Return what each of `modules` costs, on the device where they and their inputs are.

    Args:
        modules: The networks by name. They are timed in turns, so that whatever else the machine does, or how warm it
            gets, meets all of them and not only one.
        inputs_of: Makes the inputs for a batch of the given size.
        batch: Size of the large batch that measures throughput; smaller where its timing would take more than 20
            seconds or a forward more than 2 GiB, as they do for large images.
        seconds: How long the latency of a network is timed, at least; its throughput takes twice that, as its spread
            does not come down sooner.

    Returns:
        For every name parameters; macs, latency_ms_batch1 and peak_memory_bytes for one sample; file_bytes;
        images_per_second and cpu_percent for the large batch. What runs outside torch, as an ONNX file does, has
        neither parameters nor work that torch could count: then parameters, macs and memory are None, for they are
        not 0. Of latency_ms_batch1 and images_per_second, which are medians, there are the quartiles, too.
    """
    one = inputs_of(1)
    latency = latencies_ms(modules, one, seconds)
    found: dict[str, Cost] = {}
    large: dict[str, int] = {}
    for name, module in modules.items():
        size, work = parameters(module), macs(module, one).count
        file, memory = file_bytes(module), peak_memory_bytes(module, one)
        in_time = most_in_time(latency[name].median)
        in_room = ROOM // max(1, memory - file)  # weights are there once, the rest for every image
        large[name] = max(1, min(batch, in_time, in_room))
        hidden = size == 0 and work == 0
        values: dict[str, float | None] = {
            "parameters": None if hidden else size,
            "macs": None if hidden else work,
            "file_bytes": file,
            "latency_ms_batch1": latency[name].median,
            "peak_memory_bytes": None if hidden else memory,
        }
        found[name] = Cost(values, {"latency_ms_batch1": (latency[name].low, latency[name].high)})
    inputs = {size: inputs_of(size) for size in set(large.values())}
    speeds = throughputs(modules, {name: inputs[size] for name, size in large.items()}, 2 * seconds)
    for name, (speed, cpu) in speeds.items():
        found[name].values.update(images_per_second=speed.median, cpu_percent=cpu)
        found[name].spread["images_per_second"] = (speed.low, speed.high)
    return found


def parameters(module: nn.Module) -> int:
    """Return the number of parameters; one that is used twice counts once."""
    return sum(p.numel() for p in module.parameters())

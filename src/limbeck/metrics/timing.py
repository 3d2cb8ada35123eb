"""The time of a network: of one sample, and of large batches; several networks are timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from limbeck.metrics.measuring import Inputs, first_tensor, measuring

PATIENCE = 20.0  # seconds after which a timing ends, whatever it has seen
TURNS = {"latency": 15, "throughput": 5}  # of every network; of two that are equal, the middle halves then part rarely


@dataclass(frozen=True)
class Spread:
    """What was measured many times.

    Attributes:
        median: Half of the measurements were less.
        low: A quarter of them was less.
        high: A quarter of them was more.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the median and the quartiles of one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def latencies_ms(modules: Mapping[str, nn.Module], inputs: Inputs, seconds: float = 0.5) -> dict[str, Spread]:
    """Return the times of one forward of each module in milliseconds, of each turn the median.

    Args:
        modules: The networks by name.
        inputs: Their inputs; a batch of 1 by convention.
        seconds: How long to go on measuring each, at least.
    """
    timed = _in_turns(modules, dict.fromkeys(modules, inputs), seconds, TURNS["latency"])
    return {name: Spread.of([1000 * forward for forward in timing.medians]) for name, timing in timed.items()}


def throughputs(
    modules: Mapping[str, nn.Module], inputs: Mapping[str, Inputs], seconds: float = 1.0
) -> dict[str, tuple[Spread, float]]:
    """Return images per second of each module and the process's use of the CPU meanwhile, taken in turns.

    Args:
        modules: The networks by name.
        inputs: The inputs of each, for a large batch.
        seconds: How long to go on measuring each, at least.

    Returns:
        The batch size over the times of a forward, and CPU time over elapsed time in percent: 100 is one
        core, all threads of this process together. On a GPU it includes waiting for the device.
    """
    found = {}
    for name, timing in _in_turns(modules, inputs, seconds, TURNS["throughput"]).items():
        batch = len(first_tensor(inputs[name]))
        forward = Spread.of(timing.medians)
        speed = Spread(batch / forward.median, batch / forward.high, batch / forward.low)
        found[name] = speed, 100 * timing.cpu / timing.wall
    return found


def most_in_time(milliseconds: float) -> int:
    """Return how many images a batch may have, of which one takes so long, for its timing to stay within patience."""
    return int(1000 * PATIENCE / milliseconds) // (2 * TURNS["throughput"])


@dataclass
class _Timing:
    """Seconds of a forward, of each turn the median; and of all that ran, on the clock and on the CPU."""

    medians: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0


def _in_turns(
    modules: Mapping[str, nn.Module], inputs: Mapping[str, Inputs], seconds: float, turns: int
) -> dict[str, _Timing]:
    """Time the forwards of each module in several turns; one whose patience ends has no further turn."""
    timed = {name: _Timing() for name in modules}
    for _ in range(turns):
        for name, module in modules.items():
            if timed[name].wall <= max(PATIENCE, seconds):
                with measuring(module):
                    _take_turn(module, inputs[name], seconds, timed[name], timed[name].wall + seconds / turns)
    return timed


def _take_turn(module: nn.Module, inputs: Inputs, seconds: float, timing: _Timing, until: float) -> None:
    """Run forwards until so many seconds have run: one to warm up, then one at least.

    What takes longer than the patience for one image, as an optimisation does, is run once: next to its time, what a
    first forward prepares is nothing.
    """
    device = first_tensor(inputs).device
    forwards: list[float] = []
    warm = False
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        module(*inputs)
        _wait(device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        timing.wall, timing.cpu = timing.wall + wall, timing.cpu + cpu
        over = timing.wall > max(PATIENCE, seconds)
        if warm or (over and not timing.medians):
            forwards.append(wall)
        if over or (warm and timing.wall >= until):
            break
        warm = True
    if forwards:
        timing.medians.append(statistics.median(forwards))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

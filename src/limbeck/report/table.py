"""The table of `limbeck check`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from limbeck.report.wording import cost_text


@dataclass(frozen=True)
class Estimate:
    """What one arm will cost, as `limbeck check` finds it.

    Attributes:
        arm: Its name.
        parameters: Parameters of its network.
        macs: Multiply-accumulates of its network for one sample.
        memory_bytes: Peak memory while training: of the GPU, else of this process so far.
        steps: Steps of its training; 0 for a loaded network.
        seconds: Estimated time to train it, all seeds together.
    """

    arm: str
    parameters: int
    macs: int
    memory_bytes: int
    steps: int
    seconds: float


def costs(estimates: Iterable[Estimate]) -> Table:
    """Return what `limbeck check` found, a row an arm, and the time of the whole run below."""
    table = Table("arm", "parameters", "MACs", "memory", "steps", "time", show_footer=True)
    total = 0.0
    for one in estimates:
        total += one.seconds
        size = f"{one.parameters:,}" if one.parameters or one.macs else "–"  # an ONNX file does not show its own
        texts = (cost_text("macs", one.macs or None), cost_text("file_bytes", one.memory_bytes))
        table.add_row(one.arm, size, *texts, f"{one.steps:,}", _duration(one.seconds))
    table.columns[0].footer, table.columns[-1].footer = "training, all seeds", _duration(total)
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"

"""Several runs side by side: a row a metric or cost, a column an arm, for the terminal, documents and programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from limbeck.report.result import ArmResult, Result
from limbeck.report.wording import cost_label, cost_text, metric_name

SHOWN_COSTS = ("parameters", "macs", "latency_ms_batch1")
GAP = "  "


@dataclass(frozen=True)
class _Column:
    """One arm of one run, with what it says in each row."""

    run: str
    arm: str
    texts: Sequence[str]

    @property
    def width(self) -> int:
        return max(map(len, [self.run, self.arm, *self.texts]))


def comparison(results: Mapping[str, Result], kind: str, width: int = 80) -> str:
    """Return the arms of several runs side by side. Numbers are never cut.

    Metrics over different features have different rows: they do not compare.

    Args:
        results: The results by the name of their run.
        kind: "text" for a terminal, in several tables where one would be too wide; "md" for a document; "csv", a line
            for each number, and "json" with numbers in full.
        width: Of the terminal, in characters; a table of one arm may be wider.
    """
    return FORMATS[kind](results, width)


def _text(results: Mapping[str, Result], width: int) -> str:
    names, columns = _table(results)
    heads = ["run", "arm"] if len(results) > 1 else ["arm"]
    first = max(map(len, [*heads, *names]))
    tables = []
    for part in _fitting(columns, width - first):
        lines = [_line("arm", first, [(c.arm, c.width) for c in part])]
        if len(results) > 1:
            lines.insert(0, _line("run", first, [(c.run, c.width) for c in part]))
        lines.append("-" * len(lines[-1]))
        told = [row for row in range(len(names)) if any(c.texts[row] for c in part)]
        lines += [_line(names[row], first, [(c.texts[row], c.width) for c in part]) for row in told]
        tables.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(tables)


def _fitting(columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """Divide the columns so that each part fits in the width, or is a single column."""
    part: list[_Column] = []
    for column in columns:
        if part and sum(len(GAP) + c.width for c in [*part, column]) > width:
            yield part
            part = []
        part.append(column)
    if part:
        yield part


def _line(name: str, first: int, cells: Sequence[tuple[str, int]]) -> str:
    return GAP.join([name.ljust(first), *(text.rjust(width) for text, width in cells)])


def _markdown(results: Mapping[str, Result], width: int) -> str:
    names, columns = _table(results)
    several = len(results) > 1
    heads = [f"{c.run}, {c.arm}" if several else c.arm for c in columns]
    rows = [["", *heads], ["---", *["---:"] * len(columns)]]
    rows += [[name, *(c.texts[row] for c in columns)] for row, name in enumerate(names)]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)


def _csv(results: Mapping[str, Result], width: int) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["run", "arm", "role", "name", "mean", "std"])
    for run, result in results.items():
        for name, arm in result.arms.items():
            lines.writerows([run, name, arm.role, metric, q.mean, q.std] for metric, q in arm.quality.items())
            lines.writerows([run, name, arm.role, cost, value, None] for cost, value in arm.cost.items())
    return text.getvalue().rstrip("\n")


def _json(results: Mapping[str, Result], width: int) -> str:
    arms = {run: result.to_json()["arms"] for run, result in results.items()}
    shown = ("role", "quality", "cost", "spread")
    tree = {
        run: {name: {key: arm[key] for key in shown if key in arm} for name, arm in found.items()}
        for run, found in arms.items()
    }
    return json.dumps(tree, indent=2, ensure_ascii=False)


FORMATS: Mapping[str, Callable[[Mapping[str, Result], int], str]] = {
    "text": _text,
    "md": _markdown,
    "csv": _csv,
    "json": _json,
}


def _table(results: Mapping[str, Result]) -> tuple[list[str], list[_Column]]:
    """Return the names of the rows, and the columns."""
    arms = [(run, name, arm) for run, result in results.items() for name, arm in result.arms.items()]
    metrics = list(dict.fromkeys(metric for _, _, arm in arms for metric in arm.quality))
    names = [*map(metric_name, metrics), *map(cost_label, SHOWN_COSTS)]
    return names, [_Column(run, name, _texts(arm, metrics)) for run, name, arm in arms]


def _texts(arm: ArmResult, metrics: Sequence[str]) -> list[str]:
    qualities = [str(arm.quality.get(metric, "")) for metric in metrics]
    return [*qualities, *(cost_text(cost, arm.cost[cost]) if cost in arm.cost else "" for cost in SHOWN_COSTS)]

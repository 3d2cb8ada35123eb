"""Write the tables of measured results in README.md and docs/ from results/*.json.

A table stands between two marks, and everything between them is generated:

    <!-- table: results/gan-fashion-mnist.json -->
    <!-- /table -->

The first may choose columns, by the full names of metrics and costs, and how they are headed stays the same:
`<!-- table: results/x.json columns: parameters, fid[fashion-cnn] -->`. Without a choice they are parameters, MACs,
latency and every metric. With `ranked: lowest` (or `highest`) after the columns, students and controls are ordered by
the first metric, and its verdicts stand in a column instead of beneath. An empty table whose result has not been
measured yet stays empty.

    python benchmarks/tables.py            rewrites what is out of date
    python benchmarks/tables.py --check    changes nothing, exits 1 if something is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from documents import keep

from limbeck.errors import LimbeckError
from limbeck.report.numbers import number
from limbeck.report.result import ArmResult, Result, Verdict
from limbeck.report.wording import corrections, cost_label, cost_text, interval_text, metric_name

COSTS = ("parameters", "macs", "latency_ms_batch1")
OPENING = re.compile(
    r"<!-- table: (?P<file>\S+?)(?: columns: (?P<columns>[^>]+?))?(?: ranked: (?P<ranked>lowest|highest))? -->"
)
TABLE = re.compile(rf"(?P<open>{OPENING.pattern})\n(?P<body>.*?)(?P<close><!-- /table -->)", re.DOTALL)


def table(result: Result, columns: Sequence[str] = (), ranked: str | None = None) -> str:
    """Return the Markdown of a result: a row an arm, a column a cost or metric, and the verdicts beneath.

    A `ranked` one has the "lowest" or "highest" first, by its first metric, and that metric's verdicts in a column.

    Raises:
        LimbeckError: No arm has a column that was chosen.
    """
    metrics = list(dict.fromkeys(metric for arm in result.arms.values() for metric in arm.quality))
    costs = list(dict.fromkeys(cost for arm in result.arms.values() for cost in arm.cost))
    chosen = list(columns) or [*(cost for cost in COSTS if cost in costs), *metrics]
    for column in chosen:
        if column not in metrics and column not in costs:
            raise LimbeckError(f"column {column!r}: expected one of {', '.join([*costs, *metrics])}")
    heads = [cost_label(c) if c in costs else metric_name(c) for c in chosen]
    arms, verdicts = list(result.arms.items()), {}
    if ranked:
        first = next(column for column in chosen if column in metrics)
        arms = _ranked(result, first, ranked)
        verdicts = {v.student: v for v in result.verdicts if v.metric == first}
        heads.append(f"{metric_name(first)} minus control, verdict")
    lines = [_row(["arm", *heads]), _row(["---", *["---:"] * len(heads)])]
    for name, arm in arms:
        cells = [cost_text(c, arm.cost.get(c)) if c in costs else str(arm.quality.get(c, "–")) for c in chosen]
        if ranked:
            cells.append(_verdict(verdicts[name]) if name in verdicts else "")
        lines.append(_row([f"**{name}**" if arm.role == "student" else name, *cells]))
        if arm.best is not None:
            cells = ["" if c in costs else str(arm.best.quality.get(c, "–")) for c in chosen]
            lines.append(_row([f"{name}, best on validation", *cells, *([""] if ranked else [])]))
    shown = list(verdicts.values()) if ranked else [v for v in result.verdicts if v.metric in chosen]
    beneath = [] if ranked else _verdicts(shown)
    return "\n".join([*lines, "", *beneath, *_conditions(result, shown)]) + "\n"


def _ranked(result: Result, metric: str, first: str) -> list[tuple[str, ArmResult]]:
    """Return the arms with the students and controls, which trained alike, in the order of a metric."""
    arms = list(result.arms.items())
    alike = [arm for arm in arms if arm[1].role in ("student", "control")]
    order = sorted(alike, key=lambda arm: arm[1].quality[metric].mean, reverse=first == "highest")
    others = [arm for arm in arms if arm not in alike]
    return [*(a for a in others if a[1].role == "teacher"), *order, *(a for a in others if a[1].role != "teacher")]


def refresh(text: str, root: Path) -> str:
    """Return a document with its tables made anew from the result files under `root`.

    Raises:
        LimbeckError: A result cannot be read (or is gone while its table still stands), a column is unknown, or a
            table is not closed.
    """

    def fill(match: re.Match[str]) -> str:
        if not match["body"].strip() and not (root / match["file"]).exists():
            return match[0]
        columns = [column.strip() for column in (match["columns"] or "").split(",") if column.strip()]
        return f"{match['open']}\n{table(Result.read(root / match['file']), columns, match['ranked'])}{match['close']}"

    if len(OPENING.findall(text)) != len(TABLE.findall(text)):
        raise LimbeckError("a table is opened by <!-- table: ... --> but not closed by <!-- /table -->")
    return TABLE.sub(fill, text)


def main(words: Sequence[str] | None = None) -> int:
    return keep("tables of the documents, from results/*.json", refresh, words)


def _verdicts(shown: Sequence[Verdict]) -> list[str]:
    lines = [f"- {metric_name(v.metric)}, {v.student} minus {v.control}: {_verdict(v)}" for v in shown]
    return [*lines, ""] if lines else []


def _verdict(v: Verdict) -> str:
    found = v.reason if v.interval95 is None else f"95 % interval {interval_text(v)}"
    difference = "" if v.student_minus_control is None else f"{number(v.student_minus_control)}, "
    corrected = "" if v.p_holm is None else f", p = {v.p_holm:.2g} (Holm)"
    return f"{difference}{found}{corrected}: {'no verdict' if v.verdict == 'NONE' else v.verdict}"


def _conditions(result: Result, shown: Sequence[Verdict] = ()) -> list[str]:
    seeds = f"{len(result.seeds)} seeds (mean ± standard deviation)" if len(result.seeds) > 1 else "one seed"
    machine = result.hardware.get("gpu") or f"{result.hardware['cpu']}, {result.hardware['threads']} threads"
    trained = result.trained_on()
    places = [f"; {', '.join(arms)} trained on {place}" for place, arms in trained.items()]
    elsewhere = "".join(places) if set(trained) - {machine} else ""
    text = f"{result.data.name}, {result.data.reference_split} split; {seeds}; costs on {machine}{elsewhere}."
    return [f"{text} {corrections(shown)}".rstrip()]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())

"""Write the tables of measured results in README.md and docs/ from results/*.json.

A table stands between two marks, and everything between them is generated:

    <!-- table: results/gan-fashion-mnist.json -->
    <!-- /table -->

The first may choose columns, by the full names of metrics and costs, and how they are headed stays the same:
`<!-- table: results/x.json columns: parameters, fid[fashion-cnn] -->`. Without a choice they are parameters, MACs,
latency and every metric. An empty table whose result has not been measured yet stays empty.

    python benchmarks/tables.py            rewrites what is out of date
    python benchmarks/tables.py --check    changes nothing, exits 1 if something is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import LimbeckError
from limbeck.files import write_atomically
from limbeck.report.result import Result, number
from limbeck.report.wording import cost_label, cost_text, interval_text, metric_features, metric_label

COSTS = ("parameters", "macs", "latency_ms_batch1")
OPENING = re.compile(r"<!-- table: (?P<file>\S+?)(?: columns: (?P<columns>[^>]+?))? -->")
TABLE = re.compile(rf"(?P<open>{OPENING.pattern})\n(?P<body>.*?)(?P<close><!-- /table -->)", re.DOTALL)


def table(result: Result, columns: Sequence[str] = ()) -> str:
    """Return the Markdown of a result: a row an arm, a column a cost or metric, and the verdicts beneath.

    Raises:
        LimbeckError: No arm has a column that was chosen.
    """
    metrics = list(dict.fromkeys(metric for arm in result.arms.values() for metric in arm.quality))
    costs = list(dict.fromkeys(cost for arm in result.arms.values() for cost in arm.cost))
    chosen = list(columns) or [*(cost for cost in COSTS if cost in costs), *metrics]
    for column in chosen:
        if column not in metrics and column not in costs:
            raise LimbeckError(f"column {column!r}: expected one of {', '.join([*costs, *metrics])}")
    heads = [cost_label(c) if c in costs else _metric_head(c) for c in chosen]
    lines = [_row(["arm", *heads]), _row(["---", *["---:"] * len(heads)])]
    for name, arm in result.arms.items():
        cells = [cost_text(c, arm.cost.get(c)) if c in costs else str(arm.quality.get(c, "–")) for c in chosen]
        lines.append(_row([f"**{name}**" if arm.role == "student" else name, *cells]))
        if arm.best is not None:
            cells = ["" if c in costs else str(arm.best.quality.get(c, "–")) for c in chosen]
            lines.append(_row([f"{name}, best on validation", *cells]))
    return "\n".join([*lines, "", *_verdicts(result, chosen), *_conditions(result)]) + "\n"


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
        return f"{match['open']}\n{table(Result.read(root / match['file']), columns)}{match['close']}"

    if len(OPENING.findall(text)) != len(TABLE.findall(text)):
        raise LimbeckError("a table is opened by <!-- table: ... --> but not closed by <!-- /table -->")
    return TABLE.sub(fill, text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="tables of the documents, from results/*.json")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a table is out of date")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the project's folder")
    options = parser.parse_args(arguments)
    stale = []
    for path in sorted([*options.root.glob("*.md"), *options.root.glob("docs/**/*.md")]):
        old = path.read_text(encoding="utf-8")
        try:
            new = refresh(old, options.root)
        except LimbeckError as error:
            print(f"{path.relative_to(options.root)}: {error}", file=sys.stderr)
            return 2
        if new != old:
            stale.append(path)
            if not options.check:
                write_atomically(path, new.encode())
    for path in stale:
        print(f"{path.relative_to(options.root)}: {'out of date' if options.check else 'rewritten'}")
    return 1 if stale and options.check else 0


def _metric_head(metric: str) -> str:
    features = metric_features(metric)
    return f"{metric_label(metric)} [{features}]" if features else metric_label(metric)


def _verdicts(result: Result, columns: Sequence[str]) -> list[str]:
    lines = []
    for v in result.verdicts:
        if v.metric not in columns:
            continue
        found = v.reason if v.interval95 is None else f"95 % interval {interval_text(v)}"
        difference = "" if v.student_minus_control is None else f"{number(v.student_minus_control)}, "
        corrected = "" if v.p_holm is None else f", p = {v.p_holm:.2g} (Holm)"
        metric, outcome = _metric_head(v.metric), "no verdict" if v.verdict == "NONE" else v.verdict
        lines.append(f"- {metric}, {v.student} minus {v.control}: {difference}{found}{corrected}: {outcome}")
    return [*lines, ""] if lines else []


def _conditions(result: Result) -> list[str]:
    seeds = f"{len(result.seeds)} seeds (mean ± standard deviation)" if len(result.seeds) > 1 else "one seed"
    machine = result.hardware.get("gpu") or f"{result.hardware['cpu']}, {result.hardware['threads']} threads"
    return [f"{result.data.name}, {result.data.reference_split} split; {seeds}; costs on {machine}."]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())

"""Judge the results in results/*.json anew, from the values of their seeds: what a change of the statistics asks for.

A verdict is derived from `per_seed`, so it is never typed by hand. What a result says besides stays as it is.

    python benchmarks/verdicts.py            rewrites the results whose verdicts are out of date, and says which
    python benchmarks/verdicts.py --check    changes nothing, exits 1 if one is out of date
    python benchmarks/tables.py              then brings the tables of the documents up to date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

from limbeck.recipe.catalogue import resolve
from limbeck.report.result import Result, Verdict
from limbeck.report.statistics import judge
from limbeck.tasks.base import Task


def judged(result: Result) -> Result:
    """Return the result with the verdicts that its values ask for, in the order of the old ones.

    A verdict that is right stays to the last digit, though another machine computed it.
    """
    task = result.recipe["task"]
    directions = resolve(Task, task if isinstance(task, str) else task["class_path"]).directions  # type: ignore[attr-defined]
    pairs = list(dict.fromkeys((verdict.student, verdict.control) for verdict in result.verdicts))
    anew = {(verdict.metric, verdict.student): verdict for verdict in judge(result.arms, pairs, directions)}
    verdicts = [(old, anew[old.metric, old.student]) for old in result.verdicts]
    return replace(result, verdicts=[old if _alike(old, new) else new for old, new in verdicts])


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="verdicts of results/*.json, from the values of their seeds"
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a verdict is out of date")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the project's folder")
    options = parser.parse_args(words)
    stale = False
    for path in sorted(options.root.glob("results/*.json")):
        old = Result.read(path)
        new = judged(old)
        changed = [(was, now) for was, now in zip(old.verdicts, new.verdicts, strict=True) if was is not now]
        for was, now in changed:
            print(f"{path.name}: {now.metric}, {now.student}: {_text(was)} -> {_text(now)}")
        if changed and not options.check:
            new.write(path)
        stale = stale or bool(changed)
    return 1 if stale and options.check else 0


def _alike(old: Verdict, new: Verdict) -> bool:
    """Return whether two verdicts are the same but for the last digits of their numbers."""
    pairs = zip(_numbers(old), _numbers(new), strict=True)
    near = all(isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in pairs)
    return near and (old.verdict, old.control, old.reason) == (new.verdict, new.control, new.reason)


def _numbers(verdict: Verdict) -> list[float]:
    known = [verdict.student_minus_control, *(verdict.interval95 or ()), verdict.p_value, verdict.p_holm]
    return [-1.0 if value is None else value for value in known] + [0.0] * (verdict.interval95 is None) * 2


def _text(verdict: Verdict) -> str:
    p_value = verdict.p_value if verdict.p_holm is None else verdict.p_holm
    return f"{verdict.verdict}" if p_value is None else f"{verdict.verdict}, p = {p_value:.2g}"


if __name__ == "__main__":
    sys.exit(main())

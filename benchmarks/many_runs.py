"""Runs in two processes end clean every time, and two runs that start together in one folder both end whole.

A tiny classifier is distilled by the command line. Clean is a run that ends with status 0, says nothing of an error or
of a signal, and leaves result, report and a student whose bytes are those of every other run of its kind. Of a pair,
both have to, and each arm is to be trained by one of the two alone.

    python benchmarks/many_runs.py        last lines: clean N/20, clean N/9
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

from limbeck.report.result import Result

RECIPE = """
name: tiny
data: {class_path: Glyphs, init_args: {size: 16, channels: 1, classes: ABC, train: 64, validation: 16, test: 16}}
task: Classification
method: {class_path: Supervised, init_args: {terms: {student.logits: Kd}}}
teacher:
  network: {class_path: SmallCnn, init_args: {width: 4, channels: 1, size: 16, classes: 3}}
  training: {steps: 20, batch: 8}
student:
  network: {class_path: SmallCnn, init_args: {width: 2, channels: 1, size: 16, classes: 3}}
  training: {steps: 20, batch: 8}
control: false
"""
TWO = ["--teacher.training.processes", "2", "--student.training.processes", "2"]
LIMBECK = [sys.executable, "-c", "import sys; from limbeck.cli import main; sys.exit(main())"]
WRONG = re.compile(r"Traceback|Error|abort|SIG[A-Z]+|terminate called", re.IGNORECASE)


def started(out: Path, *flags: str) -> subprocess.Popen[str]:
    """Return a run that has begun."""
    recipe = out.parent / "tiny.yaml"
    recipe.write_text(RECIPE)
    words = [*LIMBECK, "run", str(recipe), "--out", str(out), "--accelerator", "cpu", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def ended(run: subprocess.Popen[str]) -> str:
    """Return what a run said, once it is over; a line at its end says what is wrong with it."""
    said, _ = run.communicate()
    if run.returncode:
        return f"{said}\nFAULT: status {run.returncode}"
    return f"{said}\nFAULT: {found[0]!r} in its output" if (found := WRONG.search(said)) else said


def faults(out: Path, said: list[str], students: set[bytes]) -> list[str]:
    """Return what is wrong with a folder and with what its runs said; `students` are those of other folders."""
    wrong = [line for text in said for line in text.splitlines() if line.startswith("FAULT")]
    if wrong:
        return [*wrong, *said]
    Result.read(out / "result.json")
    if not (out / "report.html").read_text().rstrip().endswith("</html>"):
        wrong.append("half a report")
    students.add((out / "student.safetensors").read_bytes())
    if len(students) > 1:
        wrong.append("another student")
    if half := [path.name for path in out.rglob("*.part")]:
        wrong.append(f"left {half}")
    trained = sum(text.count(" 20/20 ") for text in said)
    if trained != 2:
        wrong.append(f"{trained} trainings, not 2")
    return wrong


def count_clean(kind: str, times: int, together: int, flags: list[str]) -> int:
    """Return how many of `times` folders ended clean, in each of which some runs start together."""
    clean, students = 0, set[bytes]()
    for number in range(times):
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "out"
            before = time.monotonic()
            runs = [started(out, *flags) for _ in range(together)]
            wrong = faults(out, [ended(run) for run in runs], students)
            clean += not wrong
            verdict = "\n".join(wrong) or "clean"
            print(f"{kind} {number + 1}: {time.monotonic() - before:.0f} s, {verdict}", flush=True)
    return clean


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="whole runs in two processes, and pairs of runs in one folder"
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    runs = count_clean("run in two processes", options.runs, 1, TWO)
    pairs = count_clean("pair of runs in one folder", options.pairs, 2, [])
    record("many_runs", {"clean_runs": runs, "clean_pairs": pairs}, vars(options))
    print(f"runs in two processes: clean {runs}/{options.runs}")
    print(f"pairs of runs in one folder: clean {pairs}/{options.pairs}")


if __name__ == "__main__":
    main()

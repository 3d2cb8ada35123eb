"""Statistics, times and alarms as outsiders met them: each row with its right value."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limbeck.cli import main
from limbeck.report.alarms import alarms, raised
from limbeck.report.result import ArmResult, Budget, DataUsed, Quality, Result, Role
from limbeck.report.statistics import compare
from limbeck.report.wording import gains, headline

SHARE = np.float32(1) / np.float32(3)


def _arms(student: list[float], control: list[float]) -> dict[str, ArmResult]:
    return {
        "student": ArmResult("student", {"top1": Quality.of(student)}, {"parameters": 1.0}),
        "control": ArmResult("control", {"top1": Quality.of(control)}, {"parameters": 1.0}),
    }


@pytest.mark.parametrize(
    ("student", "control", "verdict", "p_value"),
    [
        # ard's top5 in robust-fashion-mnist.json: 5 images of 10,000, three times
        ([0.9958, 0.9958, 0.9955], [0.9953, 0.9953, 0.995], "INCONCLUSIVE", 0.25),
        ([0.985, 0.985, 0.99, 0.98, 0.985], [0.98, 0.98, 0.985, 0.975, 0.98], "INCONCLUSIVE", 1 / 16),
        ([0.985] * 6, [0.98] * 6, "BEATS", 1 / 32),
        ([0.1] * 10, [0.9] * 10, "LOSES", 1 / 512),
        ([0.98] * 3, [0.98] * 3, "INCONCLUSIVE", 1.0),
        ([0.0, 0.0, 1e-230], [0.0, 0.0, 0.0], "INCONCLUSIVE", 1.0),
        # what single precision leaves between equal differences is no spread
        ([float(SHARE + np.float32(x)) for x in (0.1, 0.2, 0.3)], [0.1, 0.2, 0.3], "INCONCLUSIVE", 0.25),
        ([0.1 + 0.2, 0.5, 0.7], [0.2, 0.4, 0.6], "INCONCLUSIVE", 0.25),
        # one image of 200 more than the others': a t-test that trusts s = 0.0022 says 0.0039
        ([0.985, 0.985, 0.99, 0.98, 0.99], [0.98, 0.98, 0.985, 0.975, 0.98], "BEATS", 0.0073),
        # one image in four of five seeds: 0.016, but for the step
        ([0.505, 0.505, 0.505, 0.505, 0.5], [0.5] * 5, "BEATS", 0.0283),
        # a difference that is large against its step stays what it was: scipy says 0.000142
        ([0.91, 0.91, 0.92], [0.60, 0.60, 0.60], "BEATS", 0.00014),
    ],
)
def test_differences_of_a_count(student: list[float], control: list[float], verdict: str, p_value: float) -> None:
    found = compare("top1", "student", "control", _arms(student, control), "higher")
    assert found.p_value == pytest.approx(p_value, rel=0.02)
    assert found.verdict == verdict


SMALL, LARGE = {"parameters": 10.0, "macs": 100.0}, {"parameters": 40.0, "macs": 400.0}


def _result(arms: Mapping[str, ArmResult]) -> Result:
    machine = {"cpu": "x", "cores": 1, "threads": 1, "gpu": None}
    return Result({"name": "x"}, "0", DataUsed("x", "0", "test"), [0], Budget(1), arms, [], {}, machine)


def _timed(role: Role, size: Mapping[str, float], milliseconds: float, *middle: float) -> ArmResult:
    spread = {"latency_ms_batch1": (middle[0], middle[1])} if middle else {}
    cost = {**size, "latency_ms_batch1": milliseconds}
    return ArmResult(role, {"fid[fashion-cnn]": Quality.of([1.0])}, cost, spread=spread)


@pytest.mark.parametrize(
    ("teacher", "student", "control", "said"),
    [
        # equal networks on a busy machine, with the spread and without (the old results)
        (_timed("teacher", SMALL, 44, 0.9, 50), _timed("student", SMALL, 1, 0.9, 40), None, ["no smaller"]),
        (_timed("teacher", SMALL, 44), _timed("student", SMALL, 1), None, ["no smaller"]),
        # the student is its control's network: what lies between those two is noise
        (_timed("teacher", LARGE, 2.5), _timed("student", SMALL, 3.4), _timed("control", SMALL, 2.1), ["4.0× smaller"]),
        # another network, whose times reach into the teacher's
        (_timed("teacher", LARGE, 9, 2, 12), _timed("student", SMALL, 3, 1, 4), None, ["4.0× smaller"]),
        (_timed("teacher", LARGE, 9, 8, 12), _timed("student", SMALL, 3, 2, 4), None, ["4.0× smaller", "3.0× faster"]),
        (_timed("teacher", LARGE, 3, 2, 4), _timed("student", SMALL, 9, 8, 12), None, ["4.0× smaller", "3.0× slower"]),
        # noisy by half, and still ten times faster
        (
            _timed("teacher", LARGE, 30, 29, 31),
            _timed("student", SMALL, 3, 2, 4),
            _timed("control", SMALL, 2, 2, 4),
            ["4.0× smaller", "10× faster"],
        ),
    ],
)
def test_no_speed_is_told_that_the_machine_was_too_busy_to_tell(
    teacher: ArmResult, student: ArmResult, control: ArmResult | None, said: list[str]
) -> None:
    arms = {"teacher": teacher, "student": student} | ({} if control is None else {"control": control})
    assert gains(_result(arms), "student") == said


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("fid[fashion-cnn]", "FID [fashion-cnn] 0.979"),
        ("kid[inception]", "KID [inception] 0.979"),
        ("perceptual[vgg16-3]", "Perceptual [vgg16-3] 0.979"),
        ("miou", "mIoU 0.979"),
    ],
)
def test_the_headline_names_the_features(metric: str, name: str) -> None:
    student = ArmResult("student", {metric: Quality.of([0.979])}, {"parameters": 1.0})
    text = headline(_result({"student": student}), metric.partition("[")[0], "lower")
    assert name in text


def _scored(role: Role, value: float, milliseconds: float = 1.0) -> ArmResult:
    return ArmResult(role, {"top1": Quality.of([value])}, {"latency_ms_batch1": milliseconds})


@pytest.mark.parametrize(
    ("arms", "direction", "expected"),
    [
        ({"teacher": _scored("teacher", 0.8), "control": _scored("control", 0.7)}, "higher", []),
        (
            {"teacher": _scored("teacher", 0.6), "control": _scored("control", 0.7)},
            "higher",
            ["teacher: top1 0.600 is worse than what needs no teacher, control (0.700): it may have nothing to teach"],
        ),
        (
            {
                "teacher": _scored("teacher", 24.0),
                "bicubic": _scored("baseline", 26.0),
                "sobel": _scored("baseline", 1),
            },
            "higher",
            ["teacher: top1 24.0 is worse than what needs no teacher, bicubic (26.0): it may have nothing to teach"],
        ),
        (
            {"teacher": _scored("teacher", 30.0), "control": _scored("control", 20), "hog": _scored("baseline", 10)},
            "lower",
            [
                "teacher: top1 30.0 is worse than what needs no teacher, control (20.0), hog (10.0):"
                " it may have nothing to teach"
            ],
        ),
        # an optimisation of each image may well be better, and so may what is told the truth
        ({"teacher": _scored("teacher", 0.5), "gatys": _scored("baseline", 0.9, 100.0)}, "higher", []),
        ({"teacher": _scored("teacher", 0.5), "oracle": _scored("baseline", 0.9)}, "higher", []),
        (
            {
                "teacher": _scored("teacher", 0.1),
                "student": _scored("student", 0.12),
                "guess": _scored("baseline", 0.1),
            },
            "higher",
            [
                "teacher: top1 0.100 is what the same answer to every image would reach: it has learnt nothing",
                "student: top1 0.120 is what the same answer to every image would reach: it has learnt nothing",
            ],
        ),
    ],
)
def test_a_teacher_that_cannot_teach_raises_an_alarm(
    arms: dict[str, ArmResult], direction: str, expected: list[str]
) -> None:
    chance = {"top1": 0.12} if direction == "higher" else {}
    assert alarms(raised(_result(arms), "top1", direction, chance, ["oracle"])) == expected


def test_alarms_of_training_come_first_and_are_kept() -> None:
    arms = {
        "teacher": replace(_scored("teacher", 0.6), alarms=("step 4: collapse",)),
        "control": _scored("control", 0.7),
    }
    found = alarms(raised(_result(arms), "top1", "higher", {}))
    assert found[0] == "step 4: collapse" and len(found) == 2


MANY = [f"student-{i}" for i in range(14)]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Two runs of fourteen students; the second has a metric of its own."""
    for run in ("a", "b"):
        arms = {"teacher": _measured("teacher", run, 0.123456789)}
        arms |= {name: _measured("student", run, 1 + i / 7) for i, name in enumerate(MANY)}
        _result(arms).write(tmp_path / run / "result.json")
    return [str(tmp_path / run) for run in ("a", "b")]


def _measured(role: Role, run: str, value: float) -> ArmResult:
    quality = {"fid[fashion-cnn]": Quality.of([value, value + 0.01]), f"only_{run}": Quality.of([value])}
    return ArmResult(role, quality, {"parameters": 12345.0, "macs": 6.7e6, "latency_ms_batch1": 0.1})


def _compare(runs: list[str], capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["compare", *runs, *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 40, 80, 200, 1000])
def test_compare_cuts_no_number_whatever_the_width(
    runs: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = _compare(runs, capsys)
    assert "…" not in text and "..." not in text
    for i in range(len(MANY)):
        assert text.count(str(Quality.of([1 + i / 7, 1.01 + i / 7]))) == len(runs)
    assert text.count("12.3 k") == 2 * 15 and text.count("0.1000 ms") + text.count("0.100 ms") == 2 * 15
    assert all(len(line) <= max(width, 35) for line in text.splitlines())
    assert len(re.findall(r"^run ", text, re.MULTILINE)) == len(text.strip().split("\n\n"))


def test_compare_has_metrics_as_rows_and_arms_as_columns(
    runs: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    lines = _compare(runs, capsys).splitlines()
    assert [line.split("  ")[0] for line in lines[:2] + lines[3:]] == [
        "run", "arm", "FID [fashion-cnn]", "only a", "only b", "Parameters", "MACs / image", "Latency, batch 1"
    ]  # fmt: skip
    assert lines[1].split() == ["arm", *["teacher", *MANY] * 2]
    assert len(lines[4].split()) == len(lines[5].split()) == 2 + 15


def test_compare_leaves_out_rows_that_say_nothing(
    runs: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for table in _compare(runs, capsys).strip().split("\n\n"):
        (run,) = set(table.splitlines()[0].split()[1:])
        assert ("only a" in table, "only b" in table) == (run == "a", run == "b")


def test_compare_for_a_document_is_one_table(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = _compare(runs, capsys, "--format", "md").splitlines()
    assert {line.count("|") for line in lines} == {1 + 1 + 2 * 15}
    assert lines[0].startswith("|  | a, teacher | a, student-0 |")
    assert lines[1].startswith("| --- | ---: |")


def test_compare_for_a_program_has_numbers_in_full(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(_compare(runs, capsys, "--format", "csv"))))
    assert len(rows) == 2 * 15 * (2 + 3)
    (found,) = (r for r in rows if r["run"] == "b" and r["arm"] == "teacher" and r["name"] == "only_b")
    assert (float(found["mean"]), found["role"]) == (0.123456789, "teacher")
    tree = json.loads(_compare(runs, capsys, "--format", "json"))
    assert tree["a"]["teacher"]["quality"]["only_a"]["per_seed"] == [0.123456789]
    assert tree["b"]["student-3"]["cost"]["parameters"] == 12345.0

"""Every committed result satisfies the schema and agrees with itself: its means, intervals and seeds."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import verdicts
from jsonschema import Draft202012Validator

from limbeck.report.result import ArmResult, Budget, DataUsed, Quality, Result
from limbeck.report.statistics import judge, paired_difference

RESULTS = sorted((Path(__file__).parents[1] / "results").glob("*.json"))
SCHEMA = json.loads(files("limbeck.report").joinpath("schema.json").read_text())


def problems(tree: Any) -> list[str]:
    """Return what is wrong with a result, a line each."""
    found = [f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(SCHEMA).iter_errors(tree)]
    found = found or [*_numbers(tree), *_folders(tree)]
    return found or list(_verdicts(tree))


def _numbers(tree: Any) -> Iterator[str]:
    for name, arm in tree["arms"].items():
        for metric, quality in arm["quality"].items():
            values, where = quality["per_seed"], f"{name} {metric}"
            if len(values) not in (1, len(tree["seeds"])):
                yield f"{where}: {len(values)} values for {len(tree['seeds'])} seeds"
            if None in values:
                continue
            if quality["mean"] != pytest.approx(statistics.fmean(values)):
                yield f"{where}: the mean is not that of its values"
            if len(values) > 1 and quality["std"] != pytest.approx(statistics.stdev(values), abs=1e-12):
                yield f"{where}: the deviation is not that of its values"


def _verdicts(tree: Any) -> Iterator[str]:
    for verdict in tree["verdicts"]:
        where = f"verdict on {verdict['metric']}, {verdict['student']}"
        if not {verdict["student"], verdict["control"]} <= set(tree["arms"]):
            yield f"{where}: names an arm that is not there"
            continue
        if verdict["interval95"] is None:
            continue
        arms = (tree["arms"][verdict[side]] for side in ("student", "control"))
        ours, theirs = (arm["quality"][verdict["metric"]]["per_seed"] for arm in arms)
        found = paired_difference(ours, theirs)
        if verdict["interval95"] != pytest.approx([found.low, found.high], abs=1e-9):
            yield f"{where}: the interval is not that of its seeds"
        p_value = verdict["p_value"] if verdict.get("p_holm") is None else verdict["p_holm"]
        if (p_value < 0.05) == (verdict["verdict"] == "INCONCLUSIVE"):
            yield f"{where}: {verdict['verdict']} does not follow from p = {p_value}"


def _folders(tree: Any) -> Iterator[str]:
    for value in re.findall(r'"((?:/|~|[A-Za-z]:\\)[^"]*)"', json.dumps(tree)):
        yield f"a folder of a machine: {value}"


def _sound() -> Any:
    cost = {"parameters": 1.0}
    arms = {
        "control": ArmResult("control", {"fid": Quality.of([5.0, 6.0, 5.5])}, cost),
        "student": ArmResult("student", {"fid": Quality.of([2.0, 2.2, 2.1])}, cost),
    }
    result = Result(
        recipe={"name": "x"},
        recipe_hash="0",
        data=DataUsed("x", "0", "test"),
        seeds=[0, 1, 2],
        budget=Budget(1),
        arms=arms,
        verdicts=judge(arms, [("student", "control")], {"fid": "lower"}),
        versions={"python": "3", "limbeck": "0", "torch": "2"},
        hardware={"cpu": "x", "cores": 1, "threads": 1, "gpu": None},
    )
    return json.loads(json.dumps(result.to_json()))


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_a_committed_result_is_sound(path: Path) -> None:
    assert problems(json.loads(path.read_text(encoding="utf-8"))) == []


def test_a_sound_result_has_no_problems() -> None:
    assert problems(_sound()) == []


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda r: r.pop("seeds"), "'seeds' is a required property"),
        (lambda r: r["arms"]["student"]["quality"]["fid"].update(mean=2.0), "the mean is not"),
        (lambda r: r["arms"]["student"]["quality"]["fid"].update(std=0.3), "the deviation is not"),
        (lambda r: r["arms"]["student"]["quality"]["fid"]["per_seed"].pop(), "2 values for 3 seeds"),
        (lambda r: r["verdicts"][0].update(interval95=[-4.0, -3.0]), "the interval is not"),
        (lambda r: r["verdicts"][0].update(verdict="INCONCLUSIVE"), "does not follow"),
        (lambda r: r["verdicts"][0].update(student="nobody"), "not there"),
        (lambda r: r["recipe"].update(weights="/home/me/x.safetensors"), "a folder of a machine"),
    ],
)
def test_a_broken_result_is_found_out(break_it: Any, says: str) -> None:
    tree = _sound()
    break_it(tree)
    found = problems(tree)
    assert any(says in line for line in found), found


def test_committed_verdicts_are_those_of_their_seeds() -> None:
    assert verdicts.main(["--check"]) == 0


def test_a_verdict_that_is_out_of_date_is_found_and_judged_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest of the file stays as it is."""
    (source,) = (path for path in RESULTS if path.stem == "robust-fashion-mnist")
    good = source.read_text(encoding="utf-8")
    path = tmp_path / "results" / source.name
    path.parent.mkdir()
    path.write_text(good, encoding="utf-8")
    root = ["--root", str(tmp_path)]
    assert verdicts.main([*root, "--check"]) == 0
    tree = json.loads(good)
    (ard,) = (v for v in tree["verdicts"] if v["metric"] == "top5" and v["student"] == "ard")
    assert (ard["verdict"], ard["p_value"]) == ("INCONCLUSIVE", 0.25)
    ard.update(verdict="BEATS", p_value=0.0, p_holm=0.0)
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert verdicts.main([*root, "--check"]) == 1
    assert "top5, ard: BEATS, p = 0 -> INCONCLUSIVE, p = " in capsys.readouterr().out
    assert json.loads(path.read_text(encoding="utf-8")) == tree  # checking changes nothing
    assert verdicts.main(root) == 0
    assert path.read_text(encoding="utf-8") == good

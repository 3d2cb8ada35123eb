"""Invented results, small and complete, to test the report with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from limbeck.report.machine import hardware, versions
from limbeck.report.result import ArmResult, Budget, DataUsed, Quality, Result, Role
from limbeck.report.statistics import judge

DIRECTIONS = {"fid": "lower", "precision": "higher", "entropy": "none"}


def cost(scale: float) -> dict[str, float | None]:
    return {
        "parameters": round(567_025 / scale),
        "macs": 11.2e6 / scale,
        "file_bytes": 2_270_000 / scale,
        "latency_ms_batch1": 1.73 / scale**0.8,
        "images_per_second": 1900 * scale,
        "peak_memory_bytes": 3.1e8,
        "cpu_percent": 187.0,
        "train_seconds": 640 / scale,
    }


def arm(role: Role, fid: list[float], precision: list[float], scale: float | None) -> ArmResult:
    quality = {"fid[fashion-cnn]": Quality.of(fid), "precision[fashion-cnn]": Quality.of(precision)}
    if role != "floor":
        quality["entropy"] = Quality.of([4.1 + 0.01 * f for f in fid])
    return ArmResult(role, quality, {} if scale is None else cost(scale))


def make_result(fid_student: list[float], fid_control: list[float] | None, **changes: Any) -> Result:
    """Return a result whose student and control have these Fréchet distances, one a seed."""
    n = len(fid_student)
    arms = {
        "teacher": arm("teacher", [14.6], [0.78], 1.0),
        "student": arm("student", fid_student, [0.75 + 0.003 * (i % 2) for i in range(n)], 18.6),
        "floor": arm("floor", [1.9], [0.93], None),
    }
    if fid_control is not None:
        arms["control"] = arm("control", fid_control, [0.61 - 0.004 * i for i in range(n)], 18.6)
    pairs = [("student", "control")] if fid_control is not None else []
    result = Result(
        recipe={"name": "gan-fashion-mnist", "student": {"steps": 3000}},
        recipe_hash="9f2c61aa",
        data=DataUsed("fashion-mnist", "77ab01", "test"),
        seeds=list(range(n)),
        budget=Budget(3000, {"student": 4, "control": 4} if fid_control is not None else {"student": 4}),
        arms=arms,
        verdicts=judge(arms, pairs, DIRECTIONS),
        versions=versions(),
        hardware=hardware(),
    )
    return replace(result, **changes)

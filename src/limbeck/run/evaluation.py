"""The evaluation of an arm: measured once, and then remembered beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import limbeck
from limbeck.data.base import Split
from limbeck.errors import CheckpointError
from limbeck.ground.files import write_atomically
from limbeck.ground.progress import say
from limbeck.metrics.base import FeatureExtractor
from limbeck.recipe.parts import canonical
from limbeck.run.arm import Arm


def evaluate(
    arm: Arm,
    extractor: FeatureExtractor | None = None,
    teacher: Arm | None = None,
    *,
    best: bool = False,
    split: Split | None = None,
) -> dict[str, float]:
    """Return the metrics against a split of the data; remembered beside the weights.

    Args:
        arm: The arm, trained.
        extractor: What distribution metrics compare by.
        teacher: Whom to measure the fidelity to.
        best: Evaluate the checkpoint that was best on the validation split, not the last.
        split: The split; by default the data's reference split, on which results are reported.
    """
    task, data, device = arm.setting.task, arm.setting.data, arm.setting.device
    split = split or data.reference_split
    best = best and arm.best_step is not None  # otherwise the last is the best
    question = _question(arm, extractor, teacher, split) | ({"step": arm.best_step} if best else {})
    known = arm.folder / f"evaluation-{canonical(question)[:12]}.json"
    if known.exists():
        return _remembered(known)
    say(f"{arm.name} (seed {arm.seed}): evaluating")
    metrics = task.evaluate(
        (arm.network(best=True) if best else arm.answering).to(device),
        data,
        split=split,
        seed=0,
        extractor=extractor,
        teacher=teacher.answering.to(device) if teacher else None,
    )
    write_atomically(known, json.dumps(metrics).encode())
    return metrics


def _question(arm: Arm, extractor: FeatureExtractor | None, teacher: Arm | None, split: Split) -> dict[str, Any]:
    """Return everything but the weights that decides what an evaluation finds."""
    task, data = arm.setting.task, arm.setting.data
    return {
        "recipe": dict(arm.setting.measured_as),
        "task": repr(sorted((k, v) for k, v in vars(task).items() if not k.startswith("_"))),
        "data": data.split(split).fingerprint(),
        "features": extractor.fingerprint() if extractor else None,
        "teacher": teacher.hash if teacher else None,
        "version": limbeck.__version__,
    }


def _remembered(file: Path) -> dict[str, float]:
    try:
        metrics: dict[str, float] = json.loads(file.read_text())
        return metrics
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: a damaged evaluation ({error}); delete it to evaluate again") from error

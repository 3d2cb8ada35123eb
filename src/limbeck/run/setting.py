"""What all arms of a run share, and who watches them while they train."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.data.base import Data
from limbeck.metrics.base import FeatureExtractor
from limbeck.tasks.base import Task
from limbeck.training.options import device_of
from limbeck.training.watching import Watched

WATCH_SAMPLES = 5000  # the most samples for the validation metrics that are taken while training


@dataclass(frozen=True)
class Setting:
    """What all arms of a run share.

    Attributes:
        data: The data.
        task: The task.
        store: The folder of the arms.
        accelerator: Where to train and evaluate: "auto", "cpu", "cuda" or "mps".
        code: What the code of data and task is known by, where it is not Limbeck's own: arms are known by it.
        measured_as: What the recipe says of task and features, with its content: evaluations are known by it.
    """

    data: Data
    task: Task
    store: Path
    accelerator: str = "auto"
    code: Mapping[str, str] = field(default_factory=dict)
    measured_as: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where networks are evaluated."""
        return device_of(self.accelerator)


@dataclass(frozen=True)
class Watcher:
    """Evaluates a network on the validation split while it trains; can be sent to another process."""

    setting: Setting
    extractor: FeatureExtractor | None

    def __call__(self, network: nn.Module) -> Watched:
        """Return validation metrics and an alarm; checkpoints are compared by the task's main metric."""
        task, data = self.setting.task, self.setting.data
        most = min(WATCH_SAMPLES, getattr(task, "samples", WATCH_SAMPLES))
        samples = min(most, len(data.split("validation")))
        metrics = task.evaluate(network, data, split="validation", seed=0, extractor=self.extractor, samples=samples)
        name = next((name for name in metrics if name.split("[")[0] == task.main_metric), None)
        score = None
        if name is not None and math.isfinite(metrics[name]):
            score = metrics[name] if task.directions[task.main_metric] == "lower" else -metrics[name]
        return Watched(metrics, task.alarm(network, data), score, task.glimpse(network, data))

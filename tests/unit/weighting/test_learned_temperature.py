"""A loss that learns its temperature, weighed by learned uncertainties: the engine trains both with the student."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import differences, resumed, toy_job, trained

from limbeck.data.base import InMemory
from limbeck.losses.base import LogitLoss
from limbeck.methods.supervised import Supervised
from limbeck.tasks.classification import Classification
from limbeck.training.job import Job
from limbeck.weighting.uncertainty import Uncertainty


class LearnedKd(LogitLoss):
    """T² KL(teacher ‖ student) at a temperature T = exp(t) that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(1.0))

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        temperature = self.log_temperature.exp()
        ours, theirs = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher))
        return temperature**2 * F.kl_div(ours, theirs, log_target=True, reduction="none").sum(1)


def classifier(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def job(folder: Path, **options: Any) -> Job:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (48, 1, 4, 4), generator=draw, dtype=torch.uint8)
    method = Supervised(classifier(0), classifier(1), terms={"student.logits": LearnedKd()})
    rest: dict[str, Any] = {
        "images": InMemory(image, torch.arange(48) % 3),
        "task": Classification(),
        "weighting": Uncertainty({}, method.weights),
        "optimizers": {"student": partial(torch.optim.SGD, lr=0.1, momentum=0.9)},
        "checkpoint_every": 3,
    }
    return toy_job(folder, method, **rest | options)


def learned(state: dict[str, Any]) -> dict[str, Tensor]:
    temperatures = {name: value for name, value in state["method"].items() if name.endswith("log_temperature")}
    assert len(temperatures) == 1
    return temperatures | state["weighting"]


def test_both_are_trained_and_resume_with_the_same_bits(tmp_path: Path) -> None:
    whole = trained(job(tmp_path / "whole"))
    assert set(whole["student"]) == {"1.weight", "1.bias"}  # and are not exported
    before = job(tmp_path)
    assert isinstance(before.method, Supervised)
    first = learned({"method": before.method.state_dict(), "weighting": before.weighting.state_dict()})
    found = learned(whole)
    assert found.keys() == first.keys() and len(found) == 3
    assert all((found[name] - first[name]).abs() > 1e-3 for name in first)

    def make(**more: Any) -> Job:
        return job(tmp_path / "killed", **more)

    assert differences(whole, resumed(make, 5)) == []


def test_two_processes_follow_one(tmp_path: Path) -> None:
    one, two = (trained(job(tmp_path / str(n), processes=n)) for n in (1, 2))
    for name, value in learned(one).items():
        torch.testing.assert_close(learned(two)[name], value, rtol=1e-4, atol=1e-5, msg=name)

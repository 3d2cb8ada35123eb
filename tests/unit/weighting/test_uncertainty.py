"""uncertainty.py: the form of Kendall et al. 2018, and that the engine trains it like any parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from toys import Bare, differences, resumed, toy_job, trained

from limbeck.errors import TrainingError
from limbeck.training.job import Job
from limbeck.types import Batch, Update
from limbeck.weighting.schedule import Schedule
from limbeck.weighting.scheduled import Scheduled
from limbeck.weighting.uncertainty import Uncertainty

DEFAULTS = {"student.output": 1.0, "student.mean": 1.0, "discriminator.output": 1.0}
STEPS = 8


class Pair(Bare):
    """Two linear players without randomness, each with losses of very different sizes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.student, self.discriminator = nn.Linear(16, 2), nn.Linear(16, 1)

    def players(self) -> Mapping[str, nn.Module]:
        return {"student": self.student, "discriminator": self.discriminator}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        assert batch.image is not None
        image = batch.image.flatten(1)
        yield Update("discriminator", {"output": (self.discriminator(image) - 1).square().mean()})
        found = self.student(image)
        yield Update("student", {"output": 100 * (found - 1).square().mean(), "mean": (found - 0.5).abs().mean()})


def job(folder: Path, weights: Mapping[str, float | Schedule] | None = None, **options: Any) -> Job:
    optimizers = {name: partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1) for name in ("student", "discriminator")}
    rest: dict[str, Any] = {"steps": STEPS, "checkpoint_every": 3, "optimizers": optimizers} | options
    return toy_job(folder, Pair(), weighting=Uncertainty(weights or {}, DEFAULTS), **rest)


def set_to(weighting: Uncertainty, **values: float) -> Uncertainty:
    with torch.no_grad():
        for name, value in values.items():
            weighting.log_variances[f"student:{name}"].fill_(value)
    return weighting


def test_it_is_the_paper_s_likelihood_of_a_squared_error_and_of_a_class() -> None:
    """Eq. 5: -log N(y; f, sigma^2) without its constant; eq. 9 and 10: -log softmax(f / sigma^2), approximately."""
    s, error = 0.7, torch.tensor(1.3)
    weighting = set_to(Uncertainty({}, DEFAULTS), output=s)
    found = weighting.combine({"student.output": error.square() / 2}, 0.0, []).item()
    expected = -Normal(0.0, math.exp(s / 2)).log_prob(error) - math.log(2 * math.pi) / 2
    assert found == pytest.approx(expected.item())

    s, logits, label = 0.1, torch.tensor([2.0, -1.0, 0.5]), torch.tensor(2)
    weighting = set_to(Uncertainty({}, DEFAULTS), output=s)
    loss = nn.functional.cross_entropy(logits, label)
    expected = -Categorical(logits=logits * math.exp(-s)).log_prob(label)
    sums = [torch.logsumexp(logits * math.exp(-s), 0), math.exp(-s) * torch.logsumexp(logits, 0)]
    # The paper takes the first of these for the second plus s / 2; what is left of the difference is that alone.
    approximation = (sums[0] - sums[1]).item() - s / 2
    assert weighting.combine({"student.output": loss}, 0.0, []).item() == pytest.approx(expected.item() - approximation)


def test_at_first_it_is_the_weighted_sum() -> None:
    losses = {name: torch.tensor(float(i + 2)) for i, name in enumerate(["student.output", "student.mean"])}
    weights = {"student.output": 0.3, "student.mean": 2.0}
    expected = Scheduled(weights, DEFAULTS).combine(losses, 0.0, [])
    assert Uncertainty(weights, DEFAULTS).combine(losses, 0.0, []).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("weight", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("loss", [0.02, 0.5, 30.0])
def test_a_constant_loss_brings_its_parameter_to_log_2l_where_it_counts_w_over_2l(loss: float, weight: float) -> None:
    """d/ds w (exp(-s) L + s / 2) = 0 at s = log(2L)."""
    weighting = Uncertainty({"student.output": weight}, DEFAULTS)
    value = torch.tensor(loss, requires_grad=True)
    optimizer = torch.optim.LBFGS(weighting.parameters_of("student"), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        weighting.zero_grad()
        total = weighting.combine({"student.output": value}, 0.0, [])
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert weighting.log_variances["student:output"].item() == pytest.approx(math.log(2 * loss), abs=1e-3)
    value.grad = None
    closure()
    assert value.grad is not None and value.grad.item() == pytest.approx(weight / (2 * loss), rel=2e-3)


def test_gradients_against_finite_differences() -> None:
    weighting = set_to(Uncertainty({"student.mean": 0.3}, DEFAULTS).double(), output=0.4, mean=-1.2)
    names = ["student.output", "student.mean"]
    parameters = [weighting.log_variances[name.replace(".", ":")] for name in names]

    def total(first: Tensor, second: Tensor, *_: Tensor) -> Tensor:
        return weighting.combine(dict(zip(names, (first, second), strict=True)), 0.0, [])

    losses = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (2.5, 0.1)]
    assert torch.autograd.gradcheck(total, (*losses, *parameters))


def test_what_is_switched_off_does_not_count_and_keeps_its_parameter(tmp_path: Path) -> None:
    state = trained(job(tmp_path, {"student.mean": 0.0, "student.output": Schedule(1.0, start=0.5)}))
    found = {name.split(":")[-1]: v.item() for name, v in state["weighting"].items() if ".student:" in name}
    assert found["mean"] == 0 and found["output"] != 0


def test_a_loss_below_0_is_no_likelihood() -> None:
    losses = {"student.output": torch.tensor(1.0), "student.mean": torch.tensor(-0.25)}
    with pytest.raises(TrainingError, match=r"^weighting: .* at least 0, found student\.mean = -0\.25; take Scheduled"):
        Uncertainty({}, DEFAULTS).combine(losses, 0.0, [])


def test_each_player_moves_its_own_by_the_plain_step_without_weight_decay(tmp_path: Path) -> None:
    """One step of SGD by hand: s = 0 - 0.1 (1/2 - L); weight decay would not show at 0, and so is looked up."""
    options = {name: partial(torch.optim.SGD, lr=0.1, weight_decay=0.5) for name in ("student", "discriminator")}
    state = trained(job(tmp_path, steps=1, optimizers=options))
    (row,) = state["history"]
    for name in DEFAULTS:
        found = state["weighting"][f"log_variances.{name.replace('.', ':')}"].item()
        assert found == pytest.approx(-0.1 * (0.5 - row[name]), rel=1e-5)
    for player, own in (("student", 2), ("discriminator", 1)):
        (networks, weighing) = state["optimizers"][player]["param_groups"]
        assert networks["weight_decay"] == 0.5 and weighing["weight_decay"] == 0 and len(weighing["params"]) == own


def test_it_is_trained_and_resumes_with_the_same_bits(tmp_path: Path) -> None:
    whole = trained(job(tmp_path / "whole"))
    assert all(value.abs() > 1e-3 for value in whole["weighting"].values())
    assert len(whole["weighting"]) == len(DEFAULTS)

    def make(**more: Any) -> Job:
        return job(tmp_path / "killed", **more)

    assert differences(whole, resumed(make, 5)) == []


@pytest.mark.parametrize("options", [{"processes": 2}, {"micro_batches": 4}], ids=["processes", "micro-batches"])
def test_parts_of_the_batch_follow_the_whole(tmp_path: Path, options: dict[str, int]) -> None:
    whole, parts = (trained(job(tmp_path / name, **more)) for name, more in (("whole", {}), ("parts", options)))
    for room in ("weighting", "method"):
        for name, value in whole[room].items():
            torch.testing.assert_close(parts[room][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_ramp_is_not_undone() -> None:
    """At log(2L) nothing pulls at the parameter, however far the ramp has come."""
    weighting = set_to(Uncertainty({"student.output": Schedule(1.0, ramp=1.0)}, DEFAULTS), output=math.log(6.0))
    for progress in (0.1, 0.5, 0.9):
        (parameter,) = [s for s in weighting.parameters_of("student") if s.item() != 0]
        total = weighting.combine({"student.output": torch.tensor(3.0)}, progress, [])
        (slope,) = torch.autograd.grad(total, parameter)
        assert slope.item() == pytest.approx(0, abs=1e-6)

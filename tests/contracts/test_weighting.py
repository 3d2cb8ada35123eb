"""What every Weighting of the package keeps to. A new one adds its losses to a row of `EXAMPLES`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

import pytest
import torch
from toys import every_module

from limbeck.weighting.base import Weighting
from limbeck.weighting.scheduled import Schedule, Scheduled

LOSSES = ("student.output", "student.adversarial", "discriminator.real_fake")

EXAMPLES: dict[type[Weighting], Callable[[], Weighting]] = {
    Scheduled: lambda: Scheduled(
        {"student.output": 2.0, "student.adversarial": Schedule(0.1, start=0.5, ramp=0.2)}, dict.fromkeys(LOSSES, 1.0)
    ),
}


def found() -> list[type[Weighting]]:
    modules = [importlib.import_module(name) for name in every_module("weighting")]
    classes = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, Weighting)}
    return sorted((c for c in classes if not inspect.isabstract(c)), key=lambda c: c.__name__)


def test_every_weighting_has_an_example() -> None:
    assert found() and set(found()) == set(EXAMPLES)


@pytest.mark.parametrize("cls", found(), ids=lambda c: c.__name__)
class TestWeighting:
    def test_weights_are_finite_and_not_negative(self, cls: type[Weighting]) -> None:
        weighting = EXAMPLES[cls]()
        for progress in torch.linspace(0, 1, 21).tolist():
            for name in LOSSES:
                weight = weighting.weight(name, progress)
                assert isinstance(weight, float) and 0 <= weight < float("inf")

    def test_combination_is_the_weighted_sum_and_so_is_its_gradient(self, cls: type[Weighting]) -> None:
        weighting = EXAMPLES[cls]()
        losses = {name: torch.tensor(float(i + 2), requires_grad=True) for i, name in enumerate(LOSSES)}
        total = weighting.combine(losses, 0.6)
        assert total.shape == ()
        expected = sum(weighting.weight(name, 0.6) * loss.item() for name, loss in losses.items())
        assert total.item() == pytest.approx(expected)
        total.backward()
        for name, loss in losses.items():
            assert loss.grad is not None and loss.grad.item() == pytest.approx(weighting.weight(name, 0.6))

    def test_its_state_restores_it(self, cls: type[Weighting]) -> None:
        saved, fresh = EXAMPLES[cls](), EXAMPLES[cls]()
        fresh.load_state_dict(saved.state_dict())
        assert all(fresh.weight(n, p) == saved.weight(n, p) for n in LOSSES for p in (0.0, 0.3, 1.0))

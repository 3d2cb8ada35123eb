"""What every Weighting of the package keeps to. A new one adds its losses to a row of `EXAMPLES`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toys import every_module

from limbeck.errors import RecipeError
from limbeck.weighting.base import Weighting
from limbeck.weighting.schedule import Schedule
from limbeck.weighting.scheduled import Scheduled
from limbeck.weighting.uncertainty import Uncertainty

LOSSES = ("student.output", "student.adversarial", "discriminator.real_fake")
WEIGHTS = {"student.output": 2.0, "student.adversarial": Schedule(0.1, start=0.5, ramp=0.2)}

EXAMPLES: dict[type[Weighting], Callable[[], Weighting]] = {
    Scheduled: lambda: Scheduled(WEIGHTS, dict.fromkeys(LOSSES, 1.0)),
    Uncertainty: lambda: Uncertainty(WEIGHTS, dict.fromkeys(LOSSES, 1.0)),
}


def values(requires_grad: bool = False) -> dict[str, Tensor]:
    return {name: torch.tensor(float(i + 2), requires_grad=requires_grad) for i, name in enumerate(LOSSES)}


def moved(weighting: Weighting) -> Weighting:
    """Return it as if its parameters had been trained."""
    with torch.no_grad():
        for number, parameter in enumerate(weighting.parameters()):
            parameter.add_(0.3 * (number + 1))
    return weighting


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

    def test_the_combination_is_a_scalar_that_grows_with_every_loss(self, cls: type[Weighting]) -> None:
        losses = values(requires_grad=True)
        total = EXAMPLES[cls]().combine(losses, 0.6, [])
        assert total.shape == () and total.isfinite()
        total.backward()  # type: ignore[no-untyped-call]
        for loss in losses.values():
            assert loss.grad is not None and 0 < loss.grad.item() < float("inf")

    def test_losses_that_are_not_there_do_not_count(self, cls: type[Weighting]) -> None:
        """So it is the sum of what it makes of its losses, of which the engine leaves out those that are off."""
        weighting, losses = moved(EXAMPLES[cls]()), values()
        apart = [weighting.combine({name: loss}, 0.6, []).item() for name, loss in losses.items()]
        assert weighting.combine(losses, 0.6, []).item() == pytest.approx(sum(apart))

    def test_every_parameter_trains_with_the_one_player_whose_losses_it_weighs(self, cls: type[Weighting]) -> None:
        weighting = moved(EXAMPLES[cls]())
        players = list(dict.fromkeys(name.split(".")[0] for name in LOSSES))
        listed = [id(p) for player in players for p in weighting.parameters_of(player)]
        assert sorted(listed) == sorted(id(p) for p in weighting.parameters())
        for player in players:
            own = {name: loss for name, loss in values(requires_grad=True).items() if name.split(".")[0] == player}
            weighting.zero_grad()
            weighting.combine(own, 0.6, []).backward()  # type: ignore[no-untyped-call]
            reached = {id(p) for p in weighting.parameters() if p.grad is not None and p.grad != 0}
            assert reached == {id(p) for p in weighting.parameters_of(player)}

    def test_its_state_restores_it(self, cls: type[Weighting]) -> None:
        saved, fresh = moved(EXAMPLES[cls]()), EXAMPLES[cls]()
        fresh.load_state_dict(saved.state_dict())
        assert all(fresh.weight(n, p) == saved.weight(n, p) for n in LOSSES for p in (0.0, 0.3, 1.0))
        assert torch.equal(fresh.combine(values(), 0.6, []), saved.combine(values(), 0.6, []))

    def test_a_misspelt_loss_is_named(self, cls: type[Weighting]) -> None:
        with pytest.raises(RecipeError, match=r"^student\.ouput: no such loss \(did you mean 'student\.output'\?\)"):
            cls({"student.ouput": 1.0}, dict.fromkeys(LOSSES, 1.0))

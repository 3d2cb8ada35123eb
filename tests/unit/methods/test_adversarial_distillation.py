"""methods/adversarial_distillation.py: goals and losses of each paper against NumPy, and that they make robust."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.attacks.base import Attack
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import FixedStrength, SteeredStrength
from limbeck.data.glyphs import Glyphs
from limbeck.errors import LimbeckError, RecipeError
from limbeck.methods.adversarial import (
    AdversarialMethod,
    AdversarialTraining,
)
from limbeck.methods.ard import Ard
from limbeck.methods.base import Method
from limbeck.methods.iad import Iad
from limbeck.methods.rslad import Rslad
from limbeck.methods.supervised import Supervised
from limbeck.methods.trades import Trades
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.handling.modes import evaluating
from limbeck.tasks.classification import Classification
from limbeck.tasks.robustness import Robustness
from limbeck.terms.attacked import SoftAnswers, Stability
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.terms.under_attack import UnderAttack
from limbeck.training.feed import Feed, Material
from limbeck.types import Batch, Draw

Array = NDArray[np.float64]
N, K = 6, 3


class Affine(nn.Module):
    """Logits of an image of four pixels, with dropout so that training and evaluation mode differ."""

    def __init__(self, seed: int, dropout: float = 0.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.image_shape = (1, 2, 2)
        self.weight = nn.Parameter(torch.randn(K, 4, generator=draw, dtype=torch.float64))
        self.dropout = nn.Dropout(dropout)
        self.modes: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.dropout(image.flatten(1)) @ self.weight.T


class Shift(Attack):
    """Adds its strength; keeps the loss that it was to make large."""

    def __init__(self) -> None:
        self.loss: Callable[[Tensor], Tensor] | None = None

    def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
        return {}

    def __call__(
        self,
        loss: Callable[[Tensor], Tensor],
        input: Tensor,
        drawn: Mapping[str, Tensor],
        strength: float | None = None,
    ) -> Tensor:
        self.loss = loss
        self.value = loss(input + 0.2).detach()
        return input + (0.3 if strength is None else strength)


def batch(**more: Any) -> Batch:
    draw = torch.Generator().manual_seed(7)
    image = torch.rand(N, 1, 2, 2, generator=draw, dtype=torch.float64) - 0.5
    return Batch(image=image, label=torch.arange(N) % K, **more)


def log_softmax(z: Array) -> Array:
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def kl(p: Array, q: Array) -> Array:
    """KL(softmax(p) ‖ softmax(q)) of each row."""
    a, b = log_softmax(p), log_softmax(q)
    return (np.exp(a) * (a - b)).sum(1)


def ce(z: Array) -> Array:
    return -log_softmax(z)[np.arange(N), np.arange(N) % K]


X = batch().image.flatten(1).numpy()  # type: ignore[union-attr]
WS, WT = (Affine(seed).weight.detach().numpy() for seed in (0, 1))


def s(shift: float = 0.0) -> Array:
    return (X + shift) @ WS.T


def t(shift: float = 0.0) -> Array:
    return (X + shift) @ WT.T


def sure(shift: float) -> Array:
    return np.exp(-ce(t(shift)))


# Each method's goal at x + 0.2 and losses with x' = x + 0.3, from the papers' equations.
TRUTH: dict[str, tuple[Callable[..., AdversarialMethod], Array, dict[str, Array]]] = {
    "madry": (
        lambda one, two, **o: AdversarialTraining(one, **o),
        ce(s(0.2)),
        {"robust": ce(s(0.3)), "cross_entropy": ce(s())},
    ),
    "trades": (
        lambda one, two, **o: Trades(one, **o),
        kl(s(), s(0.2)),
        {"cross_entropy": ce(s()), "robust": kl(s(), s(0.3))},
    ),
    "ard": (
        lambda one, two, **o: Ard(one, two, terms={"student.robust": SoftAnswers(temperature=5.0)}, **o),
        ce(s(0.2)),
        {"cross_entropy": ce(s()), "robust": 25 * kl(t() / 5, s(0.3) / 5)},
    ),
    "rslad": (
        Rslad,
        kl(t(), s(0.2)),
        {"clean": kl(t(), s()), "robust": kl(t(), s(0.3))},
    ),
    "iad": (
        lambda one, two, **o: Iad(
            one,
            two,
            terms={"student.robust": SoftAnswers(temperature=2.0), "student.introspection": Stability(0.4)},
            **o,
        ),
        ce(s(0.2)),
        {
            "cross_entropy": ce(s()),
            "robust": 4 * kl(t() / 2, s(0.3) / 2),
            "introspection": (1 - sure(0.3) ** 0.4) * kl(s(), s(0.3)),
        },
    ),
    "ard without teacher is adversarial training": (
        lambda one, two, **o: Ard(one, terms={"student.robust": SoftAnswers(temperature=5.0)}, **o),
        ce(s(0.2)),
        {"cross_entropy": ce(s()), "robust": ce(s(0.3))},
    ),
    "rslad without teacher": (
        lambda one, two, **o: Rslad(one, **o),
        ce(s(0.2)),
        {"clean": ce(s()), "robust": ce(s(0.3))},
    ),
    "iad without teacher": (
        lambda one, two, **o: Iad(one, **o),
        ce(s(0.2)),
        {"cross_entropy": ce(s()), "robust": ce(s(0.3))},
    ),
}
every_method = pytest.mark.parametrize("name", TRUTH)


def losses(method: AdversarialMethod, given: Batch, step: int = 0) -> dict[str, Tensor]:
    (update,) = method.updates(given, step)
    assert update.player == "student"
    return {name: loss() if callable(loss) else loss for name, loss in update.losses.items()}


@every_method
def test_goal_and_losses_are_those_of_the_paper(name: str) -> None:
    make, goal, expected = TRUTH[name]
    attack = Shift()
    found = losses(make(Affine(0), Affine(1), attack=attack), batch())
    assert {key: value.item() for key, value in found.items()} == pytest.approx(
        {key: value.mean() for key, value in expected.items()}, rel=1e-10
    )
    assert attack.value.numpy() == pytest.approx(goal, rel=1e-10)


@every_method
def test_stored_answers_of_the_teacher_take_the_place_of_running_it(name: str) -> None:
    make, _, expected = TRUTH[name]
    if "without" in name or name in ("madry", "trades"):
        assert make(Affine(0), Affine(1)).teacher_paths() == []
        return
    teacher = Affine(1)
    method = make(Affine(0), teacher, attack=Shift())
    assert method.teacher_paths() == [""]
    found = losses(method, batch(teacher_outputs={"": torch.from_numpy(t())}))
    assert {key: value.item() for key, value in found.items()} == pytest.approx(
        {key: value.mean() for key, value in expected.items()}, rel=1e-10
    )
    assert len(teacher.modes) == (1 if name == "iad" else 0)  # only the attacked images are new


@every_method
def test_the_student_is_attacked_in_evaluation_mode_and_learns_in_training_mode(name: str) -> None:
    student = Affine(0, dropout=0.5).train()
    attack = Shift()
    method = TRUTH[name][0](student, Affine(1), attack=attack)
    losses(method, batch())
    assert attack.value.numpy() == pytest.approx(TRUTH[name][1], rel=1e-10)  # no dropout in the goal
    assert student.training and student.dropout.training
    searches = student.modes.count(False)
    assert 1 <= searches <= 2 and student.modes.count(True) == 2


def test_modes_come_back_as_they_were_module_by_module() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    network.train()
    network[1].eval()
    with pytest.raises(ValueError, match="inside"), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise ValueError("inside")
    assert [m.training for m in network.modules()] == [True, True, False, False, False]


def test_a_strength_takes_the_place_of_the_radius_and_sees_the_losses() -> None:
    found = losses(Ard(Affine(0), attack=Shift(), strength=FixedStrength(0.45)), batch())
    assert found["robust"].item() == pytest.approx(ce(s(0.45)).mean(), rel=1e-10)
    steered = SteeredStrength(start=0.3, low=0.1, high=0.5, target=0.5, rate=0.2)
    method = Rslad(Affine(0), Affine(1), attack=Shift(), strength=steered)
    losses(method, batch(), step=0)
    ratio = min(1.0, ce(s()).mean() / ce(s(0.3)).mean())
    assert steered.value(1) == pytest.approx(0.3 * np.exp(0.2 * (ratio - 0.5)), rel=1e-6)
    assert {name for name in method.state_dict() if name.startswith("strength.")} == {
        "strength.strength",
        "strength.losses",
        "strength.step",
    }


def test_the_gradient_of_trades_flows_through_both_answers() -> None:
    student = Affine(0)
    losses(Trades(student, attack=Shift()), batch())["robust"].backward()
    by_both = student.weight.grad
    scene = Trades(Affine(0), attack=Shift()).enter(batch(), 0)
    torch.testing.assert_close(scene.student_output, torch.from_numpy(s()))
    one_sided = Affine(0)
    from_clean = torch.from_numpy(s())
    robust = one_sided(batch().image + 0.3).log_softmax(1)  # type: ignore[operator]
    torch.nn.functional.kl_div(robust, from_clean.softmax(1), reduction="batchmean").backward()
    assert by_both is not None and one_sided.weight.grad is not None
    assert not torch.allclose(by_both, one_sided.weight.grad, rtol=1e-2)


def test_smoothed_labels_are_learned_and_hard_ones_attacked() -> None:
    attack = Shift()
    found = losses(
        AdversarialTraining(Affine(0), terms={"student.robust": UnderAttack(CrossEntropy(0.3))}, attack=attack), batch()
    )
    smooth = -(0.7 * -ce(s(0.3)) + 0.3 * log_softmax(s(0.3)).mean(1))
    assert found["robust"].item() == pytest.approx(smooth.mean(), rel=1e-10)
    assert attack.value.numpy() == pytest.approx(ce(s(0.2)), rel=1e-10)


def test_attacks_leave_no_gradients_behind() -> None:
    student, teacher = Affine(0), Affine(1)
    method = Rslad(student, teacher, attack=Pgd(steps=2, radius=0.1, step=0.05))
    drawn = {name: draw.sample(N, torch.Generator()).double() for name, draw in method.draws().items()}
    losses(method, batch(drawn=drawn))
    assert student.weight.grad is None and teacher.weight.grad is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ard(nn.Linear(2, 2)), r"expected Linear to state its image_shape \(C, H, W\), found none"),
        (lambda: SoftAnswers(temperature=0.0), "SoftAnswers.temperature: expected a number above 0, found 0.0"),
        (lambda: CrossEntropy(1.0), r"CrossEntropy.label_smoothing: expected a number in \[0, 1\)"),
        (lambda: Stability(-1.0), "Stability.power: expected a number of at least 0, found -1.0"),
        (lambda: losses(Trades(Affine(0)), Batch(image=torch.zeros(2, 1, 2, 2))), "Trades: expected data with labels"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        make()


def test_a_student_cannot_teach_itself() -> None:
    student = Affine(0)
    with pytest.raises(RecipeError, match=r"teacher: expected another network than the student"):
        Rslad(student, student)


@pytest.fixture(scope="module")
def letters() -> Glyphs:
    return Glyphs(16, train=600, validation=60, test=300, classes="ABC", channels=1)


def learned(make: Callable[[nn.Module], Method], data: Glyphs, seed: int, steps: int = 150) -> dict[str, float]:
    """Train a small student and return its accuracies under attack on test data."""
    torch.manual_seed(seed)
    student = SmallCnn(8, size=16, classes=3)
    method = make(student).train()
    optimizer = torch.optim.Adam(student.parameters(), 5e-3)
    feed = Feed(Material(data.split("train"), Classification()), method.draws(), seed=seed, batch=50)
    for step, batch_ in enumerate(feed.steps(0, steps)):
        (update,) = method.updates(batch_, step)
        weights = method.weights
        total = sum(
            weights[f"student.{name}"] * (loss() if callable(loss) else loss)
            for name, loss in update.losses.items()
            if weights[f"student.{name}"]
        )
        optimizer.zero_grad()
        assert isinstance(total, Tensor)
        total.backward()
        optimizer.step()
    task = Classification(Robustness(0.1, samples=300, steps=10, restarts=1))
    return task.evaluate(student.eval(), data, split="test", seed=0)


@pytest.mark.slow
def test_students_trained_under_attack_withstand_it_and_others_do_not(letters: Glyphs) -> None:
    attack = Pgd(radius=0.1, step=0.05, steps=3)
    plain = learned(Supervised, letters, 0)
    assert plain["top1"] > 0.8 and plain["robust[ensemble]"] < 0.25
    for method in (AdversarialTraining, Trades):
        found = learned(partial(method, attack=attack), letters, 0)
        assert found["robust[ensemble]"] > plain["robust[ensemble]"] + 0.2, method.__name__
        assert found["masking"] < 0.1

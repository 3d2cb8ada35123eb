"""Mixtures: which attack is drawn, how often, and for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor

from limbeck.attacks.base import Attack, Loss
from limbeck.attacks.fgsm import Fgsm
from limbeck.attacks.mixture import AttackMixture
from limbeck.attacks.noise import UniformNoise
from limbeck.attacks.pgd import Pgd
from limbeck.errors import RecipeError
from limbeck.ground.randomness import generator
from limbeck.types import Draw

SHARES = [0.5, 0.3, 0.2]


class Mark(Attack):
    """Writes its number into the input, and counts how often it was asked."""

    def __init__(self, number: int) -> None:
        self.number, self.calls = number, 0

    def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
        return {}

    def __call__(self, loss: Loss, input: Tensor, drawn: Mapping[str, Tensor], strength: float | None = None) -> Tensor:
        self.calls += 1
        return torch.full_like(input, self.number)


def choices(mixture: AttackMixture, count: int, step: int = 0) -> Tensor:
    drawn = {name: draw.sample(count, generator(3, step, name)) for name, draw in mixture.draws((1,)).items()}
    return mixture(lambda x: x.sum(1), torch.zeros(count, 1), drawn).flatten().long()


def frequencies(choice: Tensor) -> Tensor:
    return choice.bincount(minlength=3) / len(choice)


def test_samples_draw_the_stated_shares() -> None:
    mixture = AttackMixture([Mark(i) for i in range(3)], SHARES, "sample")
    found = frequencies(choices(mixture, 40_000))
    assert (found - torch.tensor(SHARES)).abs().max() < 4 * (0.25 / 40_000) ** 0.5  # four standard deviations
    assert frequencies(choices(AttackMixture([Mark(0), Mark(1)], each="sample"), 40_000))[0] == pytest.approx(
        0.5, abs=0.01
    )


def test_batches_draw_the_stated_shares_and_run_one_attack() -> None:
    marks = [Mark(i) for i in range(3)]
    mixture = AttackMixture(marks, SHARES)
    batches = torch.stack([choices(mixture, 4, step) for step in range(4000)])
    assert (batches == batches[:, :1]).all() and sum(mark.calls for mark in marks) == 4000
    assert (frequencies(batches[:, 0]) - torch.tensor(SHARES)).abs().max() < 4 * (0.25 / 4000) ** 0.5


def test_a_share_of_none_is_never_drawn() -> None:
    for shares, only in (([1.0, 0.0], 0), ([0.0, 1.0], 1)):
        assert (choices(AttackMixture([Mark(0), Mark(1)], shares, "sample"), 5000) == only).all()
    edges = AttackMixture([Mark(0), Mark(1), Mark(2)], [0.5, 0.0, 0.5], "sample")
    for choice, number in ((0.0, 0), (0.4999, 0), (0.5, 2), (0.9999, 2)):
        drawn = {"mixture.choice": torch.tensor([choice])}
        assert edges(lambda x: x, torch.zeros(1, 1), drawn).item() == number


def test_what_is_drawn_once_is_the_same_for_the_whole_batch_and_of_the_declared_kind() -> None:
    for kind, high in (("uniform", 0), ("normal", 0), ("integers", 7)):
        once = Draw((2, 3), kind, high, once=True).sample(5, generator(0))  # type: ignore[arg-type]
        single = Draw((2, 3), kind, high).sample(1, generator(0))  # type: ignore[arg-type]
        assert once.shape == (5, 2, 3) and torch.equal(once, single.expand(5, 2, 3))


def test_each_sample_gets_what_its_attack_alone_would_give() -> None:
    attacks = [Fgsm(0.2), Pgd(0.2, 0.1, 3), UniformNoise(0.2)]
    mixture = AttackMixture(attacks, each="sample")
    x, weight = torch.rand(30, 6, generator=generator(1)) - 0.5, torch.randn(6, generator=generator(2))
    drawn = {name: draw.sample(30, generator(5, name)) for name, draw in mixture.draws((6,)).items()}
    result = mixture(lambda x: (x @ weight).tanh(), x, drawn)
    which = (drawn["mixture.choice"] * 3).long()
    assert set(which.tolist()) == {0, 1, 2}
    for number, attack in enumerate(attacks):
        alone = attack(lambda x: (x @ weight).tanh(), x, drawn)
        assert torch.equal(result[which == number], alone[which == number])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AttackMixture([]), r"AttackMixture\.attacks: expected at least one"),
        (lambda: AttackMixture([Pgd(), Pgd()]), r"different names .*another `name`\), found \['pgd\.start'\]"),
        (lambda: AttackMixture([Fgsm(), Pgd()], [1.0]), r"probabilities: expected 2, one for each attack, found \[1"),
        (lambda: AttackMixture([Fgsm(), Pgd()], [0.5, 0.6]), "sum to 1, found"),
        (lambda: AttackMixture([Fgsm(), Pgd()], [1.5, -0.5]), "numbers of at least 0 that sum to 1"),
        (lambda: AttackMixture([AttackMixture([Fgsm()]), Pgd()]), r"found \['mixture\.choice'\]"),
        (lambda: AttackMixture([Fgsm()], each="pixel"), "expected 'batch' or 'sample', found 'pixel'"),  # type: ignore[arg-type]
    ],
)
def test_mixtures_that_cannot_be_are_refused(make: Callable[[], Attack], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make()
    assert AttackMixture([Pgd(), Pgd(name="other")]).draws((2,)).keys() == {
        "mixture.choice",
        "pgd.start",
        "other.start",
    }

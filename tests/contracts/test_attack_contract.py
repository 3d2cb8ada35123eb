"""What every Attack and Strength of the package keeps to. A new one adds examples, or a recipe can build it bare."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.attacks.base import Attack, Loss
from limbeck.attacks.fgsm import Fgsm
from limbeck.attacks.mixture import AttackMixture
from limbeck.attacks.noise import GaussianNoise, UniformNoise
from limbeck.attacks.objectives import cross_entropy
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import FixedStrength, ScheduledStrength, SteeredStrength, Strength
from limbeck.errors import RecipeError
from limbeck.recipe.catalogue import arguments, catalogue
from limbeck.recipe.parts import Mistakes, read_part

N, CLASSES = 8, 5
IMAGE, LATENT = (2, 6, 5), (7,)
RADIUS = 0.3

# Class -> examples. Each has the radius RADIUS, or the same number as deviation, and takes the bounds.
EXAMPLES: dict[type, dict[str, Callable[..., Attack]]] = {
    Fgsm: {"linf": lambda **b: Fgsm(RADIUS, **b)},
    Pgd: {
        "linf": lambda **b: Pgd(RADIUS, 0.1, 5, **b),
        "linf-plain": lambda **b: Pgd(RADIUS, RADIUS, 3, random_start=False, **b),
        "linf-restarts": lambda **b: Pgd(RADIUS, 0.1, 2, restarts=3, **b),
        "l2": lambda **b: Pgd(RADIUS, 0.1, 5, "l2", **b),
        "l2-restarts": lambda **b: Pgd(RADIUS, 0.1, 2, "l2", restarts=2, **b),
    },
    GaussianNoise: {"none": lambda **b: GaussianNoise(RADIUS, **b)},
    UniformNoise: {"linf": lambda **b: UniformNoise(RADIUS, **b)},
    AttackMixture: {
        "linf-batch": lambda **b: AttackMixture([Fgsm(RADIUS, **b), UniformNoise(RADIUS, **b)]),
        "linf-sample": lambda **b: AttackMixture([Pgd(RADIUS, 0.1, 2, **b), UniformNoise(RADIUS, **b)], each="sample"),
    },
}
ROWS = [
    pytest.param((name, make), id=f"{c.__name__}-{name}") for c, some in EXAMPLES.items() for name, make in some.items()
]
BLIND = (GaussianNoise, UniformNoise)
NO_BOUNDS: Mapping[str, Any] = {"low": None, "high": None}


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest) -> tuple[str, Callable[..., Attack]]:
    found: tuple[str, Callable[..., Attack]] = request.param
    return found


@pytest.fixture
def make(row: tuple[str, Callable[..., Attack]]) -> Callable[..., Attack]:
    return row[1]


def network(shape: tuple[int, ...]) -> nn.Sequential:
    torch.manual_seed(0)
    size = math.prod(shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 9), nn.Tanh(), nn.Linear(9, CLASSES))


def label(count: int = N) -> Tensor:
    return torch.arange(count) % CLASSES


def loss_of(model: nn.Module, goal: Tensor) -> Loss:
    return lambda x: cross_entropy(model(x), goal)


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Values in [-1, 1]; for latents, of a standard normal."""
    draw = torch.Generator().manual_seed(1)
    if shape == LATENT:
        return torch.randn(N, *shape, generator=draw, dtype=torch.float64).to(dtype)
    return (torch.rand(N, *shape, generator=draw, dtype=torch.float64) * 2 - 1).to(dtype)


def drawn(attack: Attack, shape: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: draw.sample(N, generator) for name, draw in attack.draws(shape).items()}


def attacked(attack: Attack, x: Tensor, seed: int = 0, strength: float | None = None) -> Tensor:
    shape = tuple(x.shape[1:])
    model = network(shape).to(x.dtype)
    return attack(loss_of(model, label()), x, drawn(attack, shape, seed), strength)


def test_every_attack_has_an_example() -> None:
    assert catalogue(Attack) and set(catalogue(Attack)) == set(EXAMPLES)


@pytest.mark.parametrize("cls", [*catalogue(Attack), *catalogue(Strength)], ids=lambda c: c.__name__)
def test_a_recipe_can_name_it_and_help_explains_it(cls: type) -> None:
    assert getattr(cls, "__final__", False)
    assert all(argument.doc for argument in arguments(cls).values())
    given = {"attacks": ["Fgsm", {"class_path": "Pgd", "init_args": {"steps": 3}}]} if cls is AttackMixture else {}
    base, mistakes = (Attack if issubclass(cls, Attack) else Strength), Mistakes()
    part = read_part(base, {"class_path": cls.__name__, "init_args": given}, "attack", mistakes)
    mistakes.report("recipe")
    assert type(part.build()) is cls


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [IMAGE, LATENT], ids=str)
def test_stays_in_its_ball_and_bounds_and_keeps_shape_and_type(
    row: tuple[str, Callable[..., Attack]], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    bounds = NO_BOUNDS if shape == LATENT else {}
    for strength in (None, 0.05):
        x = inputs(shape, dtype)
        result = attacked(row[1](**bounds), x, strength=strength)
        assert result.shape == x.shape and result.dtype == dtype
        change, radius = (result - x).flatten(1), RADIUS if strength is None else strength
        if row[0].startswith("linf"):
            assert change.abs().max() <= radius + 1e-6
        elif row[0].startswith("l2"):
            assert change.norm(dim=1).max() <= radius + 1e-6
        assert (change.norm(dim=1) > 1e-3).all()
        if shape == IMAGE:
            assert result.abs().max() <= 1
        else:
            assert result.abs().max() > 1


def test_strength_zero_leaves_the_input_and_a_greater_one_changes_more(make: Callable[..., Attack]) -> None:
    x = inputs(IMAGE)
    assert torch.equal(attacked(make(), x, strength=0.0), x)
    small, large = ((attacked(make(), x, strength=s) - x).norm() for s in (0.01, 0.1))
    assert 0 < 3 * small < large
    torch.testing.assert_close(attacked(make(), x, strength=RADIUS), attacked(make(), x))


def test_depends_on_its_draws_only_and_leaves_its_input(make: Callable[..., Attack]) -> None:
    x, attack, model = inputs(IMAGE), make(), network(IMAGE)
    before, state = x.clone(), torch.get_rng_state()
    results = [attack(loss_of(model, label()), x, drawn(attack, IMAGE, seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before) and torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2]) == (not attack.draws(IMAGE))


def test_a_part_of_the_batch_gives_that_part_of_the_result(make: Callable[..., Attack]) -> None:
    x, attack, model = inputs(IMAGE, torch.float64), make(), network(IMAGE).double()
    draws = drawn(attack, IMAGE)
    whole = attack(loss_of(model, label()), x, draws)
    for part in (slice(0, N // 2), slice(N // 2, N), slice(3, 4)):
        alone = attack(loss_of(model, label()[part]), x[part], {name: value[part] for name, value in draws.items()})
        torch.testing.assert_close(alone, whole[part], rtol=0, atol=1e-12)


def test_float32_and_float64_agree(make: Callable[..., Attack]) -> None:
    results = [attacked(make(), inputs(IMAGE).to(dtype)).double() for dtype in (torch.float32, torch.float64)]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-4)


def test_leaves_no_gradient_no_graph_and_no_mode_changed(make: Callable[..., Attack]) -> None:
    model, x, attack = network(IMAGE), inputs(IMAGE).requires_grad_(), make()
    model[0].eval()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    model[3].weight.requires_grad_(False)
    result = attack(loss_of(model, label()), x, drawn(attack, IMAGE))
    assert not result.requires_grad and result.grad_fn is None and x.grad is None
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    assert model[1].bias.grad is None and model[3].weight.grad is None and model[3].bias.grad is None
    assert [m.training for m in model] == [False, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, True]


def test_runs_under_no_grad_and_on_a_frozen_network(make: Callable[..., Attack]) -> None:
    x, attack = inputs(IMAGE), make()
    expected = attacked(attack, x)
    with torch.no_grad():
        assert torch.equal(attacked(attack, x), expected)
    frozen = network(IMAGE).requires_grad_(False)
    assert torch.equal(attack(loss_of(frozen, label()), x, drawn(attack, IMAGE)), expected)


def test_a_training_step_after_it_in_the_same_autocast_has_all_its_gradients(make: Callable[..., Attack]) -> None:
    model, attack = network(IMAGE), make()
    with torch.autocast("cpu", torch.bfloat16):
        x = attack(loss_of(model, label()), inputs(IMAGE), drawn(attack, IMAGE))
        loss = F.cross_entropy(model(x).float(), label())
    loss.backward()
    assert x.dtype == torch.float32
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_images_out_of_bounds_are_refused(make: Callable[..., Attack]) -> None:
    with pytest.raises(RecipeError, match=r"expected an input in \[-1\.0, 1\.0\], found values from -1 to 2.* set low"):
        attacked(make(), torch.linspace(-1, 2, N * 60).reshape(N, *IMAGE))
    with pytest.raises(RecipeError, match=r"found values from 0 to 255"):
        attacked(make(), torch.linspace(0, 255, N * 60).reshape(N, *IMAGE))
    with pytest.raises(RecipeError, match=r"expected an input of floats, found torch\.uint8"):
        attack = make()
        attack(lambda x: x.flatten(1).sum(1), inputs(IMAGE).byte(), drawn(attack, IMAGE))
    rounded = inputs(IMAGE).clamp_(-0.9, 0.9)
    rounded[0, 0, 0, 0] = 1 + 1e-6
    assert attacked(make(), rounded).max() <= 1 and attacked(make(), rounded, strength=0.0).max() == 1


def test_a_bound_above_the_other_is_refused(make: Callable[..., Attack]) -> None:
    with pytest.raises(RecipeError, match=r"low, high: expected low < high, found 1\.0 and -1\.0"):
        make(low=1.0, high=-1.0)


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_a_strength_that_is_none_is_refused(make: Callable[..., Attack], strength: float) -> None:
    with pytest.raises(RecipeError, match="expected a strength of at least 0, found"):
        attacked(make(), inputs(IMAGE), strength=strength)


@pytest.mark.parametrize("cut", ["detach", "no_grad", "constant", "round"])
def test_a_model_without_gradients_is_refused_unless_the_attack_is_blind(make: Callable[..., Attack], cut: str) -> None:
    model, attack, x = network(IMAGE), make(), inputs(IMAGE)

    def loss(x: Tensor) -> Tensor:
        if cut == "no_grad":
            with torch.no_grad():
                return cross_entropy(model(x), label())
        if cut == "constant":
            return torch.zeros(len(x))
        return cross_entropy(model((x * 100).long().float() if cut == "round" else x.detach()), label())

    if isinstance(attack, BLIND) or (isinstance(attack, AttackMixture) and _drew_noise_only(attack)):
        assert attack(loss, x, drawn(attack, IMAGE)).shape == x.shape
    else:
        with pytest.raises(RecipeError, match="expected a loss with a gradient with respect to its input, found none"):
            attack(loss, x, drawn(attack, IMAGE))


def _drew_noise_only(mixture: AttackMixture) -> bool:
    """Whether the draws of these tests choose the second attack, the noise, for every sample."""
    return bool((drawn(mixture, IMAGE)["mixture.choice"] >= 0.5).all())


def test_one_loss_a_sample_is_asked_for_if_one_is(make: Callable[..., Attack]) -> None:
    attack, x, asked = make(), inputs(IMAGE), []

    def mean(x: Tensor) -> Tensor:
        asked.append(x)
        return x.mean()

    if isinstance(attack, BLIND) or (isinstance(attack, AttackMixture) and _drew_noise_only(attack)):
        attack(mean, x, drawn(attack, IMAGE))
        assert asked == []
    else:
        with pytest.raises(RecipeError, match=r"expected a loss of one number a sample \(8,\), found shape \(\)"):
            attack(mean, x, drawn(attack, IMAGE))


def test_names_of_draws_do_not_depend_on_the_shape_and_follow_the_name(make: Callable[..., Attack]) -> None:
    attack = make()
    assert attack.draws(IMAGE).keys() == attack.draws(LATENT).keys() == attack.draws((1,)).keys()
    if "name" in arguments(type(attack)) and not isinstance(attack, AttackMixture):
        other = type(attack)(name="other")  # type: ignore[call-arg]
        assert other.draws(IMAGE) and all(name.startswith("other.") for name in other.draws(IMAGE))


def test_names_are_unique_among_attacks() -> None:
    names = [
        n
        for c in EXAMPLES
        if c is not AttackMixture
        for n in {k for m in EXAMPLES[c].values() for k in m().draws(IMAGE)}
    ]
    assert len(names) > 4 and len(set(names)) == len(names)


def test_pickles(make: Callable[..., Attack]) -> None:
    attack, x = make(), inputs(IMAGE)
    assert torch.equal(attacked(pickle.loads(pickle.dumps(attack)), x), attacked(attack, x))


STRENGTHS: dict[type, Callable[[], Strength]] = {
    FixedStrength: FixedStrength,
    ScheduledStrength: lambda: ScheduledStrength(0.01, 0.1, 4),
    SteeredStrength: SteeredStrength,
}


def run(strength: Strength, first: int, last: int) -> list[float]:
    values = []
    for step in range(first, last):
        values.append(strength.value(step))
        strength.observe(torch.tensor(1.0, requires_grad=True), 1.1 + step % 3)
        assert strength.value(step) == values[-1]  # what is observed counts from the next step on
    return values


def test_every_strength_has_an_example() -> None:
    assert set(catalogue(Strength)) == set(STRENGTHS)


@pytest.mark.parametrize("cls", STRENGTHS, ids=lambda c: c.__name__)
class TestStrength:
    def test_goes_on_from_its_state(self, cls: type) -> None:
        whole, first, second = STRENGTHS[cls](), STRENGTHS[cls](), STRENGTHS[cls]()
        values = run(whole, 0, 9)
        before = run(first, 0, 4)
        second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
        assert before + run(second, 4, 9) == values
        assert all(type(v) is float and v >= 0 for v in values)

    def test_owns_no_parameter(self, cls: type) -> None:
        assert list(STRENGTHS[cls]().parameters()) == []

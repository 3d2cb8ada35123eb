"""Attacks against closed forms, invariants and foolbox."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from limbeck.attacks.base import Attack
from limbeck.attacks.boundary import BoundarySearch, DeepFoolBoundary
from limbeck.attacks.fgsm import Fgsm
from limbeck.attacks.noise import GaussianNoise, UniformNoise
from limbeck.attacks.objectives import cross_entropy, cw_margin, kl_divergence, squared_error
from limbeck.attacks.pgd import Norm, Pgd
from limbeck.data.base import Data
from limbeck.data.glyphs import Glyphs
from limbeck.data.idx import FashionMNIST
from limbeck.errors import RecipeError
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.recipe.catalogue import arguments
from limbeck.recipe.parts import Mistakes, read_part


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(attack: Attack, x: Tensor, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: draw.sample(len(x), generator) for name, draw in attack.draws(x.shape[1:]).items()}


class TestPgd:
    @settings(max_examples=80, deadline=None)
    @given(
        norm=st.sampled_from(["linf", "l2"]),
        radius=st.floats(1e-3, 3),
        share=st.floats(0.01, 1),
        steps=st.integers(1, 6),
        restarts=st.integers(0, 3),
        strength=st.none() | st.floats(0, 2),
        shape=st.sampled_from([(3,), (2, 4, 3)]),
        bounded=st.booleans(),
        seed=st.integers(0, 10**6),
    )
    def test_stays_in_ball_and_bounds_and_never_ends_below_the_start(
        self,
        *,
        norm: Norm,
        radius: float,
        share: float,
        steps: int,
        restarts: int,
        strength: float | None,
        shape: tuple[int, ...],
        bounded: bool,
        seed: int,
    ) -> None:
        low, high = (-1.0, 1.0) if bounded else (None, None)
        if bounded:  # more would be no small change, and is refused
            radius = min(radius, 1.0 if norm == "linf" else math.sqrt(math.prod(shape)))
        start = {"random_start": restarts > 0, "restarts": max(1, restarts)}
        attack = Pgd(radius, radius * share, steps, norm, low=low, high=high, **start)  # type: ignore[arg-type]
        x, direction = rand(5, *shape, seed=seed), 3 * randn(*shape, seed=seed + 1)

        def wavy(x: Tensor) -> Tensor:
            return (4 * (x * direction).flatten(1).sum(1)).sin() + (x**3).flatten(1).mean(1)

        result = attack(wavy, x, drawn(attack, x, seed), strength)
        change, reach = (result - x).flatten(1), radius if strength is None else strength
        length = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert (length <= reach * (1 + 1e-9) + 1e-12).all()
        assert not bounded or result.abs().max() <= 1
        assert (wavy(result) >= wavy(x)).all()

    @pytest.mark.parametrize("random_start", [False, True])
    def test_linf_finds_the_corner_of_a_linear_model(self, random_start: bool) -> None:
        x, weight = rand(6, 3, 4, 4), randn(3, 4, 4, seed=1)
        attack = Pgd(0.2, 0.05, 8, random_start=random_start)  # 8 steps cross the ball from side to side
        result = attack(lambda x: (x * weight).flatten(1).sum(1), x, drawn(attack, x))
        torch.testing.assert_close(result, (x + 0.2 * weight.sign()).clamp(-1, 1), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("random_start", "steps"), [(False, 4), (True, 300)])
    def test_l2_finds_the_point_along_the_gradient_of_a_linear_model(self, random_start: bool, steps: int) -> None:
        x, weight = rand(6, 3, 4, 4), randn(3, 4, 4, seed=1)
        attack = Pgd(1.5, 0.4, steps, "l2", random_start=random_start, low=None, high=None)
        result = attack(lambda x: (x * weight).flatten(1).sum(1), x, drawn(attack, x))
        torch.testing.assert_close(result, x + 1.5 * weight / weight.norm(), rtol=0, atol=1e-6)

    def test_one_step_of_the_whole_radius_is_fgsm(self) -> None:
        x, weight = rand(40, 12), randn(12, seed=1)

        def loss(x: Tensor) -> Tensor:
            return (x @ weight).sin()

        fgsm = Fgsm(0.1)(loss, x, {})
        gradient = (x @ weight).cos()[:, None] * weight
        torch.testing.assert_close(fgsm, (x + 0.1 * gradient.sign()).clamp(-1, 1), rtol=0, atol=1e-12)
        pgd = Pgd(0.1, 0.1, 1, random_start=False)(loss, x, {})
        better = loss(fgsm) > loss(x)
        assert 0 < better.sum() < 40
        assert torch.equal(pgd[better], fgsm[better]) and torch.equal(pgd[~better], x[~better])

    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_a_strength_scales_radius_and_step(self, norm: Norm) -> None:
        x, weight = rand(20, 12), randn(12, seed=1)
        whole, half = Pgd(0.4, 0.1, 2, norm), Pgd(0.2, 0.05, 2, norm)
        results = [
            attack(lambda x: (x @ weight).sin(), x, drawn(attack, x), strength)
            for attack, strength in ((whole, 0.2), (half, None), (whole, None))
        ]
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
        assert (results[2] - results[1]).abs().max() > 0.05

    def test_each_sample_keeps_its_best_start(self) -> None:
        x, weight = rand(50, 4), 6 * randn(4, seed=1)

        def loss(x: Tensor) -> Tensor:
            return (x @ weight).sin() + x.sum(1)

        many = Pgd(0.5, 0.05, 3, restarts=4)
        draws = drawn(many, x)
        together = loss(many(loss, x, draws))
        one = Pgd(0.5, 0.05, 3)
        alone = torch.stack([loss(one(loss, x, {"pgd.start": draws["pgd.start"][:, i : i + 1]})) for i in range(4)])
        torch.testing.assert_close(together, alone.amax(0), rtol=0, atol=0)
        assert len(alone.argmax(0).unique()) > 1

    def test_starts_are_uniform_in_the_ball(self) -> None:
        x = torch.zeros(3000, 2, dtype=torch.float64)
        for norm in ("linf", "l2"):
            attack = Pgd(0.5, 1e-9, 1, norm)  # type: ignore[arg-type]
            start = attack(lambda x: 1e3 + 0 * x.sum(1), x, drawn(attack, x))
            assert torch.equal(start, x)  # a flat loss gives nothing better than the input
            start = attack(lambda x: x.abs().sum(1), x, drawn(attack, x)) / 0.5
            if norm == "linf":
                assert all(stats.kstest(start[:, i], stats.uniform(-1, 2).cdf).pvalue > 1e-3 for i in (0, 1))
            else:  # the square of the radius and the angle of a uniform point of the disc are uniform
                assert stats.kstest(start.square().sum(1), stats.uniform().cdf).pvalue > 1e-3
                angle = torch.atan2(start[:, 1], start[:, 0])
                assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: Pgd(-0.1), r"Pgd\.radius: expected a number above 0, found -0\.1"),
            (lambda: Pgd(0.1, 0.2), r"Pgd\.step: expected a step no larger than the ball \(radius 0\.1\), found 0\.2"),
            (lambda: Pgd(0.1, 0.0), r"Pgd\.step: expected a number above 0, found 0"),
            (lambda: Pgd(steps=0), r"Pgd\.steps: expected at least 1, found 0"),
            (lambda: Pgd(norm="l1"), r"Pgd\.norm: expected 'linf' or 'l2', found 'l1'"),  # type: ignore[arg-type]
            (lambda: Pgd(restarts=0), r"Pgd\.restarts: expected at least 1, found 0"),
            (lambda: Pgd(restarts=2, random_start=False), r"Pgd\.restarts: expected 1 without random_start"),
            (lambda: Fgsm(0.0), r"Fgsm\.radius: expected a number above 0"),
            (lambda: UniformNoise(float("nan")), r"UniformNoise\.radius: expected a number above 0, found nan"),
            (lambda: GaussianNoise(-1), r"GaussianNoise\.deviation: expected a number above 0, found -1"),
        ],
    )
    def test_arguments_out_of_range_are_refused(self, make: Callable[[], Attack], words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            make()


class TestNoise:
    def test_gaussian_has_its_moments(self) -> None:
        x = torch.full((200, 3, 8, 8), 0.3, dtype=torch.float64)
        attack = GaussianNoise(0.25, low=None, high=None)
        noise = (attack(lambda x: x, x, drawn(attack, x)) - x).flatten()
        assert stats.kstest(noise, stats.norm(0, 0.25).cdf).pvalue > 1e-3
        half = (attack(lambda x: x, x, drawn(attack, x), 0.125) - x).flatten()
        torch.testing.assert_close(half, noise / 2)

    def test_uniform_has_its_range(self) -> None:
        x = torch.full((200, 3, 8, 8), 0.3, dtype=torch.float64)
        attack = UniformNoise(0.25)
        noise = (attack(lambda x: x, x, drawn(attack, x)) - x).flatten()
        assert stats.kstest(noise, stats.uniform(-0.25, 0.5).cdf).pvalue > 1e-3

    def test_bounds_clamp(self) -> None:
        x = torch.full((50, 100), 0.9)
        attack = GaussianNoise(0.2)
        share = (attack(lambda x: x, x, drawn(attack, x)) == 1).double().mean()
        assert share == pytest.approx(stats.norm.sf(0.5), abs=0.03)


class TestObjectives:
    def test_of_classes(self) -> None:
        logits, goal, label = 3 * randn(9, 6), 3 * randn(9, 6, seed=1), torch.arange(9) % 6
        p, q = logits.softmax(1).numpy(), goal.softmax(1).numpy()
        numbers = label.numpy()
        z = logits.numpy()
        torch.testing.assert_close(cross_entropy(logits, label), torch.from_numpy(-np.log(p[range(9), numbers])))
        margins = [max(z[i, j] for j in range(6) if j != numbers[i]) - z[i, numbers[i]] for i in range(9)]
        torch.testing.assert_close(cw_margin(logits, label), torch.tensor(margins, dtype=torch.float64))
        assert torch.equal(cw_margin(logits, label) > 0, logits.argmax(1) != label)
        torch.testing.assert_close(kl_divergence(logits, goal), torch.from_numpy(stats.entropy(q, p, axis=1)))
        expected = ((z - goal.numpy()) ** 2).mean(1)
        torch.testing.assert_close(squared_error(logits, goal), torch.from_numpy(expected))

    def test_of_pixels_is_the_mean_over_them(self) -> None:
        logits, goal, mask = randn(2, 4, 3, 5), randn(2, 4, 3, 5, seed=1), torch.arange(30).reshape(2, 3, 5) % 4
        flat, other = (t.permute(0, 2, 3, 1).reshape(30, 4) for t in (logits, goal))
        for whole, single in (
            (cross_entropy(logits, mask), cross_entropy(flat, mask.flatten())),
            (cw_margin(logits, mask), cw_margin(flat, mask.flatten())),
            (kl_divergence(logits, goal), kl_divergence(flat, other)),
        ):
            torch.testing.assert_close(whole, single.reshape(2, 15).mean(1))

    @pytest.mark.parametrize("objective", [cross_entropy, cw_margin, kl_divergence, squared_error])
    def test_has_the_gradient_that_its_values_have(self, objective: Callable[[Tensor, Tensor], Tensor]) -> None:
        goal = torch.arange(4) % 3 if objective in (cross_entropy, cw_margin) else randn(4, 3, seed=1).requires_grad_()
        assert torch.autograd.gradcheck(lambda z: objective(z, goal), randn(4, 3).requires_grad_())
        narrow = objective(randn(4, 3).bfloat16(), goal)
        assert narrow.dtype == (torch.float64 if goal.dtype == torch.float64 else torch.float32)

    def test_margin_has_a_gradient_where_the_network_is_certain(self) -> None:
        logits = torch.tensor([[200.0, 0.0, 1.0]], requires_grad=True)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([0])).sum(), logits)
        assert gradient.abs().max() == 0
        (gradient,) = torch.autograd.grad(cw_margin(logits, torch.tensor([0])).sum(), logits)
        assert gradient.tolist() == [[-1.0, 0.0, 1.0]]

    def test_shapes_that_do_not_belong_together_are_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"cross_entropy: expected logits .* found shapes \(4, 3\) and \(3,\)"):
            cross_entropy(torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64))
        with pytest.raises(RecipeError, match=r"cw_margin: expected logits of at least 2 classes"):
            cw_margin(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))
        for objective in (kl_divergence, squared_error):
            with pytest.raises(RecipeError, match=r"expected one shape, found \(4, 3\) and \(4, 1\)"):
                objective(torch.zeros(4, 3), torch.zeros(4, 1))


def margins(logits: Tensor) -> Tensor:
    top = logits.softmax(1).sort(1).values
    return top[:, -1] - top[:, -2]


class TestBoundary:
    @pytest.mark.parametrize("form", ["single", "column", "pair"])
    def test_two_classes_of_a_linear_model_give_the_projection(self, form: str) -> None:
        x, weight, bias = randn(30, 2, 3, 4), randn(2, 3, 4, seed=1), 0.3

        def output(x: Tensor) -> Tensor:
            score = (x * weight).flatten(1).sum(1) + bias
            return {"single": score, "column": score[:, None], "pair": torch.stack([0 * score, score], 1)}[form]

        search = DeepFoolBoundary("half", margin=1e-5, low=None, high=None)
        samples, reached = search(output, x)
        score = (x * weight).flatten(1).sum(1) + bias
        projection = x - (score / weight.square().sum())[:, None, None, None] * weight
        assert reached.all() and not samples.requires_grad and samples.dtype == torch.float64
        torch.testing.assert_close(samples, projection, rtol=0, atol=1e-5)
        probability = ((samples * weight).flatten(1).sum(1) + bias).sigmoid()
        assert (probability - 0.5).abs().max() <= 0.5e-5

    def test_many_classes_of_a_linear_model_give_the_projection_on_the_nearest(self) -> None:
        x, weight, bias = randn(60, 8), randn(6, 8, seed=1), randn(6, seed=2)
        samples, reached = DeepFoolBoundary(margin=1e-5, low=None, high=None)(lambda x: x @ weight.T + bias, x)
        logits = x @ weight.T + bias
        label = logits.argmax(1)
        nearest = []
        for i in range(60):
            own = int(label[i])
            ways = [(weight[j] - weight[own], logits[i, own] - logits[i, j]) for j in range(6) if j != own]
            nearest.append(min((gap / w.square().sum() * w for w, gap in ways), key=lambda r: float(r.norm())))
        assert reached.all() and margins(samples @ weight.T + bias).max() <= 1e-5
        torch.testing.assert_close(samples, x + torch.stack(nearest), rtol=0, atol=1e-4)
        few = DeepFoolBoundary(margin=1e-5, classes=1, low=None, high=None)(lambda x: x @ weight.T + bias, x)
        longer = (few.samples - x).norm(dim=1) - torch.stack(nearest).norm(dim=1)
        assert few.reached.all() and longer.min() > -1e-4 and longer.max() > 0.01  # one candidate is not always nearest

    def test_what_is_there_already_stays_and_what_never_comes_is_told(self) -> None:
        x = torch.tensor([[0.0, 0.5], [0.001, 0.5], [0.5, 0.5], [-0.9, 0.5]])

        def output(x: Tensor) -> Tensor:  # decided at 0, where it is smooth; on the left no way leads there
            score = torch.where(x[:, 0] < -0.5, -8 + 0 * x[:, 0], 4 * x[:, 0])
            return torch.stack([-score, score], 1)

        samples, reached = DeepFoolBoundary(margin=0.02)(output, x)
        assert reached.tolist() == [True, True, True, False]
        assert torch.equal(samples[[0, 1, 3]], x[[0, 1, 3]])
        assert abs(float(samples[2, 0])) < 0.01 and samples[2, 1] == 0.5

    def test_a_boundary_outside_the_bounds_or_jumped_over_is_not_reached(self) -> None:
        x = torch.full((2, 3), 0.5)
        far = DeepFoolBoundary()(lambda x: torch.stack([x.sum(1) + 9, 0 * x[:, 0]], 1), x)
        jump = DeepFoolBoundary()(
            lambda x: torch.stack([x.sum(1) + 5 * (x.sum(1) > 0) - 5 * (x.sum(1) < 0), 0 * x[:, 0]], 1), x
        )
        for samples, reached in (far, jump):
            assert not reached.any() and torch.equal(samples, x)

    @pytest.mark.parametrize("threshold", ["top_two", "half"])
    def test_a_threshold_for_another_number_of_classes_is_refused(self, threshold: Literal["top_two", "half"]) -> None:
        shapes = {"half": [(4, 3), (4, 3, 2), (4, 10), (3,)], "top_two": [(4,), (4, 1), (4, 3, 2), ()]}[threshold]
        for shape in shapes:
            with pytest.raises(RecipeError, match=rf"DeepFoolBoundary\.threshold: '{threshold}' is asked of .* use '"):
                DeepFoolBoundary(threshold)(lambda x, s=shape: torch.zeros(s), torch.zeros(4, 3))  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: DeepFoolBoundary(margin=0.0), r"DeepFoolBoundary\.margin: expected a number in \(0, 1\), found 0"),
            (lambda: DeepFoolBoundary(steps=0), r"steps: expected at least 1, found 0"),
            (lambda: DeepFoolBoundary(classes=0), r"classes: expected at least 1, found 0"),
            (lambda: DeepFoolBoundary(overshoot=-1.0), r"overshoot: expected a number above 0, found -1"),
            (lambda: DeepFoolBoundary("third"), r"threshold: expected 'top_two' or 'half', found 'third'"),  # type: ignore[arg-type]
            (lambda: DeepFoolBoundary(low=2.0), r"DeepFoolBoundary\.low, high: expected low < high"),
            (lambda: DeepFoolBoundary()(lambda x: x, torch.full((2, 3), 5.0)), r"expected an input in \[-1\.0, 1\.0\]"),
            (lambda: DeepFoolBoundary()(lambda x: x.detach(), torch.zeros(2, 3)), "expected a loss with a gradient"),
        ],
    )
    def test_what_cannot_be_searched_is_refused(self, make: Callable[[], object], words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            make()


class TestBoundaryContract:
    """What an `Attack` keeps to, a search keeps to as well."""

    search = DeepFoolBoundary(margin=1e-3, low=None, high=None)

    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 5)).double()

    def test_a_recipe_builds_it_by_its_name(self) -> None:
        mistakes = Mistakes()
        given = {"class_path": "DeepFoolBoundary", "init_args": {"threshold": "half", "low": None, "high": None}}
        search = read_part(BoundarySearch, given, "boundary", mistakes).build()
        mistakes.report("recipe")
        assert isinstance(search, DeepFoolBoundary) and search.threshold == "half" and search.bounds.low is None
        assert all(argument.doc for argument in arguments(DeepFoolBoundary).values())

    def test_a_part_of_the_batch_gives_that_part_of_the_result(self) -> None:
        x, model = rand(8, 3, 4), self.network()
        whole = self.search(model, x)
        for part in (slice(0, 4), slice(4, 8), slice(6, 7)):
            alone = self.search(model, x[part])
            torch.testing.assert_close(alone.samples, whole.samples[part], rtol=0, atol=1e-12)
            assert torch.equal(alone.reached, whole.reached[part])

    def test_leaves_no_gradient_nor_its_input_changed_and_runs_under_no_grad(self) -> None:
        x, model = rand(8, 3, 4).requires_grad_(), self.network()
        before = x.detach().clone()
        samples, reached = self.search(model, x)
        with torch.no_grad():
            again = self.search(model.requires_grad_(False), x)
        assert torch.equal(samples, again.samples) and reached.any()
        assert not samples.requires_grad and x.grad is None and torch.equal(x, before)
        assert all(p.grad is None for p in model.parameters())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_keeps_the_type(self, dtype: torch.dtype) -> None:
        x, model = rand(8, 3, 4), self.network()
        samples, reached = self.search(model.to(dtype), x.to(dtype))
        expected = self.search(model.double(), x)
        assert samples.dtype == dtype and reached.all()
        torch.testing.assert_close(samples.double(), expected.samples, rtol=0, atol=1e-2)


def test_segmentation_is_attacked_by_its_mean_over_pixels() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 4, 1)).double()
    image = rand(5, 3, 8, 8)
    mask = model(image).argmax(1)
    attack, blind = Pgd(0.3, 0.05, 10), UniformNoise(0.3)
    noisy = blind(lambda x: x, image, drawn(blind, image))
    for objective in (cross_entropy, cw_margin):
        result = attack(lambda x, o=objective: o(model(x), mask), image, drawn(attack, image))  # type: ignore[misc]
        clean, random, worst = (objective(model(x), mask) for x in (image, noisy, result))
        assert (worst > random).all() and (worst > clean).all()
        wrong = [(model(x).argmax(1) != mask).double().mean() for x in (noisy, result)]
        assert wrong[1] > wrong[0] and (result - image).abs().max() <= 0.3 + 1e-12


def test_latents_are_attacked_where_student_and_teacher_differ() -> None:
    torch.manual_seed(0)
    teacher, student = (nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2))).double() for _ in "ts")
    latent, attack = randn(20, 6), Pgd(1.0, 0.2, 10, "l2", low=None, high=None)

    def gap(z: Tensor) -> Tensor:
        return (student(z) - teacher(z)).square().flatten(1).mean(1)

    result = attack(gap, latent, drawn(attack, latent))
    torch.testing.assert_close(gap(latent), squared_error(student(latent), teacher(latent)))
    assert (gap(result) > gap(latent)).all() and gap(result).mean() > 1.3 * gap(latent).mean()


def glyphs() -> Data:
    return Glyphs(16, channels=1, classes="ABCDEFGH", train=1500, validation=10, test=300)


def fashion() -> Data:
    root = os.environ.get("LIMBECK_DATA")
    if not root or not (Path(root) / "fashion-mnist").exists():
        pytest.skip("needs Fashion-MNIST in the folder LIMBECK_DATA")
    return FashionMNIST(16)


@cache
def trained(make: Callable[[], Data]) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network that was trained for seconds, and images that it has not seen with their labels."""
    data = make()
    torch.manual_seed(0)
    model = SmallCnn(8, channels=1, size=16, classes=len(data.classes))
    optimizer, train = torch.optim.Adam(model.parameters(), lr=3e-3), data.split("train")
    for _ in range(150):
        batch = train.read(torch.randint(len(train), (64,)))
        assert batch.image is not None and batch.label is not None
        optimizer.zero_grad()
        F.cross_entropy(model(batch.image), batch.label).backward()
        optimizer.step()
    test = data.split("test").read(torch.arange(300))
    assert test.image is not None and test.label is not None
    return model.eval().requires_grad_(False), test.image, test.label


REAL = pytest.mark.parametrize("make", [glyphs, fashion])


@pytest.mark.parametrize(
    ("make", "norm", "radius"),
    [(glyphs, "linf", 0.025), (glyphs, "l2", 0.2), (fashion, "linf", 0.08), (fashion, "l2", 0.8)],
)
def test_robust_accuracy_is_that_of_foolbox(make: Callable[[], Data], norm: Norm, radius: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own imports of scipy
        import foolbox  # noqa: PLC0415 (slow)

    model, image, label = trained(make)
    clean = (model(image).argmax(1) == label).double().mean()
    theirs_of = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    wrapped = foolbox.PyTorchModel(model, bounds=(-1, 1), device="cpu")
    for random_start in (False, True):
        their_attack = theirs_of(abs_stepsize=radius / 8, steps=20, random_start=random_start)
        attack = Pgd(radius, radius / 8, 20, norm, random_start=random_start)
        found = []
        for seed in range(5 if random_start else 1):  # their starts are not ours: what they have in common is the mean
            torch.manual_seed(seed)
            _, adversarial, _ = their_attack(wrapped, image, label, epsilons=radius)
            result = attack(lambda x: cross_entropy(model(x), label), image, drawn(attack, image, seed))
            found.append([(model(x).argmax(1) == label).double().mean() for x in (result, adversarial)])
        mine, theirs = torch.tensor(found).mean(0)
        print(f"{make.__name__} {norm}: clean {clean:.3f}, robust {mine:.3f}, foolbox {theirs:.3f}")
        assert abs(mine - theirs) <= 0.01
        assert clean > 0.6 and 0.05 < mine < clean - 0.1  # so that the attack could be weaker, and stronger


@REAL
def test_boundary_samples_of_a_network_lie_at_its_threshold(make: Callable[[], Data]) -> None:
    model, image, _ = trained(make)
    image = image[:200]
    samples, reached = DeepFoolBoundary(margin=0.01)(model, image)
    before, after = model(image), model(samples)
    print(
        f"{make.__name__}: {reached.double().mean():.3f} reached, {(samples - image).flatten(1).norm(dim=1).mean():.3f}"
    )
    assert reached.double().mean() > 0.97
    assert margins(after[reached]).max() <= 0.01 < margins(before).median()
    assert torch.equal(samples[~reached], image[~reached]) and samples.abs().max() <= 1
    first = before.argmax(1, keepdim=True)
    assert (after.topk(2, dim=1).indices == first).any(1)[reached].all()  # the class it came from is one of the two
    again, there = DeepFoolBoundary(margin=0.01)(model, samples[reached])
    assert there.all() and torch.equal(again, samples[reached])
    pgd = Pgd(0.5, 0.1, 10, "l2", low=-1, high=1)
    walked = pgd(lambda x: cw_margin(model(x), first.squeeze(1)), image, drawn(pgd, image))
    crosses = model(walked).argmax(1) != first.squeeze(
        1
    )  # where PGD crosses, the boundary is nearer than where it ends
    nearer = (samples - image).flatten(1).norm(dim=1) <= (walked - image).flatten(1).norm(dim=1) + 1e-6
    assert crosses.sum() > 5 and nearer[crosses & reached].double().mean() > 0.9

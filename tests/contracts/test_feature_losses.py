"""What every feature loss promises, checked on every one that the package has, built as a recipe builds it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.base import FeatureLoss
from limbeck.recipe.catalogue import arguments, catalogue
from limbeck.recipe.parts import Mistakes, read_part

N, COUNT = 8, 12
STUDENT, TEACHER = [(4, 8, 8), (6, 4, 4)], [(7, 8, 8), (9, 4, 4)]
PATHS = {"layer1": "stage1", "layer2": "stage2"}
SMALL = {
    "paths": PATHS, "count": COUNT, "negatives": 7,
    "classes": 3, "pixels": 12, "regions": 6, "pixel_anchors": 15, "region_anchors": 6, "stored": 2,
}  # fmt: skip
MASKS = {"Ifvd", "CirkdMemory"}  # those whose labels are the classes of pixels


@dataclass
class Case:
    """One feature loss with one set of options."""

    loss: type[FeatureLoss]
    options: dict[str, Any]

    def build(
        self, student: Sequence[tuple[int, ...]] = STUDENT, teacher: Sequence[tuple[int, ...]] = TEACHER, seed: int = 0
    ) -> FeatureLoss:
        mistakes = Mistakes()
        part = read_part(
            FeatureLoss, {"class_path": self.loss.__name__, "init_args": self.options}, "features", mistakes
        )
        mistakes.report("recipe")
        built = part.build()
        torch.manual_seed(seed)
        built.fit_to(student, teacher)
        assert isinstance(built, FeatureLoss)
        return built

    def __str__(self) -> str:
        changed = ",".join(f"{k}={v}" for k, v in self.options.items() if k not in SMALL)
        return f"{self.loss.__name__}({changed})"


def _options(loss: type[FeatureLoss]) -> Iterator[dict[str, Any]]:
    """The defaults, then each choice at each of its other values."""
    base = {name: value for name, value in SMALL.items() if name in arguments(loss)}
    yield base
    for name, argument in arguments(loss).items():
        choices = get_args(argument.annotation) if get_origin(argument.annotation) is Literal else ()
        yield from (base | {name: value} for value in choices if value != argument.default)


LOSSES = [c for c in catalogue(FeatureLoss) if issubclass(c, FeatureLoss)]
CASES = [Case(loss, options) for loss in LOSSES for options in _options(loss)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def features(shapes: Sequence[tuple[int, ...]], seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(N, *shape, generator=draw) for shape in shapes]


def inputs(loss: FeatureLoss, seed: int = 1) -> dict[str, Any]:
    """What a method would pass on, by the loss's own declarations."""
    draw = torch.Generator().manual_seed(seed)
    drawn = {name: declared.sample(N, draw) for name, declared in loss.draws().items()}
    label = torch.arange(N) % 3 if loss.needs_label else None
    if type(loss).__name__ in MASKS:
        label = torch.randint(3, (N, 16, 16), generator=draw)
    index = torch.randperm(COUNT, generator=draw)[:N] if loss.needs_index else None
    return {"label": label, "index": index, "drawn": drawn}


def test_the_known_losses_are_found() -> None:
    assert {c.__name__ for c in LOSSES} >= {
        "Hint", "AttentionTransfer", "SimilarityPreserving", "Vid", "Pkt", "FactorTransfer", "Cwd", "Mgd", "Review",
        "Rkd", "CorrelationCongruence", "Crd", "PairwiseStructure", "Ifvd", "Cirkd", "CirkdMemory",
    }  # fmt: skip
    assert any(case.options.get("masks") == "channels" for case in CASES)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda c: c.__name__)
def test_a_recipe_can_name_it_and_help_explains_it(loss: type[FeatureLoss]) -> None:
    assert getattr(loss, "__final__", False)
    for name, argument in arguments(loss).items():
        assert argument.doc, name
    assert next(iter(arguments(loss))) == "paths"
    assert inspect.getdoc(loss.forward)


@every_case
def test_a_finite_scalar_whose_gradient_reaches_the_student_and_all_that_is_owned(case: Case) -> None:
    loss = case.build()
    student, teacher = features(STUDENT, 2), features(TEACHER, 3)
    for tensor in student + teacher:
        tensor.requires_grad_()
    value = loss(student, [t.detach() for t in teacher], **inputs(loss))
    assert value.shape == () and value.dtype == torch.float32 and value.isfinite()
    value.backward()
    for tensor in student:
        assert tensor.grad is not None and tensor.grad.isfinite().all()
        assert (tensor.grad.flatten(1).abs().sum(1) > 0).all()
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-7, name
    assert all(tensor.grad is None for tensor in teacher)


@every_case
def test_it_draws_nothing_itself_and_repeats(case: Case) -> None:
    values = []
    for _ in range(2):
        loss = case.build()
        before = torch.get_rng_state()
        values.append([loss(features(STUDENT, s), features(TEACHER, s + 9), **inputs(loss, s)) for s in (1, 2)])
        assert torch.equal(before, torch.get_rng_state())
    assert values[0] == values[1]


@every_case
def test_what_is_drawn_is_used(case: Case) -> None:
    loss = case.build().eval()
    student, teacher = features(STUDENT, 2), features(TEACHER, 3)
    same = inputs(loss, 1)
    other = same | {"drawn": inputs(loss, 2)["drawn"]}
    changed = loss(student, teacher, **same) != loss(student, teacher, **other)
    assert bool(changed) == bool(loss.draws())


@every_case
def test_state_dict_lets_another_one_go_on(case: Case) -> None:
    loss, other = case.build(seed=0), case.build(seed=99)

    def step(which: FeatureLoss, seed: int) -> Tensor:
        value: Tensor = which(features(STUDENT, seed), features(TEACHER, seed + 9), **inputs(which, seed))
        for parameter in which.parameters():
            parameter.grad = None
        if any(True for _ in which.parameters()):
            value.backward()
            torch.optim.SGD(which.parameters(), lr=0.01).step()
        return value.detach()

    step(loss, 1), step(loss, 2)
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert torch.equal(step(loss, 3), step(other, 3))
    assert torch.equal(step(loss, 4), step(other, 4))
    for name, value in loss.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@every_case
def test_evaluation_changes_no_state(case: Case) -> None:
    loss = case.build().eval()
    before = copy.deepcopy(loss.state_dict())
    loss(features(STUDENT, 1), features(TEACHER, 2), **inputs(loss))
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


@every_case
def test_bf16_features_give_a_float32_loss(case: Case) -> None:
    narrow = [[f.bfloat16() for f in features(shapes, s)] for shapes, s in ((STUDENT, 2), (TEACHER, 3))]
    loss = case.build()
    value = loss(*narrow, **inputs(loss))
    wide = case.build()
    expected = wide(*[[f.float() for f in fs] for fs in narrow], **inputs(wide))
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trained = case.build()
        cast = trained(*narrow, **inputs(trained))
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, expected, rtol=2e-2, atol=1e-3)
    if not any(True for _ in loss.parameters()):  # only layers are narrowed, never the loss itself
        torch.testing.assert_close(cast, expected, rtol=1e-6, atol=0)


@every_case
def test_zero_features_give_finite_numbers(case: Case) -> None:
    for start in (torch.zeros, torch.ones):
        loss = case.build()
        student = [start(N, *shape).requires_grad_() for shape in STUDENT]
        value = loss(student, [torch.zeros(N, *shape) for shape in TEACHER], **inputs(loss))
        value.backward() if value.requires_grad else None
        assert value.isfinite()
        gradients = [t.grad for t in student] + [p.grad for p in loss.parameters()]
        assert all(g.isfinite().all() for g in gradients if g is not None)


@every_case
def test_vectors_are_compared_or_refused_in_one_line(case: Case) -> None:
    shapes = [(10,), (6,)], [(12,), (5,)]
    try:
        loss = case.build(*shapes)
    except RecipeError as error:
        message = str(error)
        assert "\n" not in message and case.loss.__name__ in message
        assert "expected feature maps (C, H, W)" in message and "found (10,) and (12,)" in message
        return
    student = [f.requires_grad_() for f in features(shapes[0], 2)]
    value = loss(student, features(shapes[1], 3), **inputs(loss))
    value.backward()
    assert value.shape == () and value.isfinite()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in student)


@every_case
@pytest.mark.parametrize("shape", [(), (5, 4), (2, 3, 4, 4)])
def test_other_ranks_are_refused_in_one_line(case: Case, shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError) as caught:
        case.build([STUDENT[0], shape], TEACHER)
    message = str(caught.value)
    assert "\n" not in message and "'layer2' -> 'stage2'" in message and str(shape) in message


@pytest.mark.parametrize("label", [torch.arange(N) % 3, torch.zeros(N - 1, 16, 16, dtype=torch.int64)])
@pytest.mark.parametrize("case", [case for case in CASES if case.loss.__name__ in MASKS], ids=str)
def test_labels_in_the_place_of_masks_are_refused_in_one_line(case: Case, label: Tensor) -> None:
    loss = case.build()
    with pytest.raises(RecipeError) as caught:
        loss(features(STUDENT, 2), features(TEACHER, 3), **inputs(loss) | {"label": label})
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{case.loss.__name__}: expected masks (8, H, W) int64")


@every_case
def test_no_paths_are_refused(case: Case) -> None:
    with pytest.raises(RecipeError, match=rf"{case.loss.__name__}\.paths: expected .* found {{}}"):
        Case(case.loss, case.options | {"paths": {}}).build()


@every_case
def test_numbers_that_cannot_be_are_refused_in_one_line(case: Case) -> None:
    for name, argument in arguments(case.loss).items():
        if argument.annotation not in (int, float):
            continue
        wrong = (-1, 0) if argument.annotation is int else (-1.0, float("nan"), float("inf"))
        for value in wrong:
            with pytest.raises(RecipeError) as caught:
                case.loss(**case.options | {name: value})
            message = str(caught.value)
            assert "\n" not in message and f"{case.loss.__name__}.{name}: expected" in message
            assert message.endswith(f"found {value}")


@every_case
def test_plain_gradient_descent_lowers_it(case: Case) -> None:
    loss = case.build()
    student, teacher = [f.requires_grad_() for f in features(STUDENT, 2)], features(TEACHER, 3)
    moved = [*student, *loss.parameters()]
    values, scale = [], 0.0
    for step in range(200):
        given = inputs(loss, step) | {"index": torch.arange(N) if loss.needs_index else None}
        value = loss(student, teacher, **given)
        gradients = torch.autograd.grad(value, moved)
        # The weight that a recipe would give it: it makes the first gradient as long as a step should be.
        scale = scale or 1 / float(sum(g.square().sum() for g in gradients)) ** 0.5
        with torch.no_grad():
            for tensor, gradient in zip(moved, gradients, strict=True):
                tensor.sub_(0.1 * scale * gradient)
        values.append(value.item())
    first, last = sum(values[:10]) / 10, sum(values[-10:]) / 10
    assert last < first - 0.1 * abs(first), (first, last)

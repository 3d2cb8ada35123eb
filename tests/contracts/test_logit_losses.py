"""What every loss of logits promises, checked on every one that the package has, built as a recipe builds it."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.base import LogitLoss
from limbeck.recipe.catalogue import arguments, catalogue
from limbeck.recipe.parts import Mistakes, read_part

N, K = 6, 7


@dataclass
class Case:
    """One loss with one set of options, as a recipe writes them."""

    name: str
    options: dict[str, Any]

    def build(self) -> LogitLoss:
        mistakes = Mistakes()
        part = read_part(LogitLoss, {"class_path": self.name, "init_args": self.options}, "logits", mistakes)
        mistakes.report("recipe")
        built = part.build()
        assert isinstance(built, LogitLoss) and type(built).__name__ == self.name
        return built

    def __str__(self) -> str:
        return f"{self.name}({','.join(f'{k}={v}' for k, v in self.options.items())})"


def _options(cls: type[LogitLoss]) -> Iterator[dict[str, Any]]:
    """The defaults, then each choice and each number halved; a loss around a loss gets one without and with labels."""
    around = arguments(cls).get("loss")
    bases: list[dict[str, Any]] = [{}] if around is None else [{"loss": "Kd"}, {"loss": {"class_path": "Dkd"}}]
    for base in bases:
        yield base
        for name, argument in arguments(cls).items():
            choices = get_args(argument.annotation) if get_origin(argument.annotation) is Literal else ()
            yield from (base | {name: value} for value in choices if value != argument.default)
            if isinstance(argument.default, float):
                yield base | {name: argument.default / 2}


CLASSES = catalogue(LogitLoss)
CASES = [Case(cls.__name__, options) for cls in CLASSES for options in _options(cls)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    student, teacher = 2 * torch.randn(2, N, K, generator=draw)
    return student.to(dtype), teacher.to(dtype), torch.tensor([0, 6, 3, 3, 1, 5])


def test_the_known_losses_are_found() -> None:
    assert {c.__name__ for c in CLASSES} >= {
        "Kd", "Dkd", "Nkd", "Dist", "MultiLevel", "Standardised", "Sharpened", "TopK",
    }  # fmt: skip
    assert any(case.options.get("remainder") == "uniform" for case in CASES)


@every_class
def test_it_is_final_and_every_argument_is_documented(cls: type[LogitLoss]) -> None:
    assert getattr(cls, "__final__", False) and not inspect.isabstract(cls)
    assert all(argument.doc for argument in arguments(cls).values())


@every_case
def test_value_is_one_a_sample_or_one_a_batch(case: Case) -> None:
    value = case.build()(*inputs())
    assert value.shape in {(N,), ()}
    assert value.dtype == torch.float32 and value.isfinite().all()
    assert case.build()(*inputs(torch.float64)).dtype == torch.float64


@every_case
def test_gradient_reaches_the_student_only(case: Case) -> None:
    student, teacher, label = inputs()
    student.requires_grad_()
    teacher.requires_grad_()
    case.build()(student, teacher, label).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.isfinite().all()
    assert (student.grad.abs().sum(1) > 0).all()


@every_case
def test_a_step_against_the_gradient_lowers_it(case: Case) -> None:
    student, teacher, label = inputs(torch.float64)
    student.requires_grad_()
    loss = case.build()
    before = loss(student, teacher, label).mean()
    (gradient,) = torch.autograd.grad(before, student)
    assert loss(student.detach() - 1e-3 * gradient, teacher, label).mean() < before


@every_case
def test_order_of_the_samples_goes_through(case: Case) -> None:
    loss, order = case.build(), torch.tensor([4, 0, 5, 2, 1, 3])
    value = loss(*inputs())
    shuffled = loss(*(t[order] for t in inputs()))
    torch.testing.assert_close(shuffled, value[order] if value.ndim else value)


@every_case
def test_a_loss_of_samples_sees_each_alone(case: Case) -> None:
    loss = case.build()
    value = loss(*inputs())
    if value.ndim == 0:
        student, teacher, label = inputs()
        other = torch.cat([student[:1], -student[1:]])
        first = [torch.autograd.grad(loss(s.requires_grad_(), teacher, label), s)[0][0] for s in (student, other)]
        assert not torch.allclose(first[0], first[1], rtol=1e-3), "a scalar, but it does not couple the samples"
        return
    alone = torch.cat([loss(*(t[i : i + 1] for t in inputs())) for i in range(N)])
    torch.testing.assert_close(alone, value)


@every_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_compared_in_float32(case: Case, dtype: torch.dtype) -> None:
    student, teacher, label = inputs(dtype)
    value = case.build()(student, teacher, label)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, case.build()(student.float(), teacher.float(), label))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = case.build()(student, teacher, label)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, value)


@every_case
def test_labels_are_used_where_they_are_needed(case: Case) -> None:
    student, teacher, label = inputs()
    loss = case.build()
    if loss.needs_label:
        assert not torch.allclose(loss(student, teacher, label), loss(student, teacher, (label + 1) % K))
        with pytest.raises(RecipeError, match="expected labels, found none"):
            loss(student, teacher)
    else:
        assert torch.equal(loss(student, teacher), loss(student, teacher, label))


@every_case
def test_it_owns_nothing_and_its_copies_are_equal(case: Case) -> None:
    loss = case.build()
    assert not loss.state_dict()
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert twin is not loss and twin.needs_label == loss.needs_label
        assert torch.equal(twin(*inputs()), loss(*inputs()))


@every_case
def test_a_recipe_refuses_what_it_does_not_have(case: Case) -> None:
    mistakes = Mistakes()
    spec = {"class_path": case.name, "init_args": case.options | {"temprature": 4.0}}
    read_part(LogitLoss, spec, "method.init_args.logits", mistakes)
    (line,) = mistakes.lines
    assert line.startswith("method.init_args.logits.init_args.temprature:") and "has no argument" in line


@every_case
def test_class_counts_that_differ_are_refused_in_one_line(case: Case) -> None:
    student, teacher, label = inputs()
    with pytest.raises(RecipeError, match="7 of the student and 6 of the teacher") as caught:
        case.build()(student, teacher[:, :6], label % 6)
    assert "\n" not in str(caught.value)

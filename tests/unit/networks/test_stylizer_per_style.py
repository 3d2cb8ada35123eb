"""Stylizers of one style as one: every image is painted by the member of its style, and by no other one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.baselines.style.reinhard import Reinhard
from limbeck.errors import RecipeError, WeightsError
from limbeck.networks.given.weights import save_weights
from limbeck.networks.stylizers.fast_style import FastStyle
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.networks.stylizers.stylizer_per_style import StylizerPerStyle

STYLE = torch.tensor([2, 0, 2, 1, 0])


def members() -> list[nn.Module]:
    torch.manual_seed(0)
    return [JohnsonStylizer(2, 1), FastStyle(), JohnsonStylizer(3, 2, depthwise=True)]


def images(count: int = 5) -> Tensor:
    return torch.rand(count, 3, 18, 21, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Counting(nn.Module):
    """Somebody's own stylizer: it states no styles, takes no number, and tells whom it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        return -image


@pytest.mark.parametrize("training", [False, True])
def test_it_gives_exactly_what_its_members_give(training: bool) -> None:
    known, image = members(), images()
    network = StylizerPerStyle(known).train(training)
    assert network.styles == 3
    with torch.no_grad():
        found = network(image, STYLE)
        for number, member in enumerate(known):
            mine = number == STYLE
            torch.testing.assert_close(found[mine], member(image[mine]), rtol=0, atol=0)
            whole = network(image, torch.full((5,), number))
            torch.testing.assert_close(whole, member(image), rtol=0, atol=0)


def test_no_member_is_asked_for_images_of_others() -> None:
    known = [Counting(), Counting(), Counting()]
    image = images()
    found = StylizerPerStyle(known)(image, STYLE.clamp(max=1))
    assert torch.equal(found, -image)
    assert [len(member.seen) for member in known] == [1, 1, 0]
    assert torch.equal(known[0].seen[0], image[[1, 4]]) and torch.equal(known[1].seen[0], image[[0, 2, 3]])


def test_gradients_are_those_of_each_member_with_its_images() -> None:
    torch.manual_seed(1)
    image, weight = images().requires_grad_(), torch.randn(5, 3, 18, 21)
    together, alone = StylizerPerStyle(members()).eval(), members()
    (together(image, STYLE) * weight).sum().backward()
    beside = images().requires_grad_()
    torch.stack(
        [(alone[s](beside[i : i + 1]) * weight[i]).sum() for i, s in enumerate(STYLE.tolist())]
    ).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(image.grad, beside.grad, rtol=1e-3, atol=1e-5)
    expected = [p.grad for member in alone for p in member.parameters()]
    for (name, mine), goal in zip(together.named_parameters(), expected, strict=True):
        torch.testing.assert_close(mine.grad, goal, rtol=1e-3, atol=1e-3, msg=name)


def test_who_has_no_image_in_training_has_a_gradient_of_zero() -> None:
    network = StylizerPerStyle(members()[:2])
    network(images(), torch.ones(5, dtype=torch.int64)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in network.members[0].parameters())
    assert any(p.grad is not None and p.grad.any() for p in network.members[1].parameters())


def test_one_member_needs_no_number() -> None:
    (member, *_), image = members(), images()
    network = StylizerPerStyle([member])
    assert network.styles == 1 and torch.equal(network(image), member(image))


def test_members_from_files(tmp_path: Path) -> None:
    known, file = members(), tmp_path / "third.safetensors"
    save_weights(known[2], file)
    torch.manual_seed(1)
    fresh = [known[0], known[1], JohnsonStylizer(3, 2, depthwise=True)]
    network = StylizerPerStyle(fresh, weights=[None, None, str(file)]).eval()
    with torch.no_grad():
        assert torch.equal(network(images(), STYLE), StylizerPerStyle(known).eval()(images(), STYLE))
    with pytest.raises(WeightsError, match="no such"):
        StylizerPerStyle(fresh, weights=[str(tmp_path / "none.safetensors"), None, None])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"members": []}, r"StylizerPerStyle.members: expected at least one stylizer, found \[\], one for each style"),
        (
            {"members": [JohnsonStylizer(2, 1), JohnsonStylizer(2, 1, 2)]},
            r"members.1: expected a stylizer of one style, found JohnsonStylizer, one of 2 styles",
        ),
        ({"members": [Reinhard()]}, r"members.0: .* found Reinhard, one that takes its style as a picture"),
        (
            {"members": [JohnsonStylizer(2, 1)], "weights": ["a", "b"]},
            r"StylizerPerStyle.weights: expected 1 files, one a member \(or null\), found 2",
        ),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        StylizerPerStyle(**arguments)


@pytest.mark.parametrize(
    ("style", "found"),
    [
        (None, "which of its 3 styles, found none"),
        (torch.tensor([0, 1, 2, 3, 0]), r"5 numbers of styles from 0 to 2, found \[0, 1, 2, 3, 0\]"),
        (torch.tensor([0, -1, 2, 0, 0]), r"5 numbers of styles from 0 to 2, found \[0, -1, 2, 0, 0\]"),
        (torch.tensor([0]), r"5 numbers of styles from 0 to 2, found \[0\]"),
        (torch.zeros(5, 3, 4, 4), r"5 numbers of styles from 0 to 2, found a tensor \(5, 3, 4, 4\)"),
    ],
)
def test_a_style_that_is_not_there_is_refused(style: Tensor | None, found: str) -> None:
    with pytest.raises(RecipeError, match=f"StylizerPerStyle: expected {found}"):
        StylizerPerStyle(members())(images(), style)

"""Five lines of Python with somebody else's modules."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import limbeck
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import FixedStrength
from limbeck.data.augmentations.augmentation import Flip

pytestmark = pytest.mark.usefixtures("_blank_drawings")


def theirs(width: int) -> nn.Module:
    """Return a generator that knows nothing of Limbeck; its images are in [0, 1]."""
    return nn.Sequential(
        nn.Linear(6, 16 * width), nn.ReLU(), nn.Unflatten(1, (width, 4, 4)),
        nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


def test_distill_brings_the_student_closer_and_leaves_the_models_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, student = theirs(16), theirs(8)
    with torch.no_grad():
        teacher[3].weight.mul_(3)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    images = teacher(torch.randn(128, 6)).detach() * 2 - 1
    trained = limbeck.distill(
        teacher, student, images, latent=(6,), image_range=(0, 1), out=tmp_path / "mine", steps=400, batch=16,
        samples=64, weights={"student.adversarial": 0.0, "student.output": 10.0}, accelerator="cpu",
    )  # fmt: skip
    latent = torch.randn(64, 6)
    with torch.no_grad():
        start = (student(latent) - teacher(latent)).abs().mean()
        end = (trained(latent) - teacher(latent)).abs().mean()
    assert end < 0.85 * start
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert (tmp_path / "mine/report.html").exists()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 20)])
def test_images_need_be_neither_square_nor_a_power_of_two(shape: tuple[int, int, int], tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(6, math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape))

    images = torch.rand(40, *shape) * 2 - 1
    trained = limbeck.distill(
        network(), network(), images, latent=(6,), image_range=(-1, 1), out=tmp_path / "mine", steps=2, batch=8,
        samples=16, accelerator="cpu",
    )  # fmt: skip
    assert trained(torch.randn(2, 6)).shape == (2, *shape)
    assert (tmp_path / "mine/report.html").exists()


def test_an_arm_of_distill_is_known_by_all_that_it_is_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, student = theirs(4), theirs(2)
    images = teacher(torch.randn(40, 6)).detach()

    def arms(**changed: Any) -> set[str]:
        given = {
            "image_range": (0, 1),
            "attack": Pgd(low=None, high=None),
            "strength": FixedStrength(0.1),
            "augment": Flip(),
        } | changed
        limbeck.distill(
            teacher, student, images, latent=(6,), out=tmp_path / "mine", steps=1, batch=4, samples=8, control=False,
            accelerator="cpu", **given,
        )  # fmt: skip
        return {folder.name for folder in (tmp_path / "mine/arms").glob("student-*")}

    first = arms()
    torch.manual_seed(1)  # which a discriminator of its own does not depend on
    assert arms() == first and len(first) == 1
    for number, changed in enumerate(
        ({"image_range": (-1, 1)}, {"strength": FixedStrength(0.2)}, {"augment": Flip(0.25)}), start=2
    ):
        assert len(arms(**changed)) == number, changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"latent": (7,)}, "check `latent`"),
        ({"method": "gna"}, "did you mean 'gan'"),
        ({"data": torch.zeros(64, 3, 4, 4)}, "the networks make"),
        ({"student": nn.Linear(6, 5)}, "expected a student that returns images"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    given = {"teacher": theirs(4), "student": theirs(2), "data": torch.zeros(64, 3, 8, 8), "latent": (6,)}
    with pytest.raises(limbeck.errors.RecipeError, match=words):
        limbeck.distill(**{**given, **change}, image_range=(0, 1), out=tmp_path / "mine")  # type: ignore[arg-type]
    assert not (tmp_path / "mine").exists()

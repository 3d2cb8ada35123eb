"""Five lines of Python with somebody else's modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import limbeck


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

"""methods/supervised.py: the loss is the cross-entropy, and following it learns the labels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from limbeck.errors import DataError, RecipeError
from limbeck.losses.base import FeatureLoss
from limbeck.losses.hint import Hint
from limbeck.losses.kd import Kd, soft_and_hard
from limbeck.losses.mgd import Mgd
from limbeck.losses.similarity_preserving import SimilarityPreserving, similarity_preserving
from limbeck.methods.supervised import Supervised
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.handling.tap import Tap
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.types import Batch


class Fixed(nn.Module):
    """The image is its logits."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1)


def loss_of(method: Supervised, batch: Batch) -> torch.Tensor:
    (update,) = method.updates(batch, 0)
    assert update.player == "student"
    assert list(update.losses) == ["cross_entropy"]
    value = update.losses["cross_entropy"]
    assert callable(value)
    return value()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_by_hand(smoothing: float) -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
    label = torch.tensor([0, 2])
    log_q = [[v - math.log(sum(math.exp(w) for w in row)) for v in row] for row in logits.tolist()]
    by_hand = -sum(
        (smoothing / 3 + (1 - smoothing) * (k == c)) * log_q[i][k]
        for i, c in enumerate(label.tolist())
        for k in range(3)
    )
    batch = Batch(image=logits.view(2, 1, 1, 3), label=label)
    assert loss_of(
        Supervised(Fixed(), terms={"student.cross_entropy": CrossEntropy(smoothing)}), batch
    ).item() == pytest.approx(by_hand / 2, rel=1e-5)


def test_it_learns() -> None:
    torch.manual_seed(0)
    image = torch.randn(64, 1, 4, 4)
    batch = Batch(image=image, label=(image[:, 0, 0, 0] > 0).long())
    method = Supervised(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    optimizer = torch.optim.Adam(method.players()["student"].parameters(), 0.1)
    for _ in range(50):
        optimizer.zero_grad()
        loss_of(method, batch).backward()
        optimizer.step()
    assert (method.student(image).argmax(1) == batch.label).float().mean() > 0.95


class Scaled(nn.Module):
    """The image is its logits, times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.factor * image.flatten(1)


def values(method: Supervised, batch: Batch) -> dict[str, torch.Tensor]:
    (update,) = method.updates(batch, 0)
    return {name: value() if callable(value) else value for name, value in update.losses.items()}


def test_the_survey_form_is_two_weights() -> None:
    torch.manual_seed(0)
    batch = Batch(image=torch.randn(6, 1, 1, 4), label=torch.arange(6) % 4)
    assert batch.image is not None and batch.label is not None
    found = values(Supervised(Scaled(1.0), Scaled(3.0), terms={"student.logits": Kd(temperature=2.0)}), batch)
    logits = batch.image.flatten(1)
    expected = soft_and_hard(logits, 3 * logits, batch.label, alpha=0.3, temperature=2.0).mean()
    torch.testing.assert_close(0.3 * found["cross_entropy"] + 0.7 * found["logits"], expected)


def classifier(width: int) -> SmallCnn:
    return SmallCnn(width, channels=1, size=8, classes=3)


def test_features_are_read_at_the_paths_of_each_network() -> None:
    torch.manual_seed(0)
    student, teacher = classifier(2), classifier(2)
    loss = SimilarityPreserving({"blocks.0": "blocks.2"})
    batch = Batch(image=torch.randn(5, 1, 8, 8), label=torch.arange(5) % 3)
    assert batch.image is not None
    found = values(Supervised(student, teacher, terms={"student.features": loss}), batch)["features"]
    with Tap(student, ["blocks.0"]) as mine, Tap(teacher.eval(), ["blocks.2"]) as goal:
        student(batch.image), teacher(batch.image)
    torch.testing.assert_close(found, similarity_preserving(mine["blocks.0"], goal["blocks.2"]))


def test_without_a_teacher_it_is_the_control() -> None:
    alone = Supervised(
        classifier(2), terms={"student.logits": Kd(), "student.features": Hint({"blocks.1": "blocks.1"})}
    )
    batch = Batch(image=torch.randn(4, 1, 8, 8), label=torch.arange(4) % 3)
    assert list(values(alone, batch)) == ["cross_entropy"]
    assert alone.players()["student"] is alone.student and not alone.teacher_paths()


def test_a_student_learns_from_its_teacher_alone() -> None:
    torch.manual_seed(0)
    image = torch.randn(200, 1, 4, 4)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    student = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        answers = linear(image).argmax(1)
    method = Supervised(student, linear, terms={"student.logits": Kd(temperature=4.0)})
    batch = Batch(image=image[:100], label=torch.zeros(100, dtype=torch.long))  # the labels teach nothing
    optimizer = torch.optim.Adam(student.parameters(), 0.05)
    before = (student(image[100:]).argmax(1) == answers[100:]).float().mean()
    for _ in range(100):
        optimizer.zero_grad()
        values(method, batch)["logits"].backward()
        optimizer.step()
    after = (student(image[100:]).argmax(1) == answers[100:]).float().mean()
    assert after > 0.95 > before + 0.3


def test_stored_answers_stand_for_the_teacher() -> None:
    batch = Batch(image=torch.randn(4, 1, 1, 3), label=torch.arange(4) % 3)
    assert batch.image is not None
    method = Supervised(Scaled(1.0), Scaled(2.0), terms={"student.logits": Kd()})
    assert method.teacher_paths() == [""]
    stored = batch.replace(teacher_outputs={"": 5 * batch.image.flatten(1)})
    torch.testing.assert_close(values(method, stored)["logits"], kd_of(1.0, 5.0, batch.image))
    torch.testing.assert_close(values(method, batch)["logits"], kd_of(1.0, 2.0, batch.image))


def kd_of(student: float, teacher: float, image: torch.Tensor) -> torch.Tensor:
    value: torch.Tensor = Kd()(student * image.flatten(1), teacher * image.flatten(1))
    return value.mean()


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (
            classifier(2),
            classifier(3),
            {"features": Hint({"blocks.9": "blocks.1"})},
            r"terms.student.features: .*'blocks\.9'.*did you mean",
        ),
        (classifier(2), classifier(3), {"relations": Hint({"blocks.1": "block.1"})}, r"'block\.1'.*did you mean"),
        (Fixed(), classifier(3), {"features": Hint({"": "blocks.1"})}, "expected Fixed to state its image_shape"),
    ],
)
def test_features_that_cannot_be_compared(
    student: nn.Module, teacher: nn.Module, options: dict[str, FeatureLoss], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Supervised(student, teacher, terms={f"student.{name}": loss for name, loss in options.items()})


def test_a_teacher_of_other_classes() -> None:
    batch = Batch(image=torch.randn(4, 1, 8, 8), label=torch.arange(4) % 3)
    other = SmallCnn(2, channels=1, size=8, classes=5)
    with pytest.raises(RecipeError, match="found 3 of the student and 5 of the teacher"):
        values(Supervised(classifier(2), other, terms={"student.logits": Kd()}), batch)
    network = classifier(2)
    with pytest.raises(RecipeError, match="teacher: expected another network"):
        Supervised(network, network)


def test_bad_input() -> None:
    with pytest.raises(RecipeError, match=r"label_smoothing: expected a number in \[0, 1\), found 1"):
        CrossEntropy(1)
    with pytest.raises(DataError, match="Supervised: expected data with labels"):
        next(Supervised(Fixed()).updates(Batch(image=torch.zeros(1, 1, 1, 2)), 0))


def test_two_losses_of_a_kind_draw_apart() -> None:
    """Maps of two sizes need masks of two sizes."""
    student, teacher = (SmallCnn(width, size=16, classes=3) for width in (2, 4))
    layers = [Mgd({path: path}) for path in ("blocks.0", "blocks.2")]
    method = Supervised(student, teacher, terms={"student.features": layers[0], "student.relations": layers[1]})
    draw = torch.Generator().manual_seed(0)
    drawn = {name: each.sample(4, draw) for name, each in method.draws().items()}
    assert len({values.shape for values in drawn.values()}) == 2
    batch = Batch(image=torch.randn(4, 1, 16, 16, generator=draw), label=torch.arange(4) % 3, drawn=drawn)
    (update,) = method.updates(batch, 0)
    for name in ("features", "relations"):
        loss = update.losses[name]
        assert callable(loss) and loss() > 0

"""The classification task: its metrics are those of all logits together, and its pictures show what was counted."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from limbeck.data.base import InMemory, Split
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError
from limbeck.metrics.pictures.confusion_picture import class_picture, confusion_picture
from limbeck.metrics.recognition import confusion_matrix, expected_calibration_error, kl_to_teacher
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.tasks.classification import Classification

COUNT, K = 900, 6


def data(classes: int = K) -> TensorImages:
    """Images 8x8 of noise whose first pixel gives the class away."""
    draw = torch.Generator().manual_seed(0)
    label = torch.arange(COUNT) % classes
    image = torch.randint(0, 256, (COUNT, 1, 8, 8), generator=draw, dtype=torch.uint8)
    image[:, 0, 0, 0] = (label * (250 // classes)).to(torch.uint8)
    return TensorImages(image, label, validation=0.1, test=0.5)


class Cheat(nn.Module):
    """Reads the class off the first pixel, and is wrong about class 1, which it takes for class 0."""

    def __init__(self, classes: int = K, sure: float = 3.0) -> None:
        super().__init__()
        self.classes, self.sure = classes, sure

    def forward(self, image: Tensor) -> Tensor:
        level = ((image[:, 0, 0, 0] + 1) * 127.5 / (250 // self.classes)).round().long()
        level[level == 1] = 0
        return self.sure * nn.functional.one_hot(level, self.classes).float()


def evaluate(network: nn.Module, set_: TensorImages, **options: object) -> dict[str, float]:
    return Classification().evaluate(network, set_, **{"split": "test", "seed": 0} | options)  # type: ignore[arg-type]


def whole(set_: TensorImages) -> tuple[Tensor, Tensor]:
    batch = set_.split("test").read(torch.arange(len(set_.split("test"))))
    assert batch.image is not None and batch.label is not None
    return batch.image, batch.label


@pytest.mark.parametrize(
    ("label", "level"),
    [
        ([0] * 50 + [1] * 50, 0.5 + 2 * 0.05),
        ([0] * 90 + [1] * 10, 0.9 + 2 * 0.03),
        ([0, 1, 2, 3] * 25, 0.25 + 2 * math.sqrt(0.25 * 0.75 / 100)),
    ],
)
def test_chance_is_the_most_frequent_class_and_two_standard_errors(label: list[int], level: float) -> None:
    """Of a hundred test images: the standard error of a share p is √(p (1 - p) / 100)."""

    class Labelled(TensorImages):
        def split(self, name: Split) -> InMemory:
            return InMemory(torch.zeros(100, 1, 2, 2, dtype=torch.uint8), torch.tensor(label))

    images = Labelled(torch.zeros(9, 1, 2, 2, dtype=torch.uint8), torch.arange(9) % 3, validation=0.2, test=0.2)
    assert Classification().chance(images) == {"top1": pytest.approx(level)}


def test_metrics_by_hand() -> None:
    """All but class 1 are right, with p = e³ / (e³ + 5); the split is read in two parts."""
    set_ = data()
    _, label = whole(set_)
    wrong = float((label == 1).double().mean())
    p = math.exp(3) / (math.exp(3) + 5)
    q = (1 - p) / 5
    found = evaluate(Cheat(), set_)
    right = (1 - p) ** 2 + 5 * q**2
    other = p**2 + (1 - q) ** 2 + 4 * q**2
    assert found == pytest.approx(
        {
            "top1": 1 - wrong,
            "top5": 1.0,  # of the five equal classes behind the wrong one, the lowest four come in: class 1 among them
            "nll": -(1 - wrong) * math.log(p) - wrong * math.log(q),
            "ece": abs(1 - wrong - p),
            "brier": (1 - wrong) * right + wrong * other,
        }
    )


def test_top5_only_where_there_are_more_than_five_classes() -> None:
    assert "top5" not in evaluate(Cheat(5), data(5))
    assert "top5" in evaluate(Cheat(6), data(6))
    assert set(evaluate(Cheat(), data(), teacher=Cheat())) == set(Classification.directions) - {"robust", "masking"}


def test_fidelity_to_a_teacher() -> None:
    set_ = data()
    image, _ = whole(set_)
    torch.manual_seed(0)
    teacher = SmallCnn(width=2, channels=1, size=8, classes=K).eval()
    with torch.no_grad():
        logits, theirs = Cheat()(image), teacher(image)
    found = evaluate(Cheat(), set_, teacher=teacher)
    assert found["agreement"] == pytest.approx((logits.argmax(1) == theirs.argmax(1)).double().mean().item())
    assert found["kl_to_teacher"] == pytest.approx(kl_to_teacher(logits, theirs), rel=1e-5)
    alike = evaluate(teacher, set_, teacher=teacher)
    assert (alike["agreement"], alike["kl_to_teacher"]) == (1, 0)


def test_calibration_is_over_the_whole_split_and_not_a_mean_over_parts() -> None:
    set_ = data()
    image, label = whole(set_)
    torch.manual_seed(0)
    network = SmallCnn(width=2, channels=1, size=8, classes=K).eval()
    with torch.no_grad():
        logits = network(image)
    mean = (
        expected_calibration_error(logits[:250], label[:250]) + expected_calibration_error(logits[250:], label[250:])
    ) / 2
    assert evaluate(network, set_)["ece"] == pytest.approx(expected_calibration_error(logits, label), abs=1e-6)
    assert evaluate(network, set_)["ece"] != pytest.approx(mean, abs=1e-4)


def test_data_without_labels_and_a_teacher_of_other_classes_are_refused() -> None:
    bare = TensorImages(torch.zeros(20, 1, 8, 8))
    with pytest.raises(DataError, match="tensors: expected data with labels, found none"):
        evaluate(Cheat(), bare)
    with pytest.raises(DataError, match=r"\(450, 6\) and the teacher's \(450, 7\)"):
        evaluate(Cheat(), data(), teacher=SmallCnn(width=2, channels=1, size=8, classes=7).eval())
    with pytest.raises(DataError, match=r"expected classes 0..4, as many as logits, found 0..5"):
        evaluate(SmallCnn(width=2, channels=1, size=8, classes=5).eval(), data())


def test_previews() -> None:
    set_ = data()
    first, accuracy, confusion = Classification().preview(Cheat(), set_, 0)
    assert [p.title for p in (first, accuracy, confusion)] == [
        "images, sorted by predicted class",
        "accuracy by class",
        "confusion",
    ]
    image, label = whole(set_)
    counted = confusion_matrix(Cheat()(image), label)
    assert torch.equal(confusion.images, confusion_picture(counted, set_.classes))
    assert torch.equal(accuracy.images, class_picture(torch.tensor([1.0, 0, 1, 1, 1, 1]), set_.classes))
    assert (accuracy.columns, confusion.columns) == (1, 1)


def test_a_network_of_more_classes_than_the_data_names() -> None:
    pictures = Classification().preview(Cheat(K), data(4), 0)
    assert pictures[2].images.shape == (1, 3, 1040, 1040)


def blue(picture: Tensor, row: int, column: int, count: int) -> float:
    """Return how dark the middle of a cell's lower edge is, where no number is written, from 0 to 1."""
    height, width = picture.shape[2:]
    # The matrix lies in (0.18, 0.06) to (0.92, 0.80) of the figure, from its lower left corner.
    x = round(width * (0.18 + 0.74 * (column + 0.5) / count))
    y = round(height * (0.20 + 0.74 * (row + 0.85) / count))
    return float((1 - picture[0, :, y, x].mean()) / 2)


@pytest.mark.parametrize("count", [3, 10, 36])
def test_each_cell_is_the_darker_the_larger_its_share_of_the_row(count: int) -> None:
    confusion = torch.eye(count).long() * 90
    confusion[0, 2], confusion[2, 0], confusion[1, 1] = 10, 900, 7  # rows are normalised: class 2 has 10 times as many
    picture = confusion_picture(confusion, [f"class {k}" for k in range(count)])
    cells = [blue(picture, *cell, count) for cell in ((0, 1), (0, 2), (0, 0), (2, 0), (1, 1))]
    nothing, tenth, nine_tenths, ten_elevenths, all_of_it = cells
    assert nothing < 0.1 < tenth - nothing and tenth + 0.2 < nine_tenths <= ten_elevenths <= all_of_it


@pytest.mark.parametrize("count", [1, 2, 20, 21, 100, 200])
def test_pictures_of_any_number_of_classes(count: int) -> None:
    names = [f"a rather long name of class {k} $x_" for k in range(count)]
    confusion = torch.eye(count).long()
    confusion[0] = 0  # no samples of this class
    for picture, other in (
        (confusion_picture(confusion, names), confusion_picture(torch.ones(count, count).long(), names)),
        (class_picture(torch.full((count,), math.nan), names), class_picture(torch.ones(count), names)),
    ):
        assert picture.shape == other.shape and picture.shape[:2] == (1, 3)  # arms stand side by side
        assert picture.min() >= -1 and picture.max() <= 1 and not torch.equal(picture, other)
    assert min(confusion_picture(confusion, names).shape[2:]) * 0.74 / count >= 2  # pixels a cell


def test_the_bar_of_a_class_is_as_long_as_its_accuracy() -> None:
    picture = class_picture(torch.tensor([0.25, 1.0]), ["a", "b"])
    rows = picture[0, 0].chunk(2)  # the red channel: bars have none of it
    lengths = [int((row[row.shape[0] // 2] < -0.9).sum()) for row in rows]
    assert lengths[0] == pytest.approx(0.25 * lengths[1], abs=2)
    assert lengths[1] == pytest.approx(0.56 * picture.shape[3], abs=2)


def test_a_teacher_is_asked_once_until_it_changes() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.asked = nn.Parameter(torch.ones(K)), 0

        def forward(self, image: Tensor) -> Tensor:
            self.asked += len(image)
            return self.weight * image[:, 0, 0, :K]

    set_, teacher = data(), Counts()
    first = evaluate(Cheat(), set_, teacher=teacher)
    assert evaluate(Cheat(), set_, teacher=teacher) == first and teacher.asked == len(set_.split("test"))
    with torch.no_grad():
        teacher.weight.mul_(-1)
    assert evaluate(Cheat(), set_, teacher=teacher)["kl_to_teacher"] != first["kl_to_teacher"]
    assert evaluate(Cheat(), data(), teacher=Counts())["agreement"] == first["agreement"]

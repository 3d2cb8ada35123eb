"""teacher_cache.py: what is stored is what the teacher would say, so a training with it is the training without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from limbeck.cli import main
from limbeck.errors import CheckpointError
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.recipe.reader import read_recipe
from limbeck.run.preparing import prepare
from limbeck.training.teacher_cache import TeacherCache, kept

RECIPE = """
name: cached
data: {class_path: Glyphs, init_args: {size: 16, train: 96, validation: 32, test: 32, channels: 1, classes: ABC}}
task: Classification
method: Supervised
teacher:
  network: {class_path: SmallCnn, init_args: {width: 4, classes: 3, size: 16}}
  training: {steps: 5, batch: 32}
student:
  network: {class_path: SmallCnn, init_args: {width: 2, classes: 3, size: 16}}
  method:
    class_path: Supervised
    init_args:
      terms:
        student.logits: {class_path: Kd, init_args: {temperature: 4.0}}
        student.features: {class_path: Hint, init_args: {paths: {blocks.1: blocks.1}}}
  training: {steps: 10, batch: 32, optimizers: {student: {class_path: SGD, init_args: {lr: 0.05}}}}
control: false
"""
CACHED = "--student.training.teacher_cache"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "cached.yaml").write_text(RECIPE)
    return tmp_path / "cached.yaml"


def student(recipe: Path, *flags: str) -> dict[str, Tensor]:
    out = recipe.parent / "out"
    changes = [(flag.removeprefix("--"), value) for flag, value in zip(flags[::2], flags[1::2], strict=True)]
    prepared = prepare(read_recipe(recipe, changes), out)
    for group in prepared.arms().values():
        group[0].fit()
    return prepared.students["student"][0].state["student"]


def runs_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the batch size with every run of a network of the teacher's width."""
    sizes: list[int] = []
    forward = SmallCnn.forward

    def counted(self: SmallCnn, image: Tensor) -> Tensor:
        if self.output.in_features == 16 and not self.training:
            sizes.append(len(image))
        return forward(self, image)

    monkeypatch.setattr(SmallCnn, "forward", counted)
    return sizes


ROTATED = ["--student.augmentation", "{class_path: Rotation, init_args: {degrees: 20}}"]
VIEWS = ["--student.training.views", "2"]


@pytest.mark.parametrize("augmentation", [[], VIEWS, [*ROTATED, *VIEWS]], ids=["none", "views of nothing", "augmented"])
def test_a_training_with_it_is_the_training_without(recipe: Path, augmentation: list[str]) -> None:
    without = student(recipe, *augmentation)
    within = student(recipe, CACHED, "true", *augmentation)
    assert without.keys() == within.keys()
    for name, value in without.items():
        torch.testing.assert_close(within[name], value, atol=1e-5, rtol=1e-5)
    file = next((recipe.parent / "out/arms").glob("teacher-cache-*"))
    assert {len(tensor) for tensor in load_file(file).values()} == {2 * 96 if ROTATED[0] in augmentation else 96}


def test_the_teacher_is_not_asked_again(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student(recipe)
    sizes = runs_of(monkeypatch)
    student(recipe, CACHED, "true")
    filling = sum(sizes)
    assert filling >= 96
    sizes.clear()
    student(recipe, CACHED, "true", "--student.training.steps", "20")
    assert sum(sizes) == filling - 96  # the rest is what makes the method and says what it asks for


def test_seeds_share_what_the_teacher_says_to_augmented_images(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher is trained once, and its cache is filled once for both seeds."""
    flags = [CACHED, "true", *ROTATED, *VIEWS]
    changes = [(flag.removeprefix("--"), value) for flag, value in zip(flags[::2], flags[1::2], strict=True)]
    prepared = prepare(read_recipe(recipe, [*changes, ("seeds", "2")]), recipe.parent / "out")
    (teacher,) = {id(arm.teacher): arm.teacher for arm in prepared.students["student"]}.values()
    assert teacher is not None
    teacher.fit()
    sizes = runs_of(monkeypatch)
    one, other = (arm.fit().state["student"] for arm in prepared.students["student"])
    assert sum(size for size in sizes if size == 96) == 2 * 96  # two views of all images
    assert len(list((recipe.parent / "out/arms").glob("teacher-cache-*.safetensors"))) == 1
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_rows_by_image_and_view() -> None:
    outputs = {"": torch.arange(6.0)[:, None], "blocks.0": torch.arange(6.0)[:, None, None] * 10}
    index, view = torch.tensor([2, 0]), torch.tensor([1, 0])
    found = TeacherCache(outputs, 3).of(index, view)
    assert found[""].tolist() == [[5.0], [0.0]] and found["blocks.0"].tolist() == [[[50.0]], [[0.0]]]
    alone = TeacherCache(outputs, 6).of(torch.tensor([5, 1]), view)  # one view, which is that of all
    assert alone[""].tolist() == [[5.0], [1.0]]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (ROTATED, "training.views: expected a number of augmented views of each image, as the teacher_cache"),
        (["--student.training.views", "0"], "training.views: expected at least 1, or null, found 0"),
    ],
)
def test_what_cannot_be_stored_is_told_before_anything_is_trained(
    recipe: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    out = recipe.parent / "out"
    assert main(["run", str(recipe), "--out", str(out), CACHED, "true", *flags]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not list(out.rglob("*.safetensors"))


def test_a_method_that_asks_for_nothing_is_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gan = Path(__file__).parents[2] / "recipes/quickstart.yaml"
    found = main(["train", str(gan), "--arm", "student", "--out", str(recipe.parent / "gan"), CACHED, "true",
                  "--teacher.training.steps", "1", "--features.training.steps", "1"])  # fmt: skip
    assert found == 2
    assert "training.teacher_cache: expected a method whose teacher sees nothing but" in capsys.readouterr().err
    assert not list((recipe.parent / "gan").rglob("*.safetensors"))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"cache\.safetensors: .*; delete it, and the teacher is asked again"):
        kept(tmp_path / "cache.safetensors", 3, lambda path: None)


@pytest.mark.parametrize(
    ("views", "says"), [("1", "teacher_cache pays"), ("4", "teacher_cache does not pay by itself")]
)
def test_the_check_says_whether_storing_pays(
    recipe: Path, capsys: pytest.CaptureFixture[str], views: str, says: str
) -> None:
    """Ten steps of 32 images, once: 320 questions, against 96 images in each view."""
    assert main(["check", str(recipe), CACHED, "true", *ROTATED, "--student.training.views", views]) == 0
    heard = " ".join(capsys.readouterr().err.split())
    assert says in heard and f"asked about {96 * int(views)} images instead of 320" in heard

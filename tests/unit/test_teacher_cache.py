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
from limbeck.types import Batch

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


@pytest.mark.parametrize("augmentation", [[], ROTATED], ids=["as they are", "augmented"])
def test_a_training_with_it_is_the_training_without(recipe: Path, augmentation: list[str]) -> None:
    without = student(recipe, *augmentation)
    within = student(recipe, CACHED, "2", *augmentation)
    assert without.keys() == within.keys()
    for name, value in without.items():
        torch.testing.assert_close(within[name], value, atol=1e-5, rtol=1e-5)
    file = next((recipe.parent / "out/arms").glob("teacher-cache-*"))
    rows = {len(tensor) for tensor in load_file(file).values()}
    assert rows == ({6 * 32} if augmentation else {96})  # two epochs of three steps each; every image once


def test_the_teacher_is_not_asked_again(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student(recipe)
    sizes = runs_of(monkeypatch)
    student(recipe, CACHED, "1")
    filling = sum(sizes)
    assert filling >= 96
    sizes.clear()
    student(recipe, CACHED, "1", "--student.training.steps", "20")
    assert sum(sizes) == filling - 96  # the rest is what makes the method and says what it asks for


def test_after_the_stored_epochs_the_teacher_runs(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student(recipe, *ROTATED)
    sizes = runs_of(monkeypatch)
    student(recipe, CACHED, "1", *ROTATED)
    once = [size for size in sizes if size == 32]
    assert len(once) == 1 + 3 + 7  # a probe, three steps of the first epoch to fill it, seven of the others to train


def test_rows_by_index_and_by_position() -> None:
    outputs = {"": torch.arange(6.0)[:, None], "blocks.0": torch.arange(6.0)[:, None, None] * 10}
    batch = Batch(image=torch.zeros(2, 1, 4, 4), index=torch.tensor([5, 0]))
    by_index = TeacherCache(outputs, by_index=True).of(batch, torch.tensor([100, 101]))
    assert by_index[""].tolist() == [[5.0], [0.0]] and by_index["blocks.0"].tolist() == [[[50.0]], [[0.0]]]
    by_position = TeacherCache(outputs, by_index=False)
    assert by_position.of(batch, torch.tensor([4, 5]))[""].tolist() == [[4.0], [5.0]]
    assert by_position.of(batch, torch.tensor([5, 6])) == {}


def test_a_method_that_asks_for_nothing_is_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gan = Path(__file__).parents[2] / "recipes/quickstart.yaml"
    found = main(["train", str(gan), "--arm", "student", "--out", str(recipe.parent / "gan"), CACHED, "1",
                  "--teacher.training.steps", "1", "--features.training.steps", "1"])  # fmt: skip
    assert found == 2
    assert "training.teacher_cache: expected a method whose teacher sees nothing but" in capsys.readouterr().err


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"cache\.safetensors"):
        kept(tmp_path / "cache.safetensors", lambda: TeacherCache({}, by_index=True))

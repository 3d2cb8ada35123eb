"""Baselines that are fitted stand in the same table as the arms, measured on the same inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limbeck.baselines.base import Fitted
from limbeck.data.glyphs import Glyphs
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError
from limbeck.recipe.reader import read_recipe
from limbeck.run.preparing import fitted
from limbeck.run.story import run
from limbeck.tasks.classification import Classification

pytestmark = pytest.mark.usefixtures("_blank_drawings")

RECIPE = """
name: tiny
data: {class_path: Glyphs, init_args: {size: 16, train: 200, validation: 32, test: 100, channels: 1, classes: ABC}}
task: Classification
method: Supervised
student:
  network: {class_path: SmallCnn, init_args: {width: 2, classes: 3, size: 16}}
  training: {steps: 2, batch: 16}
baselines:
  hog: {class_path: HogClassifier, init_args: {size: 16, classes: 3, train_images: 150}}
  graph: {class_path: LabelPropagation, init_args: {size: 16, classes: 3, labelled: 30}}
  untrained: {class_path: SmallCnn, init_args: {width: 2, classes: 3, size: 16}}
"""


class Remembers(Fitted):
    """Remembers what it was fitted to."""

    def __init__(self, train_images: int) -> None:
        super().__init__()
        self.train_images = train_images

    def fit(self, image: Tensor, label: Tensor) -> None:
        self.given = image, label

    def forward(self, image: Tensor) -> Tensor:
        return image


def test_fitted_baselines_are_measured_beside_the_arms(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason='needs the extra "classic"')
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    recipe = read_recipe(tmp_path / "tiny.yaml")
    result = run(recipe, tmp_path / "out", accelerator="cpu")
    found = {name: arm.quality["top1"].mean or 0.0 for name, arm in result.arms.items() if arm.role == "baseline"}
    assert set(found) == {"hog", "graph", "untrained"}
    assert found["hog"] > 0.85 and found["hog"] > found["untrained"]  # chance is a third
    graph = fitted(recipe.baselines["graph"].build(), recipe.data.build()).eval()
    alone = Classification().evaluate(graph, recipe.data.build(), split="test", seed=0)
    assert {name: quality.mean for name, quality in result.arms["graph"].quality.items()} == pytest.approx(alone)
    assert set(result.arms["hog"].quality) == set(result.arms["student"].quality)
    # 3x3 blocks of 2x2 cells with 9 orientations, three classes.
    assert result.arms["hog"].cost["parameters"] == (3 * 3 * 4 * 9 + 1) * 3
    assert result.arms["graph"].cost["parameters"] == 0
    assert (result.arms["graph"].cost["file_bytes"] or 0) > 200 * 16 * 16 * 4  # it carries its images
    assert "hog" in (tmp_path / "out/report.html").read_text()


def test_a_baseline_is_fitted_to_at_most_as_many_training_images_as_it_says() -> None:
    data = Glyphs(size=16, train=50, validation=8, test=8, channels=1, classes="AB")
    some, again, everything = Remembers(20), Remembers(20), Remembers(1000)
    for network in (some, again, everything):
        assert fitted(network, data) is network
    image, label = some.given
    assert len(image) == len(label) == 20 and len(everything.given[0]) == 50
    assert torch.equal(image, again.given[0]) and torch.equal(image, everything.given[0][:20])
    assert not torch.equal(image, data.split("train").read(torch.arange(20)).image)  # sets are often sorted by class


def test_other_baselines_are_left_alone_and_labels_are_needed() -> None:
    network = nn.Identity()
    bare = TensorImages(torch.zeros(20, 1, 8, 8))
    assert fitted(network, bare) is network
    with pytest.raises(DataError, match="tensors: expected data with labels, found none"):
        fitted(Remembers(5), bare)

"""What a method needs of a batch is looked for before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import ToyRestorer

from limbeck.cli import main
from limbeck.errors import RecipeError
from limbeck.losses.crd import Crd
from limbeck.methods.restore import Restore
from limbeck.methods.supervised import Supervised
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.recipe.reader import read_recipe
from limbeck.recipe.rehearsal import rehearse

CLASSIFIER = "{class_path: SmallCnn, init_args: {width: 2, channels: 3, classes: 2}}"
RECIPE = f"""
name: photographs
data: {{class_path: ImageFolder, init_args: {{path: photos, size: 32}}}}
task: {{class_path: Classification}}
method: {{class_path: Supervised}}
teacher: {{network: {CLASSIFIER}, training: {{steps: 2, batch: 4}}}}
student: {{network: {CLASSIFIER}, training: {{steps: 2, batch: 4}}}}
control: true
"""
GENERATOR = "{class_path: DcganGenerator, init_args: {width: 2, latent: 8, size: 32, channels: 3}}"
GAN = f"""
name: letters
data: {{class_path: Glyphs, init_args: {{size: 32, train: 72, validation: 36, test: 36}}}}
task: {{class_path: Generation, init_args: {{latent: [8]}}}}
features:
  name: letters
  network: {{class_path: SmallCnn, init_args: {{width: 2, channels: 3, classes: 36}}}}
  method: {{class_path: Supervised}}
  training: {{steps: 2, batch: 4}}
method: {{class_path: Gan}}
networks: {{discriminator: {{class_path: DcganDiscriminator, init_args: {{width: 2, size: 32, channels: 3}}}}}}
student: {{network: {GENERATOR}, training: {{steps: 2, batch: 4}}}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty photographs in subfolders of two classes; the working directory is the folder around them."""
    monkeypatch.chdir(tmp_path)
    for i in range(30):
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    return tmp_path


@pytest.mark.parametrize("verb", ["check", "run"])
def test_labels_that_are_not_there_are_missed_before_any_training(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "recipe.yaml").write_text(RECIPE)
    assert main([verb, "recipe.yaml", "--data.init_args.by_class", "false"]) == 2
    found = capsys.readouterr().err
    needs = "Supervised: expected data with labels, found images in photos; choose a set with labels, or"
    for arm in ("teacher", "student", "control"):
        assert f"  {arm}: {needs}" in found
    assert "step" not in found and not list(folder.rglob("*.safetensors"))


def test_labels_that_are_there_are_enough(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(RECIPE)
    rehearse(read_recipe("recipe.yaml", []))


def test_a_feature_network_has_the_labels_that_an_unconditional_generator_does_not_get(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(GAN)
    rehearse(read_recipe("recipe.yaml", []))


def test_a_conditional_generator_demands_the_label(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(GAN)
    conditional = [("student.network.init_args.classes", "36")]
    with pytest.raises(RecipeError, match="student: Gan: expected data with labels, found images"):
        rehearse(read_recipe("recipe.yaml", conditional))
    rehearse(read_recipe("recipe.yaml", [*conditional, ("task.init_args.conditional", "true")]))


def classifier() -> SmallCnn:
    return SmallCnn(2, channels=1, size=8, classes=3)


def test_what_a_method_demands_is_what_its_networks_and_terms_cannot_do_without() -> None:
    alone, taught = (Restore(ToyRestorer(), teacher=teacher) for teacher in (None, ToyRestorer()))
    judged = Restore(ToyRestorer(), PatchDiscriminator(2, 1, 8, halvings=1), ToyRestorer())
    assert "target" in alone.demands() and "target" in judged.demands()
    assert "target" not in taught.demands()  # a teacher can be followed on images that nobody has whole
    memory = Supervised(
        classifier(), classifier(), terms={"student.crd": Crd({"blocks.3": "blocks.3"}, count=24, negatives=3)}
    )
    assert memory.demands() == ["image", "label", "index"]

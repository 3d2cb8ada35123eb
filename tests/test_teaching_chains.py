"""Whole runs whose arms hang together in other ways than one teacher and its students: assistants, fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limbeck.cli import main
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.given.weights import load_weights, save_weights
from limbeck.recipe.reader import read_recipe
from limbeck.run.evaluation import evaluate
from limbeck.run.preparing import prepare
from limbeck.run.story import run

pytestmark = pytest.mark.usefixtures("_blank_drawings")

DATA = """
data: {class_path: Glyphs, init_args: {size: 16, train: 256, validation: 32, test: 64, channels: 1, classes: AB}}
"""
TAIL = """
task: Classification
method: {class_path: Supervised, init_args: {terms: {student.logits: Kd}}}
teacher:
  network: {class_path: SmallCnn, init_args: {width: 8, size: 16, classes: 2}}
  training: {steps: 20, batch: 32}
student:
  network: {class_path: SmallCnn, init_args: {width: 2, size: 16, classes: 2}}
  training: {steps: 20, batch: 32}
students:
  direct: {}
  middle: {network: {init_args: {width: 4}}}
  small: {taught_by: middle}
control: true
seeds: 2
"""


def test_an_assistant_teaches_the_student_of_its_own_seed(tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text(f"name: chain\n{DATA}{TAIL}")
    recipe = read_recipe(tmp_path / "chain.yaml")
    prepared = prepare(recipe, tmp_path / "out")
    assert [arm.teacher for arm in prepared.students["small"]] == prepared.students["middle"]
    assert all(arm.teacher is prepared.teacher for arm in prepared.students["direct"])
    assert prepared.control_of["small"] == prepared.control_of["direct"]  # both are the same network on its own
    assert prepared.students["small"][0].hash != prepared.students["direct"][0].hash
    result = run(recipe, tmp_path / "out")
    assert {"direct", "middle", "small"} <= set(result.arms)
    small, middle = prepared.students["small"][1], prepared.students["middle"][1]
    held = small.method().teacher.network  # type: ignore[union-attr]
    for name, value in middle.state["student"].items():
        assert torch.equal(held.state_dict()[name], value), name


def test_one_arm_is_trained_with_all_that_it_needs_and_measured_as_in_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chain.yaml").write_text(f"name: chain\n{DATA}{TAIL}")
    options = [str(tmp_path / "chain.yaml"), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    assert main(["train", *options, "--arm", "small"]) == 0
    trained = sorted(path.parent.name.split("-seed")[0] for path in (tmp_path / "out/arms").glob("*/final.safetensors"))
    assert trained == ["middle", "small", "teacher"]
    prepared = prepare(read_recipe(tmp_path / "chain.yaml"), tmp_path / "out")
    expected = evaluate(prepared.students["small"][0], None, prepared.teacher)["agreement"]
    capsys.readouterr()
    assert main(["evaluate", *options, "--arm", "small"]) == 0
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(said["agreement"]) == pytest.approx(expected, abs=5e-4)


FINE_TUNED = """
task: Classification
method: {class_path: Supervised, init_args: {terms: {student.logits: Kd}}}
teacher:
  network: {class_path: SmallCnn, init_args: {width: 8, size: 16, classes: 3}}
  load: LETTERS
  new_layers: [output]
  training:
    steps: 150
    batch: 32
    optimizers: {student: {class_path: Adam, init_args: {lr: 0.01}}}
    freeze: blocks.1
    rates: {blocks.2: 0.1, blocks.3: 0.1}
student:
  network: {class_path: SmallCnn, init_args: {width: 2, size: 16, classes: 3}}
  training: {steps: 5, batch: 32}
"""


def test_a_fine_tuned_teacher_learns_new_classes_on_layers_that_stay(tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text(f"name: chain\n{DATA}{TAIL}")
    letters = prepare(read_recipe(tmp_path / "chain.yaml"), tmp_path / "letters").teacher
    assert letters is not None
    run(read_recipe(tmp_path / "chain.yaml", [("seeds", "1"), ("students", "null")]), tmp_path / "letters")
    file = tmp_path / "letters.safetensors"
    save_weights(letters.network(), file)
    other = DATA.replace("AB", "XYZ")
    (tmp_path / "tuned.yaml").write_text(f"name: tuned\n{other}{FINE_TUNED.replace('LETTERS', str(file))}")
    recipe = read_recipe(tmp_path / "tuned.yaml")
    prepared = prepare(recipe, tmp_path / "tuned")
    result = run(recipe, tmp_path / "tuned")
    assert prepared.teacher is not None
    tuned, given = prepared.teacher.network().state_dict(), SmallCnn(width=8, size=16, classes=2)
    load_weights(given, file)
    for name, value in given.state_dict().items():
        assert torch.equal(tuned[name], value) == name.startswith(("blocks.0", "blocks.1")), name
    assert result.arms["teacher"].quality["top1"].mean > 0.55  # a third by chance


DECODER = """
name: decoder
data: {class_path: Glyphs, init_args: {size: 16, train: 256, validation: 32, test: 64, channels: 1, classes: AB}}
task: {class_path: Reconstruction, init_args: {sampled: false, samples: 64}}
method:
  class_path: Vae
  init_args: {terms: {student.reconstruction: {class_path: ReconstructionLoss, init_args: {likelihood: l1}}}}
seeds: 3
teacher:
  network: {class_path: SpatialVae, init_args: {width: 4, latent: 3, channels: 1, size: 16}}
  training: {steps: 60, batch: 16, optimizers: {student: {class_path: Adam, init_args: {lr: 0.01}}}}
  weights: {student.kl: 0.001}
student:
  network: {class_path: SpatialVae, init_args: {width: 4, latent: 3, channels: 1, size: 16, decoder_width: 2}}
  start_from_teacher: [student.encoder]
  training: {steps: 40, batch: 16, freeze: encoder, optimizers: {student: {class_path: Adam, init_args: {lr: 0.01}}}}
  weights: {student.reconstruction: 0, student.kl: 0, student.posterior: 0, student.decoder: 0, student.decoder_swap: 1}
students:
  images-alone: {control: false}
  taught:
    method: {class_path: Vae, init_args: {prior_share: 0.0}}
    weights: {student.decoder: 1, student.decoder_swap: 0}
    control: images-alone
"""


def test_a_decoder_for_a_fixed_latent_measured_against_another_student(tmp_path: Path) -> None:
    (tmp_path / "decoder.yaml").write_text(DECODER)
    recipe = read_recipe(tmp_path / "decoder.yaml")
    result = run(recipe, tmp_path / "out")
    assert list(result.arms) == ["teacher", "images-alone", "taught"]
    assert {(v.student, v.control) for v in result.verdicts} == {("taught", "images-alone")}
    prepared = prepare(recipe, tmp_path / "out")
    assert prepared.teacher is not None
    given = prepared.teacher.state["student"]
    for arms in prepared.students.values():
        for arm in arms:
            for name, value in arm.state["student"].items():
                if name.startswith("encoder"):
                    assert torch.equal(value, given[name]), name  # the teacher's, to the bit
    quality = {name: arm.quality["psnr_to_teacher"].mean for name, arm in result.arms.items() if name != "teacher"}
    assert quality["taught"] > quality["images-alone"]
    assert "images-alone" in (tmp_path / "out" / "report.html").read_text()

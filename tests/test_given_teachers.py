"""Teachers that bring their weights, from an ONNX file or from a library, in whole runs."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from torch import nn

from limbeck.cli import main
from limbeck.errors import RecipeError
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.given.weights import save_weights
from limbeck.networks.stylizers.fast_style import FastStyle
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.recipe.reader import Recipe, read_recipe
from limbeck.recipe.rehearsal import rehearse
from limbeck.run.preparing import built, prepare
from limbeck.run.setting import Setting

pytestmark = pytest.mark.usefixtures("_blank_drawings")

RECIPE = """
name: onnx
seeds: 3
data: {class_path: Glyphs, init_args: {size: 16, train: 128, validation: 32, test: 64, channels: 3, classes: ABCD}}
task: Classification
method: {class_path: Supervised, init_args: {terms: {student.logits: Kd}}}
teacher:
  network: {class_path: OnnxClassifier, init_args: {weights: teacher.onnx}}
student:
  network: {class_path: SmallCnn, init_args: {width: 4, channels: 3, size: 16, classes: 4}}
  training: {steps: 60, batch: 32, optimizers: {student: {class_path: Adam, init_args: {lr: 0.01}}}}
  weights: {student.cross_entropy: 0.0}
"""
COMMAND = ["onnx.yaml", "--out", "out", "--accelerator", "cpu"]


def export(shift: float = 3.0) -> None:
    """Write teacher.onnx: an untrained network that likes the last class, so what is learnt from it is its own."""
    torch.manual_seed(0)
    network = SmallCnn(width=4, channels=3, size=16, classes=4).eval()
    with torch.no_grad():
        network.output.weight.mul_(20)
        network.output.bias[3] += shift
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(4, 3, 16, 16),), "teacher.onnx", verbose=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("onnx.yaml").write_text(RECIPE)
    export()
    return tmp_path


def hashes(recipe: Recipe) -> dict[str, str]:
    """Return the hashes of the first seed's arms."""
    arms = built(recipe, Setting(recipe.data.build(), recipe.task.build(), Path("out/arms"), "cpu"), None).arms()
    return {name: group[0].hash for name, group in arms.items()}


def test_a_student_learns_what_an_onnx_file_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *COMMAND]) == 0
    result = json.loads(Path("out/result.json").read_text())
    schema = json.loads((Path(__file__).parents[1] / "src/limbeck/report/schema.json").read_text())
    Draft202012Validator(schema).validate(result)
    student, control = (result["arms"][a]["quality"]["agreement"]["per_seed"] for a in ("student", "control"))
    assert min(student) > 0.9 and max(control) < 0.7
    cost = result["arms"]["teacher"]["cost"]
    assert cost["parameters"] is cost["macs"] is cost["peak_memory_bytes"] is None  # unknown, not 0
    assert cost["latency_ms_batch1"] > 0 and abs(cost["file_bytes"] - file_bytes()) < 1000
    report = Path("out/report.html").read_text()
    assert "smaller" not in report.split("</h1>")[1].split("</p>")[0]  # than what, nobody knows
    assert "teacher: its weights are given" in capsys.readouterr().err


def file_bytes() -> int:
    return sum(path.stat().st_size for path in Path().glob("teacher.onnx*"))


def test_an_arm_is_known_by_what_is_in_the_file(folder: Path) -> None:
    recipe = read_recipe("onnx.yaml")
    before = hashes(recipe)
    export()
    assert hashes(recipe) == before
    export(shift=-3.0)
    after = hashes(recipe)
    assert {name for name in before if after[name] != before[name]} == {"teacher", "student"}


def test_checks_tell_what_cannot_be_done_with_an_onnx_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *COMMAND[:1]]) == 0
    assert "–" in next(line for line in capsys.readouterr().out.splitlines() if "teacher" in line)
    follow = ["--method.init_args.terms.student.hint", "{class_path: Hint, init_args: {paths: {blocks.0: blocks.0}}}"]
    for flags, message in (
        (["--teacher.training", "{steps: 1}"], "OnnxClassifier has no parameters to train"),
        (follow, "no such module in OnnxGraph; it has none: only its output can be seen"),
        (["--data.init_args.size", "32"], "teacher.network: expected images (3, 32, 32) (C, H, W) as in glyphs"),
    ):
        assert main(["check", "onnx.yaml", *flags]) == 2
        assert message in capsys.readouterr().err


def test_the_weights_of_a_library_count_where_a_network_goes_on_from_them(folder: Path) -> None:
    """The teacher is a folder of transformers, the student starts from another, with a new head."""
    transformers = pytest.importorskip("transformers")
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}

    def save(seed: int) -> None:
        torch.manual_seed(seed)
        config = transformers.ResNetConfig(**sizes, num_labels=4)
        transformers.ResNetForImageClassification(config).save_pretrained("theirs")

    save(0)
    given = {"class_path": "Import", "init_args": {"target": "transformers:theirs", "role": "classifier"}}
    new_head = json.loads(json.dumps(given))
    new_head["init_args"]["arguments"] = {"num_labels": 4}
    recipe = read_recipe("onnx.yaml", [("teacher", "null"), ("student.network", json.dumps(new_head))])
    learns = read_recipe("onnx.yaml", [("teacher.network", json.dumps(given))])
    assert learns.teacher is not None and learns.teacher.training is None
    before = hashes(recipe), hashes(learns)
    assert (hashes(recipe), hashes(learns)) == before
    save(1)
    after = hashes(recipe), hashes(learns)
    assert after[0]["student"] != before[0]["student"]
    assert {name for name in before[1] if after[1][name] != before[1][name]} == {"teacher", "student"}
    network = prepare(replace(learns, seeds=(0,)), Path("out")).arms()["teacher"][0].network()
    assert isinstance(network, nn.Module) and network(torch.zeros(2, 3, 16, 16)).shape == (2, 4)


def test_an_ensemble_brings_the_weights_of_its_members(folder: Path) -> None:
    given = {"class_path": "OnnxClassifier", "init_args": {"weights": "teacher.onnx"}}
    fresh = {"class_path": "SmallCnn", "init_args": {"width": 4, "channels": 3, "size": 16, "classes": 4}}

    def recipe(*members: dict[str, object]) -> Recipe:
        network = {"class_path": "Ensemble", "init_args": {"members": list(members)}}
        return read_recipe("onnx.yaml", [("teacher.network", json.dumps(network))])

    two = recipe(given, given)
    rehearse(two)
    ensemble = prepare(two, Path("out")).arms()["teacher"][0].network()
    alone = prepare(recipe(given), Path("out")).arms()["teacher"][0].network()
    image = torch.rand(4, 3, 16, 16) * 2 - 1
    assert torch.allclose(ensemble(image), alone(image).log_softmax(1), atol=1e-6)  # of twice the same opinion
    with pytest.raises(RecipeError, match=r"teacher\.training: missing"):
        recipe(given, fresh)
    before = hashes(two)
    export(shift=-3.0)
    assert {name for name, value in hashes(two).items() if value != before[name]} == {"teacher", "student"}


PAINTED = """
name: painted
data: {class_path: EmbeddedPhotos, init_args: {size: 32, stride: 96}}
task: {class_path: Stylization, init_args: {styles: [gravel.png, brick.png], style_size: 32, feature_network: Vgg16}}
method: {class_path: Stylize, init_args: {styles: [gravel.png, brick.png], style_size: 32}}
networks: {feature_network: Vgg16}
teacher:
  network:
    class_path: StylizerPerStyle
    init_args:
      members:
      - {class_path: FastStyle, init_args: {weights: gravel.npz}}
      - {class_path: JohnsonStylizer, init_args: {width: 4, blocks: 1}}
      weights: [null, brick.safetensors]
student:
  network: {class_path: JohnsonStylizer, init_args: {width: 4, blocks: 1, styles: 2}}
  training: {steps: 2, batch: 4}
"""


def test_painters_of_one_style_each_teach_one_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    painters: tuple[nn.Module, ...] = (FastStyle(), JohnsonStylizer(4, 1))
    np.savez("gravel.npz", **{name: weight.detach().numpy() for name, weight in painters[0].named_parameters()})
    save_weights(painters[1], "brick.safetensors")
    Path("painted.yaml").write_text(PAINTED)
    recipe = read_recipe("painted.yaml")
    rehearse(recipe)
    teacher = prepare(recipe, Path("out"), accelerator="cpu").arms()["teacher"][0].network().eval()
    image = torch.rand(2, 3, 24, 24) * 2 - 1
    expected = torch.cat([painter.eval()(one[None]) for painter, one in zip(painters, image, strict=True)])
    torch.testing.assert_close(teacher(image, torch.arange(2)), expected)


def test_a_painter_that_nobody_gave_weights_is_not_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("painted.yaml").write_text(PAINTED)
    for files in ("[gravel.npz, null]", "[null, null]", "null"):
        with pytest.raises(RecipeError, match=r"teacher\.training: missing"):
            read_recipe("painted.yaml", [("teacher.network.init_args.weights", files)])


CUT = """
name: cut
data: {class_path: EmbeddedPhotos, init_args: {size: 32, stride: 96}}
task: {class_path: Stylization, init_args: {styles: [gravel.png], style_size: 32, feature_network: Vgg16}}
method: {class_path: Stylize, init_args: {styles: [gravel.png], style_size: 32}}
networks: {feature_network: Vgg16}
teacher:
  network: {class_path: FastStyle, init_args: {weights: gravel.npz, widths: [4, 8, 12], blocks: 2}}
student:
  network: {class_path: FastStyle, init_args: {widths: [4, 8, 12], blocks: 2, rank: 7}}
  training: {steps: 2, batch: 4}
  start_from_teacher: [student]
"""


def test_a_student_begins_as_what_it_can_hold_of_its_teacher_and_its_control_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    painter = FastStyle(widths=(4, 8, 12), blocks=2)
    np.savez("gravel.npz", **{name: weight.detach().numpy() for name, weight in painter.named_parameters()})
    Path("cut.yaml").write_text(CUT)
    recipe = read_recipe("cut.yaml")
    rehearse(recipe)
    arms = prepare(recipe, Path("out"), accelerator="cpu").arms()
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def apart(arm: str) -> float:
        student = arms[arm][0].method().players()["student"]
        return float((student.eval()(image) - painter(image)).abs().mean().detach())

    assert apart("student") < apart("control") * 0.8
    Path("cut.yaml").write_text(CUT.replace("12], blocks: 2, rank", "9], blocks: 2, rank"))
    with pytest.raises(RecipeError, match=r"start_from_teacher: expected a FastStyle .* \[4, 8, 9\], the last"):
        rehearse(read_recipe("cut.yaml"))

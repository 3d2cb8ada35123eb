"""The whole prepared on a tiny recipe: what is trained, what is reused, what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator
from safetensors.torch import load_file

from limbeck.cli import main
from limbeck.errors import RecipeError
from limbeck.ground.hardware import machine
from limbeck.recipe.reader import read_recipe
from limbeck.report.result import Result
from limbeck.run.evaluation import evaluate
from limbeck.run.preparing import built, prepare
from limbeck.run.setting import Setting
from limbeck.run.story import run

RECIPE = """
name: tiny
seeds: 3
data: {class_path: Glyphs, init_args: {size: 16, train: 128, validation: 32, test: 64, channels: 1, classes: AB}}
task: {class_path: Generation, init_args: {latent: [8], samples: 64, conditional: true}}
features:
  name: glyph-cnn
  network: {class_path: SmallCnn, init_args: {width: 2, classes: 2, size: 16}}
  method: Supervised
  training: {steps: 20, batch: 32, optimizers: {student: {class_path: Adam, init_args: {lr: 0.01}}}}
method: Gan
networks: {discriminator: {class_path: DcganDiscriminator, init_args: {width: 4, size: 16, classes: 2}}}
teacher:
  network: {class_path: DcganGenerator, init_args: {width: 8, latent: 8, size: 16, classes: 2}}
  training: {steps: 10, batch: 16, ema: 0.9}
student:
  network: {class_path: DcganGenerator, init_args: {width: 2, latent: 8, size: 16, classes: 2}}
  method:
    class_path: Gan
    init_args: {terms: {student.critic_feature: {class_path: CriticFeatures, init_args: {paths: [blocks.0]}}}}
  start_from_teacher: [discriminator]
  training: {steps: 60, batch: 16, optimizers: {student: {class_path: Adam, init_args: {lr: 0.01}}}}
  weights: {student.adversarial: 0.0, student.output: 10.0, student.critic_feature: 1.0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of the tiny recipe."""
    path = tmp_path_factory.mktemp("run")
    (path / "tiny.yaml").write_text(RECIPE)
    assert main(["run", str(path / "tiny.yaml"), "--out", str(path / "out"), "--accelerator", "cpu"]) == 0
    return path


def test_the_result_satisfies_the_schema_and_the_student_follows_its_teacher(folder: Path) -> None:
    result = json.loads((folder / "out/result.json").read_text())
    schema = json.loads((Path(__file__).parents[1] / "src/limbeck/report/schema.json").read_text())
    Draft202012Validator(schema).validate(result)
    assert [arm["role"] for arm in result["arms"].values()] == ["teacher", "control", "student", "floor"]
    student, control = (result["arms"][a]["quality"]["psnr_to_teacher"]["per_seed"] for a in ("student", "control"))
    assert len(student) == 3
    assert min(a - b for a, b in zip(student, control, strict=True)) > 3  # dB, on each of the three seeds
    verdict = next(v for v in result["verdicts"] if v["metric"] == "psnr_to_teacher")
    assert verdict["verdict"] == "BEATS"


def test_result_and_report_say_which_machine_trained_each_arm(folder: Path) -> None:
    here = machine("cpu")
    arms = json.loads((folder / "out/result.json").read_text())["arms"]
    machines = {name: arm.get("trained_on") for name, arm in arms.items()}
    assert machines == {"teacher": [here], "control": [here], "student": [here], "floor": None}
    assert f"trained on {here}" in (folder / "out/report.html").read_text()


def test_the_report_shows_every_arm_and_the_exported_student_is_the_evaluated_one(folder: Path) -> None:
    html = (folder / "out/report.html").read_text()
    assert "data:image/png;base64" in html
    assert all(arm in html for arm in ("teacher", "control", "student", "floor"))
    recipe = read_recipe(folder / "tiny.yaml")
    student = prepare(recipe, folder / "out").students["student"][0].network()
    exported = load_file(folder / "out/student.safetensors")
    assert all(torch.equal(exported[name], value) for name, value in student.state_dict().items())


def test_a_second_run_trains_nothing_and_a_change_only_what_depends_on_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "out/arms").glob("*/final.safetensors")}
    assert len(before) == 8  # the features, the teacher, three controls, three students
    command = ["run", str(folder / "tiny.yaml"), "--out", str(folder / "out"), "--accelerator", "cpu"]
    main(command)
    assert {path: path.stat().st_mtime_ns for path in (folder / "out/arms").glob("*/final.safetensors")} == before
    capsys.readouterr()
    main([*command, "--seeds", "1", "--student.weights", "{student.output: 1.0}"])
    after = set((folder / "out/arms").glob("*/final.safetensors"))
    assert {path.parent.name.split("-")[0] for path in after - set(before)} == {"student"}
    assert "teacher (seed 0): reused" in capsys.readouterr().err


def test_arms_are_known_by_what_their_task_teaches_and_by_no_more(folder: Path) -> None:
    recipe = read_recipe(folder / "tiny.yaml")
    known = {arm.hash for group in prepare(recipe, folder / "out").arms().values() for arm in group}
    fewer = read_recipe(folder / "tiny.yaml", [("task.init_args.samples", "32")])
    assert {arm.hash for group in prepare(fewer, folder / "out").arms().values() for arm in group} == known
    other = read_recipe(folder / "tiny.yaml", [("task.init_args.conditional", "false")])
    setting = Setting(other.data.build(), other.task.build(), folder / "out/arms")  # its networks still want labels
    assert not {arm.hash for group in built(other, setting, None).arms().values() for arm in group} & known


def test_more_processes_than_devices_are_refused_before_anything_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.run.setting.device_of", lambda accelerator: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    recipe = read_recipe(folder / "tiny.yaml", [("student.training.processes", "2")])
    with pytest.raises(RecipeError, match=r"student: expected at most 1 training\.processes on cuda, .*found 2"):
        prepare(recipe, folder / "out")


def test_the_checkpoint_that_was_best_on_validation_stands_beside_the_last(folder: Path) -> None:
    recipe = read_recipe(folder / "tiny.yaml", [("student.training.evaluate_every", "4"), ("seeds", "2")])
    out = folder / "best"
    result = run(recipe, out, arms=folder / "out/arms", accelerator="cpu")
    students = prepare(recipe, out, folder / "out/arms").students["student"]
    best = result.arms["student"].best
    assert best is not None and len(best.steps) == 2
    for arm, step, value in zip(students, best.steps, best.quality["fid[glyph-cnn]"].per_seed, strict=True):
        curve = {row["step"]: row["fid[glyph-cnn]"] for row in arm.history if "fid[glyph-cnn]" in row}
        assert len(curve) == 15 and curve[step] == min(curve.values())
        assert (
            value
            == evaluate(arm, prepare(recipe, out, folder / "out/arms").extractor, arm.teacher, best=True)[
                "fid[glyph-cnn]"
            ]
        )
    assert best.quality != result.arms["student"].quality
    assert Result.read(out / "result.json").arms["student"].best == best
    assert "best on validation, step" in (out / "report.html").read_text()
    assert result.arms["teacher"].best is None  # nobody looked at it before its end


def test_runs_of_one_name_are_compared_side_by_side(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for place in ("before", "after"):
        (folder / place / "tiny[x]").mkdir(parents=True)
        (folder / place / "tiny[x]/result.json").write_bytes((folder / "out/result.json").read_bytes())
    assert main(["compare", *(str(folder / place / "tiny[x]") for place in ("before", "after"))]) == 0
    said = "".join(capsys.readouterr().out.split())
    assert said.count("teacher") >= 2 and "[x]" in said


def test_student_and_control_begin_alike(folder: Path) -> None:
    prepared = prepare(read_recipe(folder / "tiny.yaml"), folder / "out")
    student, control = prepared.students["student"][1].method(), prepared.controls["control"][1].method()
    start = student.student.state_dict()
    assert all(torch.equal(value, start[name]) for name, value in control.student.state_dict().items())
    assert student.teacher is not None
    assert control.teacher is None


def test_a_teacher_from_a_file_is_the_same_teacher(folder: Path, tmp_path: Path) -> None:
    recipe = read_recipe(folder / "tiny.yaml")
    teacher = prepare(recipe, folder / "out").teacher
    assert teacher is not None
    weights = tmp_path / "teacher.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in teacher.network().state_dict().items()}}, weights)
    assert recipe.teacher is not None
    students = {n: replace(s, start_from_teacher=(), weights={}) for n, s in recipe.students.items()}
    loaded = replace(
        recipe,
        seeds=(0,),
        teacher=replace(recipe.teacher, training=None, load=weights, networks={}),
        students={n: replace(s, method=recipe.teacher.method) for n, s in students.items()},
        controls={},
        control_of={},
    )
    result = run(loaded, tmp_path / "out", arms=folder / "out/arms", accelerator="cpu")
    first = json.loads((folder / "out/result.json").read_text())["arms"]["teacher"]["quality"]
    assert result.arms["teacher"].quality["entropy"].mean == pytest.approx(first["entropy"]["mean"], abs=1e-6)

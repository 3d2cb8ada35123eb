"""Results keep what they hold through a file, never hold NaN or a folder, and fail with one line."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.errors import LimbeckError
from limbeck.report.machine import hardware, versions
from limbeck.report.numbers import number
from limbeck.report.result import ArmResult, Quality, Result


def test_a_result_survives_its_file(result, tmp_path):
    path = tmp_path / "runs" / "result.json"
    arms = dict(result.arms)
    curves = {"fid[fashion-cnn]": [(0, 80.0), (500, 20.5)]}
    arms["student"] = replace(arms["student"], curves=curves, alarms=("student (seed 0), step 400: collapse",))
    arms["student"] = replace(arms["student"], trained_on=("Some GPU", "Some CPU, 2 threads"))
    whole = replace(result, arms=arms)
    whole.write(path)
    again = Result.read(path)
    assert again == whole
    assert list(path.parent.iterdir()) == [path]  # nothing is left beside it


def test_values_that_are_not_finite_become_null_and_take_the_mean_with_them(result, tmp_path):
    broken = Quality.of([1.0, math.nan, math.inf])
    assert broken == Quality((1.0, None, None), None, None)
    assert str(broken) == "not finite"
    arms = {
        "student": ArmResult("student", {"fid": broken}, {"macs": math.inf}, {"fid": [(0, math.nan)]}),
    }
    path = tmp_path / "result.json"
    replace(result, arms=arms, verdicts=[]).write(path)
    text = path.read_text()
    assert "NaN" not in text and "Infinity" not in text
    read = json.loads(text)["arms"]["student"]
    assert (read["cost"], read["curves"]) == ({"macs": None}, {"fid": [[0, None]]})


def test_quality_is_mean_and_sample_deviation():
    quality = Quality.of([1.0, 2.0, 3.0])
    assert (quality.mean, quality.std) == (2.0, 1.0)
    assert Quality.of([4.0]).std is None
    with pytest.raises(ValueError):
        Quality.of([])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([17.5], "17.5"),
        ([17.2, 17.8], "17.5 ± 0.4"),
        ([0.0123], "0.0123"),
        ([1234.4], "1,234"),
        ([4.271, 4.275], "4.273 ± 0.003"),
        ([-3.14159], "−3.14"),
        ([0.0], "0.00"),
        ([0.5, 0.5], "0.500 ± 0.000"),
    ],
)
def test_quality_as_text(values, text):
    assert str(Quality.of(values)) == text


def test_very_small_numbers_keep_their_digits():
    assert number(3.2e-7) == "3.20e−07"


def test_folders_of_a_machine_stay_out_of_the_file(result):
    recipe = {
        "name": "a/b",
        "teacher": {"weights": "/home/someone/teacher.safetensors", "root": Path("/data/sets/")},
        "lists": ["~/x/photos", r"C:\me\photos", "recipes/gan.yaml", 3, None],
    }
    written = replace(result, recipe=recipe).to_json()["recipe"]
    assert written == {
        "name": "a/b",
        "teacher": {"weights": "teacher.safetensors", "root": "sets"},
        "lists": ["photos", "photos", "recipes/gan.yaml", 3, None],
    }


def test_a_student_without_costs_is_no_result():
    with pytest.raises(ValueError, match="costs"):
        ArmResult("student", {"fid": Quality.of([1.0])})
    assert ArmResult("floor", {}).to_json() == {"role": "floor", "quality": {}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "could not be read"),
        ("{", "expected the JSON of a result"),
        ("[1]", "expected a result as"),
        ("{}", "'verdicts'"),
    ],
)
def test_a_file_that_is_no_result_is_named_in_one_line(tmp_path, content, says):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LimbeckError, match=r"result\.json") as caught:
        Result.read(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_writing_where_nothing_can_be_written_is_one_line(result, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LimbeckError, match="could not be written"):
        result.write(tmp_path / "file" / "result.json")


def test_versions_and_hardware_describe_this_machine():
    assert versions()["torch"] == torch.__version__
    assert versions()["limbeck"] == limbeck.__version__
    machine = hardware()
    assert machine["cores"] >= 1
    assert machine["threads"] == torch.get_num_threads()
    assert machine["cpu"]

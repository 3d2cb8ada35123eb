"""Flags that no verb has: one line that names the first of them and what was probably meant, and exit status 2.

No flag can be abbreviated: `--seed 7` would train seven seeds, and `--data CIFAR10` would set the folder of the data.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from limbeck.cli import FLAGS, _parser, main, split_changes
from limbeck.errors import RecipeError

FLAG_ROWS = {
    "run r.yaml --seed 7": "--seed (did you mean --seeds?); see limbeck run --help",
    "run r.yaml --seed=7": "--seed=7 (did you mean --seeds?)",
    "run --seed 7 r.yaml": "--seed (did you mean --seeds?)",
    "check r.yaml --seed 7": "--seed (did you mean --seeds?); see limbeck check --help",
    "train r.yaml --seeds 3": "--seeds (did you mean --seed?)",
    "evaluate r.yaml --seeds 3": "--seeds (did you mean --seed?)",
    "sample r.yaml --seeds 3": "--seeds (did you mean --seed?)",
    "run r.yaml --data CIFAR10": "--data (did you mean --data-root, or --data.class_path?)",
    "check r.yaml --data=CIFAR10": "--data=CIFAR10 (did you mean --data-root, or --data.class_path?)",
    "train r.yaml --data CIFAR10": "--data (did you mean --data-root, or --data.class_path?)",
    "evaluate r.yaml --data CIFAR10": "--data (did you mean --data-root, or --data.class_path?)",
    "sample r.yaml --data CIFAR10": "--data (did you mean --data-root, or --data.class_path?)",
    "run r.yaml --method Ard": "--method (did you mean --method.class_path?)",
    "run r.yaml --student SmallCnn": "--student (did you mean --student.network.class_path?)",
    "run r.yaml --steps 100": "--steps (did you mean --student.training.steps?)",
    "run r.yaml --evaluate-every 5": "--evaluate-every (did you mean --student.training.evaluate_every?)",
    "run r.yaml --precision bf16": "--precision (did you mean --student.training.precision?)",
    "run r.yaml --arm student": "--arm (did you mean --arms?)",
    "run r.yaml --acc cpu": "--acc (did you mean --accelerator?)",
    "run r.yaml --ou=there": "--ou=there (did you mean --out?)",
    "run r.yaml -o there": "-o (did you mean --out?)",
    "train r.yaml --ar teacher": "--ar (did you mean --arm?)",
    "evaluate r.yaml --weigths w.pth": "--weigths (did you mean --weights?)",
    "sample r.yaml --pair 4": "--pair (did you mean --pairs?)",
    "apply a b --til 64": "--til (did you mean --tile?)",
    "compare a --seeds 3": "--seeds; see limbeck compare --help",
    "list --whta": "--whta; see limbeck list --help",
    "schema --yaml": "--yaml; see limbeck schema --help",
    "run --he": "--he (did you mean --help?)",
    "--ver": "--ver (did you mean --version?); the flags of a verb stand after it; see limbeck --help",
    "--seeds 7 run r.yaml": "--seeds; the flags of a verb stand after it",
    "run r.yaml other.yaml": "other.yaml; see limbeck run --help",
}
DOTTED_ROWS = {
    "run r.yaml student.training.steps=4": "student.training.steps=4 (did you mean --student.training.steps?)",
    "run r.yaml -student.training.steps 4": "-student.training.steps (did you mean --student.training.steps?)",
    "run r.yaml --student.training.steps --out x": "--student.training.steps: expected a value after it, found --out",
    "compare a --student.training.steps 4": "--student.training.steps: compare reads no recipe that it could change",
    "apply a b --tile.size 4": "--tile.size: apply reads no recipe",
    "list losses --student.training.steps 4": "--student.training.steps: list reads no recipe",
    "run r.yaml --student.training.step 4": "student.training.step: unknown key (did you mean 'steps'?)",
    "run r.yaml --student.trainin.steps 4": "student.trainin: unknown key (did you mean 'training'?)",
    "run r.yaml --studnet.training.steps 4": "studnet: unknown key (did you mean 'student'?)",
    "run r.yaml --data.class CIFAR10": "data.class: unknown key (did you mean 'class_path'?)",
    "run r.yaml --out.there x": "out: unknown key",
}
RECIPE = """
name: tiny
data: {class_path: Glyphs, init_args: {size: 16, train: 64, validation: 16, test: 32}}
task: Classification
method: Supervised
student: {network: {class_path: SmallCnn, init_args: {width: 2, channels: 3, classes: 36}}, training: {steps: 1}}
"""


@pytest.mark.parametrize(("words", "said"), {**FLAG_ROWS, **DOTTED_ROWS}.items(), ids=str)
def test_outsiders_flag_is_told_in_a_line_with_what_was_meant(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE)
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("limbeck: ") and said in error.replace("unrecognized arguments: ", "")
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


@pytest.mark.parametrize("verb", FLAGS)
def test_outsiders_every_shorter_flag_of_every_verb_is_refused(verb: str) -> None:
    """Whatever the flag, no part of its name stands for it, nor is another taken for it."""
    top = _parser()
    own = next(a.choices[verb] for a in top._actions if a.dest == "verb")  # type: ignore[index]
    known = [flag for flag in own._option_string_actions if flag.startswith("--")]
    shorter = {flag[:end] for flag in known for end in range(3, len(flag))} - set(known)
    assert shorter
    for flag in shorter:
        with pytest.raises(RecipeError, match=re.escape(f"unrecognized arguments: {flag} (did you mean --")):
            top.parse_args([verb, flag, "x"])


def test_outsiders_values_may_begin_with_a_dash_or_stand_behind_an_equals_sign() -> None:
    words = ["run", "r.yaml", "--a.b", "-1", "--c.d=--e", "--f.g", "-.5e-3"]
    assert split_changes(words) == (["run", "r.yaml"], [("a.b", "-1"), ("c.d", "--e"), ("f.g", "-.5e-3")])
    assert _parser().parse_args(["sample", "r.yaml", "--seed", "-1"]).seed == -1
    assert _parser().parse_args(["list", "--", "--seed"]).what == "--seed"


def test_outsiders_scripts_take_no_abbreviations() -> None:
    """Every parser of the repository: a short flag of a benchmark would run something else for an hour."""
    root = Path(__file__).parents[2]
    files = [file for folder in ("src", "benchmarks", "recipes") for file in (root / folder).rglob("*.py")]
    calls = [
        (file.name, {keyword.arg for keyword in node.keywords})
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ArgumentParser")
    ]
    assert len(calls) >= 7
    assert [name for name, told in calls if "allow_abbrev" not in told] == []

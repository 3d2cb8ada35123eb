"""Recipes and results that name what is no part of a recipe: nothing of it runs, and somebody else's code not unasked.

Every row leaves the folder exactly as it was: `kept` would go, or `made` would appear, if something ran.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import nn

from limbeck.cli import main
from limbeck.errors import LimbeckError, RecipeError
from limbeck.ground.modules import only_ours
from limbeck.networks.given.external import Import, unwrap
from limbeck.networks.given.weights import save_weights
from limbeck.recipe.catalogue import resolve
from limbeck.run.applying import exported

MADE = {"path": "made"}
KEPT = {"path": "kept"}

# What would happen in the working folder if the target was called, or its module run.
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("os.system", {"command": "touch made"}),
    ("os.mkdir", MADE),
    ("os.makedirs", {"name": "made"}),
    ("os.remove", {"path": "kept/file"}),
    ("os.rename", {"src": "kept", "dst": "made"}),
    ("os.symlink", {"src": "kept", "dst": "made"}),
    ("posix.system", {"command": "touch made"}),
    ("posix.mkdir", MADE),
    ("shutil.rmtree", KEPT),
    ("shutil.copy", {"src": "kept/file", "dst": "made"}),
    ("shutil.copytree", {"src": "kept", "dst": "made"}),
    ("shutil.move", {"src": "kept", "dst": "made"}),
    ("shutil.make_archive", {"base_name": "made", "format": "zip", "root_dir": "kept"}),
    ("subprocess.run", {"args": ["touch", "made"]}),
    ("subprocess.call", {"args": ["touch", "made"]}),
    ("subprocess.check_output", {"args": ["touch", "made"]}),
    ("subprocess.getoutput", {"cmd": "touch made"}),
    ("subprocess.Popen", {"args": ["touch", "made"]}),
    ("builtins.open", {"file": "made", "mode": "w"}),
    ("io.open", {"file": "made", "mode": "w"}),
    ("io.FileIO", {"file": "made", "mode": "w"}),
    ("builtins.exec", {"source": "open('made', 'w')"}),
    ("runpy.run_path", {"path_name": "evil.py"}),
    ("runpy.run_module", {"mod_name": "evil"}),
    ("importlib.import_module", {"name": "evil"}),
    ("logging.FileHandler", {"filename": "made"}),
    ("zipfile.ZipFile", {"file": "made", "mode": "w"}),
    ("tarfile.open", {"name": "made", "mode": "w"}),
    ("sqlite3.connect", {"database": "made"}),
    ("dbm.dumb.open", {"file": "made", "flag": "n"}),
    ("tempfile.mkdtemp", {"dir": "."}),
    ("tempfile.NamedTemporaryFile", {"dir": ".", "delete": False}),
    ("compileall.compile_file", {"fullname": "evil.py", "legacy": True, "quiet": 2}),
    ("timeit.timeit", {"stmt": "open('made', 'w')", "number": 1}),
    ("numpy.save", {"file": "made", "arr": [1]}),
    ("numpy.savez", {"file": "made"}),
    ("numpy.memmap", {"filename": "made", "mode": "w+", "shape": [4]}),
    ("numpy.lib.format.open_memmap", {"filename": "made", "mode": "w+", "shape": [4]}),
    ("matplotlib.image.imsave", {"fname": "made", "arr": [[1.0]], "format": "png"}),
    ("torch.save", {"obj": 1, "f": "made"}),
    ("torch.utils.data.get_worker_info", {}),
    ("torch.package.PackageExporter", {"f": "made"}),
    ("safetensors.torch.save_file", {"tensors": {}, "filename": "made"}),
    ("limbeck.networks.given.weights.save_weights", {"network": None, "path": "made"}),
    ("limbeck.ground.arrays.write_arrays", {"file": "made", "arrays": {}}),
    ("limbeck.cli.main", {"argv": ["schema"]}),
    ("setuptools._distutils.dir_util.mkpath", {"name": "made"}),
    ("PIL.Image.open", {"fp": "kept/file"}),
    (f"{shutil.__file__}:rmtree", KEPT),
    (f"{os.__file__}:mkdir", MADE),
    (f"{os.__file__}:makedirs", {"name": "made"}),
    (f"{np.__path__[0]}/lib/format.py:open_memmap", {"filename": "made", "mode": "w+", "shape": [4]}),
    ("antigravity.Net", {}),
    ("this.Net", {}),
    ("pip.__main__.Net", {}),
    ("borrowing.rmtree", KEPT),
    ("borrowing.py:rmtree", KEPT),
    ("borrowing.half", {}),
    ("borrowing.py:half", {}),
    ("borrowing.py:Popen", {"args": ["touch", "made"]}),
    ("borrowing.py:run", {}),
]
PROGRAMS = {"antigravity", "this", "pip.__main__"}  # which do something when they are imported
BORROWING = """
from functools import partial
from shutil import rmtree
from subprocess import Popen
half = partial(rmtree, "kept")
run = Popen.wait
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    (tmp_path / "evil.py").write_text(
        "from torch import nn\nopen('made', 'w')\nclass Net(nn.Identity): pass\nclass Evil(nn.Conv2d): pass\n"
    )
    (tmp_path / "borrowing.py").write_text(BORROWING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in PROGRAMS:
        sys.modules.pop(name, None)
    yield tmp_path
    for name in ("evil", "borrowing"):
        sys.modules.pop(name, None)


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def recipe(network: Any, **more: Any) -> str:
    tree = yaml.safe_load("""
name: tiny
data: {class_path: Glyphs, init_args: {size: 16, train: 16, validation: 8, test: 8, classes: AB}}
task: {class_path: Restoration, init_args: {degradation: {class_path: Downscale, init_args: {scale: 2}}}}
method: Restore
student: {training: {steps: 1, batch: 2}}
""")
    tree["student"]["network"] = network
    return yaml.safe_dump(tree | more)


def imported(target: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"class_path": "Import", "init_args": {"target": target, "arguments": arguments, "role": "restorer", **more}}


@pytest.mark.parametrize(("target", "arguments"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_nothing_runs_under_check(
    folder: Path, capsys: pytest.CaptureFixture[str], target: str, arguments: dict[str, Any]
) -> None:
    (folder / "recipe.yaml").write_text(recipe(imported(target, arguments)))
    before = listed(folder)
    assert main(["check", "recipe.yaml", "--accelerator", "cpu"]) == 2
    assert listed(folder) == before
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "target" in line and not said.out and not PROGRAMS & set(sys.modules)
    with pytest.raises(RecipeError) as caught:  # refused before it is called, not because it returns no network
        Import(target, arguments, role="restorer")
    assert not any(words in str(caught.value) for words in ("cannot be built", "Module, found", "arguments"))


@pytest.mark.parametrize("key", ["network", "data", "task", "method", "weighting", "augmentation", "features"])
@pytest.mark.parametrize("name", ["subprocess.Popen", "antigravity.Net", "this.Net", "pip.__main__.Net"])
def test_no_part_is_built_of_what_is_no_part(
    folder: Path, capsys: pytest.CaptureFixture[str], key: str, name: str
) -> None:
    hostile = {"class_path": name, "init_args": {"args": ["touch", "made"]}}
    student = {"network": hostile if key == "network" else "Imdn", "training": {"steps": 1, "batch": 2}}
    tree = yaml.safe_load(recipe("Imdn")) | {"student": student} | ({} if key == "network" else {key: hostile})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    before = listed(folder)
    assert main(["check", "recipe.yaml", "--accelerator", "cpu"]) == 2
    assert name in capsys.readouterr().err and listed(folder) == before
    assert not PROGRAMS & set(sys.modules)


def result_of(folder: Path, network: Any) -> None:
    """Write somebody's student: its weights, and a result that says of what it is made."""
    (folder / "run").mkdir(exist_ok=True)
    save_weights(nn.Conv2d(3, 3, 1), folder / "run" / "student.safetensors")
    (folder / "run" / "result.json").write_text(json.dumps({"recipe": yaml.safe_load(recipe(network))}))
    Image.new("RGB", (8, 8)).save(folder / "image.png")


EVIL = [
    ("evil.Net", {}),
    ("evil.py:Net", {}),
    ("timm:resnet18", {}),
    ("transformers:kept", {}),
    ("torch.hub.load", {"repo_or_dir": "kept", "model": "x", "source": "local"}),
]


@pytest.mark.parametrize(("target", "arguments"), [*HOSTILE, *EVIL], ids=[row[0] for row in [*HOSTILE, *EVIL]])
def test_nothing_runs_under_apply(
    folder: Path, capsys: pytest.CaptureFixture[str], target: str, arguments: dict[str, Any]
) -> None:
    result_of(folder, imported(target, arguments))
    before = listed(folder)
    assert main(["apply", "run/student.safetensors", "image.png", "--out", "out"]) == 2
    assert listed(folder) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert any(words in line for words in ("--trust", "Python's own", "which is not called"))


NESTED = [
    ("class path", {"class_path": "evil.Net"}),
    ("class path of a part", {"class_path": "Wrapped", "init_args": {"module": {"class_path": "evil.Net"}}}),
    ("target in a part", {"class_path": "Wrapped", "init_args": {"module": imported("evil.py:Net", {})}}),
    ("target in a target", imported("limbeck.networks.given.external.Import", {"target": "evil.py:Net"})),
]


@pytest.mark.parametrize("network", [row[1] for row in NESTED], ids=[row[0] for row in NESTED])
def test_somebody_elses_code_is_named(folder: Path, capsys: pytest.CaptureFixture[str], network: Any) -> None:
    result_of(folder, network)
    before = listed(folder)
    assert main(["apply", "run/student.safetensors", "image.png", "--out", "out"]) == 2
    assert listed(folder) == before
    error = capsys.readouterr().err
    assert "evil" in error and "--trust" in error


def test_with_trust_it_is_applied(folder: Path) -> None:
    arguments = {"in_channels": 3, "out_channels": 3, "kernel_size": 1}
    result_of(folder, imported("evil.Evil", arguments))
    with pytest.raises(RecipeError, match="--trust"):
        exported(folder / "run" / "student.safetensors")
    assert main(["apply", "run/student.safetensors", "image.png", "--out", "out", "--trust"]) == 0
    assert (folder / "out" / "image.png").is_file() and (folder / "made").is_file()


@pytest.mark.parametrize(
    "network",
    [
        {"class_path": "Imdn", "init_args": {"width": 4, "blocks": 1, "scale": 1}},
        {"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 3, "out_channels": 3, "kernel_size": 1}},
        imported("torch.nn.Conv2d", {"in_channels": 3, "out_channels": 3, "kernel_size": 1}),
        imported("torch.nn.modules.conv.Conv2d", {"in_channels": 3, "out_channels": 3, "kernel_size": 1}),
    ],
)
def test_plain_networks_need_no_trust(folder: Path, network: Any) -> None:
    result_of(folder, network)
    if network["class_path"] == "Imdn":
        save_weights(resolve(nn.Module, "Imdn")(**network["init_args"]), folder / "run" / "student.safetensors")
    assert main(["apply", "run/student.safetensors", "image.png", "--out", "out"]) == 0


def test_evaluating_somebody_elses_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"in_channels": 3, "out_channels": 3, "kernel_size": 1}
    tree = yaml.safe_load(recipe(imported("evil.py:Evil", arguments)))
    tree["task"]["init_args"]["degradation"] = "AddNoise"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    save_weights(nn.Conv2d(3, 3, 1), folder / "w.safetensors")
    words = ["evaluate", "recipe.yaml", "--weights", "w.safetensors", "--accelerator", "cpu"]
    assert main(words) == 2
    assert "--trust" in capsys.readouterr().err and not (folder / "made").exists()
    assert main([*words, "--trust"]) == 0
    assert "psnr" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["random", "queue", "PIL", "yaml", "uuid"])
def test_the_working_folder_hides_nothing(folder: Path, name: str) -> None:
    """Neither Python's own modules nor installed ones; and `apply` does not look there at all."""
    (folder / f"{name}.py").write_text("open('made', 'w')\n")
    (folder / "recipe.yaml").write_text(recipe("Imdn"))
    before = sys.modules.pop(name)
    try:
        assert main(["list", "tasks"]) == 0 and "" not in sys.path
        main(["check", "recipe.yaml", "--seed", "x"])
        __import__(name)
        assert not (folder / "made").exists()
    finally:
        sys.modules[name] = before


def test_own_code_needs_no_trust_where_the_recipe_is_ones_own(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "from functools import partial, wraps\n"
        "from torch import nn\n"
        "class Net(nn.Identity): pass\n"
        "def make(): return Net()\n"
        "half = partial(nn.Linear, 2)\n"
        "def noisy(function):\n    @wraps(function)\n    def call(*more): return function(*more)\n    return call\n"
        "@noisy\ndef wrapped(): return Net()\n"
    )
    made = [Import(f"mine.py:{name}") for name in ("Net", "make", "wrapped")]
    assert {type(unwrap(net)).__name__ for net in made} == {"Net"}
    assert isinstance(unwrap(Import("mine.py:half", {"out_features": 3})), nn.Linear)
    with only_ours(), pytest.raises(LimbeckError, match="--trust"):
        Import("mine.py:Net")

"""The documents are true: their code runs, their links lead somewhere, their verbs exist, their tables are up to date.

A block of code says what it is by a comment on the line before it:

    <!-- file: NAME -->              is written to the working directory
    <!-- run: steps=2, ... -->       Python, is executed, with these values instead of the ones it shows
    <!-- recipe -->                  YAML, is read, and everything in it is built
    <!-- recipe: --a.b value ... --> YAML, is run by `limbeck run` with these flags
    <!-- teacher -->                 YAML, takes the place of the teacher in the page's first recipe, and is built
    <!-- section -->                 YAML, takes the place of sections there and is read, not built:
                                     some take what is not installed here

A page is a working directory: files of all pages, folders of images, and trained weights lie in it beforehand.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
import transformers
import yaml
from PIL import Image
from torch import Tensor, nn

from limbeck import cli
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.given.weights import save_weights
from limbeck.recipe.reader import read_recipe
from limbeck.recipe.rehearsal import rehearse
from limbeck.types import Batch

pytestmark = pytest.mark.usefixtures("_blank_drawings")

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(
    r"^(?:<!-- (?P<kind>run|file|recipe|teacher|section)(?:: (?P<says>.+?))? -->\n)?"
    r"```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.M | re.S,
)
PHOTOS = 80


class Signed(nn.Module):
    """Brings images from [0, 1] to [-1, 1], as those of the README are."""

    def forward(self, image: Tensor) -> Tensor:
        return 2 * image - 1


class Block(NamedTuple):
    """A block of code of a page.

    Attributes:
        kind: "run", "file", "recipe", "teacher", "section", or "" for one that is only shown.
        says: What the comment says further.
        language: E.g. "python".
        code: Its text.
    """

    kind: str
    says: str
    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    return [Block(*(m[g] or "" for g in Block._fields)) for m in BLOCK.finditer(page.read_text())]


def every(kind: str) -> list[Any]:
    """Parameters for all blocks of a kind, by page and number."""
    return [
        pytest.param(block, id=f"{page.stem}-{i}")
        for page in PAGES
        for i, block in enumerate(blocks(page))
        if block.kind == kind
    ]


def changed(block: Block) -> str:
    """Return the code of a block with the values that its comment gives; each has to be there."""
    code = block.code
    for name, value in (pair.split("=") for pair in block.says.split(", ") if pair):
        code, count = re.subn(rf"\b{name}=[\w.]+", f"{name}={value}", code)
        assert count == 1, f"{name} is there {count} times"
    return code


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with trained classifiers as other libraries write them."""
    path = tmp_path_factory.mktemp("given")
    values = (("image", 1, ["N", 3, 32, 32]), ("logits", 1, ["N", 3]))
    image, logits = (onnx.helper.make_tensor_value_info(*value) for value in values)
    pool = onnx.helper.make_node("GlobalAveragePool", ["image"], ["mean"])
    flat = onnx.helper.make_node("Flatten", ["mean"], ["logits"])
    graph = onnx.helper.make_graph([pool, flat], "teacher", [image], [logits])
    version = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[version], ir_version=9), str(path / "teacher.onnx"))
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    resnet = transformers.ResNetConfig(**sizes, num_labels=3)
    transformers.ResNetForImageClassification(resnet).save_pretrained(path / "my-resnet")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Path) -> Iterator[Path]:
    """A working directory with what the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    for block in (block for page in PAGES for block in blocks(page) if block.kind == "file"):
        Path(block.says).write_text(block.code)
    draw = np.random.default_rng(0)
    for name, side in (("photos", 32), ("photos-small", 16)):
        Path(name).mkdir()
        for i in range(PHOTOS):
            Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(f"{name}/{i}.png")
    for kind in ("cat", "dog", "owl"):
        shutil.copytree("photos", f"pictures/{kind}")
    images, masks = torch.rand(100, 3, 32, 32), torch.arange(100 * 32 * 32).view(100, 32, 32) % 3
    torch.save((images, masks), "scenes.pt")
    torch.save((images, 1 - images), "pairs.pt")
    shape = (PHOTOS, 1, 32, 32)
    np.savez("pairs.npz", latent=draw.normal(size=(PHOTOS, 64)), image=draw.integers(0, 256, shape, dtype=np.uint8))
    torch.save(load("my_models").Generator(width=64).state_dict(), "teacher.pth")
    torch.save({"state_dict": load("my_classifier").Net(width=16).state_dict()}, "my_classifier.pth")
    save_weights(SmallCnn(width=16, channels=3, classes=3), "small_cnn.safetensors")
    shutil.copytree(given, tmp_path, dirs_exist_ok=True)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def load(name: str) -> ModuleType:
    """Return the module in NAME.py of the working directory, anew."""
    spec = importlib.util.spec_from_file_location(name, Path(f"{name}.py").absolute())
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_of(text: str) -> str:
    """Return what stands in code of a page, but for Python: blocks and inline."""
    shown = [m["code"] for m in BLOCK.finditer(text) if m["language"] != "python"]
    return "\n".join(shown + re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)))


@pytest.mark.parametrize("block", every("run"))
def test_python_runs(block: Block, folder: Path) -> None:
    models = sys.modules["my_models"]
    signed = [nn.Sequential(models.Generator(width=width), Signed()) for width in (16, 2)]
    known: dict[str, Any] = {"my_teacher": signed[0], "my_student": signed[1]}
    exec(compile(changed(block), "block", "exec"), known)
    if "limbeck.distill(" in block.code and "features=" not in block.code:
        assert isinstance(known["student"], torch.nn.Module) and not known["student"].training
        assert Path("runs/mine/report.html").is_file() and Path("runs/mine/result.json").is_file()


@pytest.mark.parametrize("block", every("recipe"))
def test_recipes_can_be_run(block: Block, folder: Path) -> None:
    Path("recipe.yaml").write_text(block.code)
    if block.says:
        assert cli.main(["run", "recipe.yaml", *block.says.split()]) == 0
        assert len(list(Path("runs").glob("*/report.html"))) == 1
    else:
        rehearse(read_recipe("recipe.yaml"))


@pytest.mark.parametrize("block", [*every("teacher"), *every("section")])
def test_sections_fit_the_recipe_of_their_page(block: Block, folder: Path) -> None:
    page = next(page for page in PAGES if block in blocks(page))
    Path("recipe.yaml").write_text(next(other.code for other in blocks(page) if other.kind == "recipe"))
    sections = yaml.safe_load(block.code)
    recipe = read_recipe("recipe.yaml", [(key, json.dumps(section)) for key, section in sections.items()])
    if "teacher" in sections:
        assert recipe.teacher is not None
        assert (recipe.teacher.training is None) == ("training" not in sections["teacher"])
    if block.kind == "teacher":
        rehearse(recipe)


def test_the_example_method_is_a_method(folder: Path) -> None:
    """Its soft target is T² KL, worked out for two classes; nothing is to be learnt from oneself, or from nobody."""
    example = load("soft_targets")
    logits, goal = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2 * math.log(3)]])  # p = 1/4, 3/4 at T = 2
    expected = 4 * (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5))
    term = example.SoftTarget(temperature=2.0)
    found = [term.each(SimpleNamespace(student_output=own, teacher_output=goal)) for own in (logits, goal)]
    torch.testing.assert_close(torch.cat(found), torch.tensor([expected, 0.0]))
    method = example.SoftTargets(torch.nn.Flatten(), torch.nn.Flatten())
    (update,) = method.updates(Batch(image=goal[:, :, None, None], label=torch.tensor([0])), 0)
    losses = {name: float(loss()) for name, loss in update.losses.items()}
    assert losses == pytest.approx({"label": math.log(10), "soft_target": 0.0})  # softmax of 0, log 9 is 1/10, 9/10
    assert list(example.SoftTargets(torch.nn.Flatten()).terms) == ["student.label"]


def test_the_example_term_is_a_term(folder: Path) -> None:
    """Black against black with a white column in the middle: 2 on both of its sides, nothing from row to row."""
    term = load("my_terms").Edges()
    flat = torch.full((1, 1, 2, 3), -1.0)
    striped = flat.index_fill(3, torch.tensor([1]), 1.0)
    scenes = (SimpleNamespace(student_output=student, teacher_output=flat) for student in (striped, flat))
    assert [float(term.each(scene)) for scene in scenes] == [2.0, 0.0]


def test_enough_of_the_documents_runs() -> None:
    marked = {name: {block.kind for block in blocks(page)} for name, page in zip(NAMES, PAGES, strict=True)}
    assert {"run", "recipe"} <= marked["README.md"]
    assert {"file", "recipe"} <= marked["CONTRIBUTING.md"]
    assert {"file", "run", "recipe"} <= marked["docs/getting-started.md"]
    assert {"file", "recipe"} <= marked["docs/terms.md"]
    assert [block.kind for block in blocks(ROOT / "docs/python.md")] == ["file", *["run"] * 8]
    assert {"file", "recipe", "teacher", "section"} == marked["docs/teachers.md"] - {""}


def test_every_mark_belongs_to_a_block() -> None:
    for page in PAGES:
        marks = re.findall(r"^<!-- (?:run|file|recipe|teacher|section)\b", page.read_text(), re.M)
        assert len(marks) == sum(block.kind != "" for block in blocks(page)), page.name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}, of {sorted(anchors(there))}"


def anchors(page: Path) -> set[str]:
    """Return the names under which the headings of a page can be linked to, as code hosts make them."""
    heads = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_verbs_exist(page: Path) -> None:
    for verb in re.findall(r"(?:^|[\s/])limbeck ([a-z]\w*)", code_of(page.read_text()), re.M):
        assert verb in cli.VERBS, f"{page.name}: limbeck {verb}"


def test_every_verb_is_documented() -> None:
    everything = code_of((ROOT / "README.md").read_text())
    assert [verb for verb in cli.VERBS if f"limbeck {verb}" not in everything] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_are_named_exist(page: Path) -> None:
    """What stands in code as a path below a folder of the project is there."""
    for path in re.findall(r"(?<![\w/.-])((?:src|tests|benchmarks|recipes|docs)/[\w./-]*)", code_of(page.read_text())):
        assert (ROOT / path.rstrip(".")).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_folder_of_a_machine_is_named(page: Path) -> None:
    assert re.findall(r"(?<![\w.:/])/(?:home|work|tmp|root|Users|mnt|data)/", page.read_text()) == []


@pytest.mark.parametrize("script", ["tables.py", "class_tables.py"])
def test_tables_are_up_to_date(script: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_decisions_have_numbers_of_their_own_and_are_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    names = sorted(page.name for page in folder.glob("0*.md"))
    assert [name[:4] for name in names] == [f"{number:04}" for number in range(1, len(names) + 1)]
    assert re.findall(r"^\| \[\d+\]\((.+?)\)", (folder / "README.md").read_text(), re.M) == names
    for name in names:
        assert (folder / name).read_text().startswith(f"# {name[:4]}: ")

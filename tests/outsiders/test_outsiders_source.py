"""Code and files of one's own that change under a name: every arm and figure that they decide is made anew.

A row of `EDITS` is a name, the file that is edited, what stands there and what stands there afterwards, and whether
the arm is another one then or only its evaluation.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from limbeck.api.given import network_part
from limbeck.baselines.classification.oriented_pyramid import OrientedPyramid
from limbeck.cli import main
from limbeck.errors import RecipeError
from limbeck.ground.sources import one_reading
from limbeck.metrics.features import MapFeatures
from limbeck.networks.given.external import Import, unwrap
from limbeck.networks.given.weights import weights_hash
from limbeck.recipe.content import content_of
from limbeck.recipe.parts import canonical
from limbeck.recipe.reader import read_recipe
from limbeck.run.evaluation import _question
from limbeck.run.preparing import built, setting_of

PROJECT = {
    "nets.py": """
import importlib
from torch import nn
from neighbour import GAIN
from base_of import Base
SHIFT = importlib.import_module("by_name").SHIFT

class Net(Base):
    def __init__(self, classes=2):
        super().__init__()
        self.layer = nn.Linear(3, classes)
        nn.init.constant_(self.layer.weight, 0.1)

    def forward(self, image):
        from late import POWER
        return GAIN * self.layer(image.mean((2, 3))) ** POWER + SHIFT
""",
    "neighbour.py": "from further import HALF\nGAIN = 2 * HALF\n",
    "further.py": "HALF = 0.5\n",
    "late.py": "POWER = 1\n",
    "by_name.py": "SHIFT = 0.0\n",
    "base_of.py": "from torch import nn\nclass Base(nn.Module):\n    share = 1\n",
    "unrelated.py": "NOTHING = 1\n",
    "ownpackage/__init__.py": "SCALE = 1.0\n",
    "ownpackage/block.py": "GAIN = 1.0\n",
    "ownpackage/inner/__init__.py": "",
    "ownpackage/inner/arch.py": """
from .. import SCALE, block
from .side import OFFSET
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, image):
        return SCALE * block.GAIN * self.layer(image.mean((2, 3))) + OFFSET
""",
    "ownpackage/inner/side.py": "OFFSET = 0.0\n",
    "own_parts.py": """
from pathlib import Path
import torch
from torch import nn
from limbeck.data.base import Augmentation
from limbeck.data.glyphs import Glyphs
from limbeck.losses.base import LogitLoss
from limbeck.metrics.base import FeatureExtractor
from limbeck.terms.base import SampleTerm
from limbeck.weighting.scheduled import Scheduled

class Noted(Glyphs):
    NOTE = "first data"

class Small(SampleTerm):
    about = ("logits",)

    def __init__(self, file=None, folder=None):
        super().__init__()
        self.power = 2  # first term

    def each(self, scene):
        return scene.student_output.pow(self.power).mean(1)

class Other(Scheduled):
    NOTE = "first weighting"

class Slow(torch.optim.SGD):
    NOTE = "first optimizer"

class Means(FeatureExtractor):
    name, dimension = "means", 3

    def forward(self, image):
        return 1 * image.mean((2, 3)), image[:, :0, 0, 0]

    def fingerprint(self):
        return "always the same"
""",
    "own_method.py": """
from torch import nn
from limbeck.methods.base import Default, Method, Terms
from limbeck.terms.cross_entropy import CrossEntropy

class Learn(Method):
    \"\"\"Learns labels.\"\"\"
    defaults = {"student.label": Default(CrossEntropy)}
    answers = "logits"
    needs = ("image", "label")

    def __init__(self, student: nn.Module, *, terms: Terms | None = None):
        super().__init__()
        self.cast({"student": student}, {}, terms)

    def updates(self, batch, step):
        yield self.update_of("student", self.enter(batch, step + 0))
""",
    "numbers.txt": "1 2 3\n",
    "folder/a.txt": "1\n",
}


def recipe(target: str = "nets.py:Net") -> dict[str, Any]:
    return yaml.safe_load(f"""
name: own
data: {{class_path: own_parts.Noted, init_args: {{size: 16, train: 16, validation: 4, test: 8, classes: AB}}}}
task: Classification
features: own_parts.Means
method:
  class_path: own_method.Learn
  init_args:
    terms: {{student.small: {{class_path: own_parts.Small, init_args: {{file: numbers.txt, folder: folder}}}}}}
weighting: own_parts.Other
student:
  network:
    class_path: Import
    init_args: {{target: "{target}", role: classifier, classes: 2, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
  training: {{steps: 2, batch: 4, optimizers: {{student: {{class_path: own_parts.Slow, init_args: {{lr: 0.1}}}}}}}}
""")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of somebody's own code, which is the working folder."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def known_by(tree: dict[str, Any]) -> tuple[str, str]:
    """Return what the student of a recipe is known by, and what its evaluation is."""
    Path("recipe.yaml").write_text(yaml.safe_dump(tree))
    recipe = read_recipe("recipe.yaml")
    prepared = built(recipe, setting_of(recipe, Path("run/arms"), "cpu"), None)  # it need not be trainable
    arm = prepared.arms()["student"][0]
    return arm.hash, canonical(_question(arm, prepared.extractor, None, "test"))


EDITS: list[tuple[str, ...]] = [
    ("forward", "nets.py", "GAIN * self", "GAIN * 3 * self", "arm"),
    ("initialisation", "nets.py", "weight, 0.1", "weight, 0.7", "arm"),
    ("neighbour", "neighbour.py", "2 * HALF", "5 * HALF", "arm"),
    ("neighbour of a neighbour", "further.py", "0.5", "0.7", "arm"),
    ("imported inside forward", "late.py", "= 1", "= 2", "arm"),
    ("imported by import_module", "by_name.py", "0.0", "1.0", "arm"),
    ("base class in another file", "base_of.py", "share = 1", "share = 2", "arm"),
    ("own method", "own_method.py", "step + 0", "step + 1", "arm"),
    ("own term", "own_parts.py", "self.power = 2", "self.power = 4", "arm"),
    ("own data", "own_parts.py", "first data", "other data", "arm"),
    ("own weighting", "own_parts.py", "first weighting", "other weighting", "arm"),
    ("own optimizer", "own_parts.py", "first optimizer", "other optimizer", "arm"),
    ("own feature extractor", "own_parts.py", "1 * image", "2 * image", "evaluation"),
    ("file that a term names", "numbers.txt", "1 2 3", "1 2 4", "arm"),
    ("file in a folder that a term names", "folder/a.txt", "1", "2", "arm"),
]
IN_A_PACKAGE: list[tuple[str, ...]] = [
    ("forward", "ownpackage/inner/arch.py", "SCALE * block", "2 * SCALE * block", "arm"),
    ("package", "ownpackage/__init__.py", "1.0", "2.0", "arm"),
    ("module above", "ownpackage/block.py", "1.0", "2.0", "arm"),
    ("module beside", "ownpackage/inner/side.py", "0.0", "2.0", "arm"),
    ("package around", "ownpackage/inner/__init__.py", "", "import ownpackage.block\n", "arm"),
]


def _edit(file: str, before: str, after: str) -> None:
    text = Path(file).read_text()
    assert before in text
    Path(file).write_text(text.replace(before, after, 1) if before else after)


@pytest.mark.parametrize(
    ("target", "row"),
    [
        *(pytest.param("nets.py:Net", row, id=row[0]) for row in EDITS),
        *(pytest.param("ownpackage.inner.arch.Net", row, id=f"in a package: {row[0]}") for row in IN_A_PACKAGE),
    ],
)
def test_an_edit_makes_another_arm(project: Path, target: str, row: tuple[str, ...]) -> None:
    _, file, before, after, changes = row
    first = known_by(recipe(target))
    assert known_by(recipe(target)) == first
    _edit(file, before, after)
    arm, evaluation = known_by(recipe(target))
    assert (arm if changes == "arm" else evaluation) != first[changes == "evaluation"]


def test_what_does_not_matter_makes_no_other_arm(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = known_by(recipe())
    _edit("unrelated.py", "1", "2")
    assert known_by(recipe()) == first
    shutil.copytree(project, project.parent / "moved", ignore=shutil.ignore_patterns("run", "__pycache__"))
    monkeypatch.chdir(project.parent / "moved")
    assert known_by(recipe()) == first


def test_an_edited_extractor_trains_nothing_anew(project: Path) -> None:
    tree = recipe()
    Path("apart.py").write_text(PROJECT["own_parts.py"])
    tree["features"] = "apart.Means"
    arm, evaluation = known_by(tree)
    _edit("apart.py", "1 * image", "2 * image")
    assert known_by(tree)[0] == arm and known_by(tree)[1] != evaluation


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("nets.py", "GAIN * self", "GAIN * 3 * self"),
        ("neighbour.py", "2 * HALF", "6 * HALF"),
        ("further.py", "0.5", "1.5"),
    ],
)
def test_what_runs_is_what_was_edited(project: Path, file: str, before: str, after: str) -> None:
    """In a process that has imported it already, whether by its file or by its name."""
    image = torch.ones(1, 3, 4, 4)
    for target in ("nets.py:Net", "nets.Net"):
        first = unwrap(Import(target, role="classifier", classes=2))
        _edit(file, before, after)
        second = unwrap(Import(target, role="classifier", classes=2))
        second.load_state_dict(first.state_dict())
        torch.testing.assert_close(second(image), 3 * first(image))
        _edit(file, after, before)


def test_an_edit_during_a_run_waits_for_the_next(project: Path) -> None:
    """Seeds that are trained later run the code that the first was known by."""
    image, bare = torch.ones(1, 3, 4, 4), {"role": "classifier", "classes": 2}
    torch.manual_seed(0)
    with one_reading():
        description = {"class_path": "limbeck.networks.given.external.Import", "init_args": {"target": "nets.py:Net"}}
        first, known = (
            [unwrap(Import(target, **bare)) for target in ("nets.py:Net", "nets.Net")],
            content_of(description),
        )
        _edit("neighbour.py", "2 * HALF", "6 * HALF")
        later = [unwrap(Import(target, **bare)) for target in ("nets.py:Net", "nets.Net")]
        assert content_of(description) == known
    assert [type(net) for net in later] == [type(net) for net in first]
    new = unwrap(Import("nets.py:Net", **bare))
    new.load_state_dict(first[0].state_dict())
    torch.testing.assert_close(new(image), 3 * first[0](image))
    assert content_of(description) != known


def test_neighbours_of_one_name_in_two_folders(project: Path) -> None:
    for folder, gain in (("one", 1.0), ("two", 5.0)):
        Path(folder).mkdir()
        Path(folder, "gains.py").write_text(f"GAIN = {gain}\n")
        Path(folder, "net.py").write_text(
            "from torch import nn\nfrom gains import GAIN\nclass Net(nn.Linear): gain = GAIN\n"
        )
    nets = [Import(f"{f}/net.py:Net", {"in_features": 1, "out_features": 1}) for f in ("one", "two", "one")]
    assert [unwrap(net).gain for net in nets] == [1.0, 5.0, 1.0]


def test_trained_evaluated_and_reused_from_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The story of a user who edits a network, its neighbour, a method and a mean, each time in a new state."""
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe()))
    words = ["recipe.yaml", "--out", "run", "--accelerator", "cpu"]

    def said(*more: str) -> tuple[bool, bool]:
        """Return whether the arm was trained, and whether it was evaluated."""
        assert main(["train", *words, *more]) == 0
        trained = "reused" not in capsys.readouterr().err
        assert main(["evaluate", *words, *more]) == 0
        return trained, "evaluating" in capsys.readouterr().err

    assert said() == (True, True)
    assert said() == (False, False)
    for file, before, after in (
        ("nets.py", "GAIN * self", "GAIN * 3 * self"),
        ("neighbour.py", "2 * HALF", "5 * HALF"),
        ("own_method.py", "step + 0", "step + 1"),
    ):
        _edit(file, before, after)
        assert said() == (True, True), file
        assert said() == (False, False), file
    assert said("--student.network.init_args.mean", "[0.1, 0.1, 0.1]") == (True, True)


PAINTER = """
name: painted
data: {class_path: Glyphs, init_args: {size: 16, train: 8, validation: 4, test: 4}}
task: {class_path: Reconstruction}
method: {class_path: Stylize, init_args: {styles: [style.png], style_size: 16}}
networks: {feature_network: {class_path: Vgg16, init_args: {width: 2}}}
student: {network: {class_path: JohnsonStylizer, init_args: {width: 2, blocks: 1}}, training: {steps: 1, batch: 4}}
"""


@pytest.mark.parametrize("place", [".", "data"])
def test_another_picture_of_a_style(project: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(project / "data"))
    (project / "data").mkdir()
    hashes = []
    for level in (0, 0, 200):
        Image.fromarray(np.full((20, 20, 3), level, np.uint8)).save(project / place / "style.png")
        description = yaml.safe_load(PAINTER)["method"] | {"class_path": "limbeck.methods.stylize.Stylize"}
        hashes.append(content_of(description))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("description", "file"),
    [
        ({"class_path": "own_parts.Small", "init_args": {"file": "numbers.txt"}}, "numbers.txt"),
        ({"class_path": "own_parts.Small", "init_args": {"folder": "folder"}}, "folder/a.txt"),
        (
            {"class_path": "limbeck.x.Import", "init_args": {"target": "a.B", "arguments": {"f": "folder"}}},
            "folder/a.txt",
        ),
        ({"class_path": "limbeck.x.I", "init_args": {"target": "a.B", "weights": "numbers.txt"}}, "numbers.txt"),
        ({"class_path": "limbeck.x.Y", "init_args": {"terms": {"a.b": {"files": ["numbers.txt"]}}}}, "numbers.txt"),
        ({"class_path": "limbeck.x.Y", "init_args": {"file": "of-the-root.txt"}}, "data/of-the-root.txt"),
    ],
)
def test_files_and_folders_that_a_part_names(
    project: Path, monkeypatch: pytest.MonkeyPatch, description: dict[str, Any], file: str
) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(project / "data"))
    (project / "data").mkdir()
    (project / "data" / "of-the-root.txt").write_text("1")
    before = content_of(description)
    assert content_of(description) == before
    Path(file).write_text("something else")
    assert content_of(description) != before


TRANSLATION = """
name: translated
data: {class_path: Glyphs, init_args: {size: 16, train: 8, validation: 4, test: 4}}
task:
  class_path: ImageTranslation
  init_args:
    segmenter:
      class_path: Import
      init_args:
        {target: torch.nn.Identity, role: segmenter, classes: 3, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
method: Restore
student: {network: {class_path: Imdn, init_args: {width: 4, blocks: 1, scale: 1}}, training: {steps: 1, batch: 4}}
"""


def test_the_mean_of_a_network_that_measures(project: Path) -> None:
    """It has no weights: its hash alone would be that of nothing."""
    tree = yaml.safe_load(TRANSLATION)
    arm, evaluation = known_by(tree)
    tree["task"]["init_args"]["segmenter"]["init_args"]["mean"] = [0.1, 0.1, 0.1]
    assert known_by(tree)[0] == arm and known_by(tree)[1] != evaluation


class Shifted(nn.Module):
    """What it does stands in an attribute, an array, a plain tensor or a buffer that no file holds."""

    def __init__(self, how: str, value: float) -> None:
        super().__init__()
        made = {"attribute": value, "array": np.full(2000, value), "tensor": torch.full((3,), value)}
        self.register_buffer("shift", torch.tensor(value), persistent=False) if how == "buffer" else None
        self.own = [self] if how == "in a circle" else made.get(how)
        self.value = value if how == "in a circle" else None


@pytest.mark.parametrize("how", ["attribute", "array", "tensor", "buffer", "in a circle"])
def test_live_networks_whose_state_is_not_in_their_weights(how: str) -> None:
    known = [canonical(network_part(Shifted(how, value)).description) for value in (1.0, 1.0, 2.0)]
    assert known[0] == known[1] != known[2]


@pytest.mark.parametrize(("file", "before", "after"), [("nets.py", "GAIN * self", "self"), ("neighbour.py", "2", "3")])
def test_live_networks_are_known_by_their_code(project: Path, file: str, before: str, after: str) -> None:
    """Also where the class is not the outermost."""
    net = unwrap(Import("nets.Net", role="classifier", classes=2))
    parts = [network_part(each).description for each in (net, nn.Sequential(net))]
    known = [content_of(part) for part in parts]
    _edit(file, before, after)
    assert all(content_of(part) != first for part, first in zip(parts, known, strict=True))


def test_features_of_networks_whose_state_is_not_in_their_weights() -> None:
    two, six = (OrientedPyramid(orientations=n) for n in (2, 6))
    assert weights_hash(two) != weights_hash(six)
    plain = [MapFeatures(nn.AvgPool2d(size), "pooled") for size in (2, 4)]
    assert plain[0].fingerprint() != plain[1].fingerprint()


# Files that somebody else wrote for another purpose.

PARSES = """
import argparse
from torch import nn
p = argparse.ArgumentParser()
{}
a = p.parse_args()
class Net(nn.Linear):
    def __init__(self): super().__init__(2, 2)
"""
EXITS = """
import sys
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        sys.exit({})
"""
LINES = [
    ("required argument", PARSES.format("p.add_argument('--data', required=True)"), "required: --data), as a script"),
    ("positional argument", PARSES.format("p.add_argument('data')"), "parses its command line"),
    ("sys.exit at import", "import sys\nsys.exit('no GPU here')\n", "no GPU here"),
    ("exit() at import", "raise SystemExit\n", "it ends the program"),
    ("constructor that exits", EXITS.format("1"), "it ends the program (sys.exit(1))"),
    ("constructor that exits with a word", EXITS.format("'no such depth'"), "no such depth"),
    ("relative import", "from . import block\nclass Net: pass\n", ".foreign.Class', with "),
    ("relative import from above", "from ..block import x\nclass Net: pass\n", ".foreign.Class', with "),
]


@pytest.mark.parametrize(("text", "words"), [row[1:] for row in LINES], ids=[row[0] for row in LINES])
def test_one_clear_line(project: Path, capfd: pytest.CaptureFixture[str], text: str, words: str) -> None:
    (project / "foreign.py").write_text(text)
    tree = recipe("foreign.py:Net")
    Path("recipe.yaml").write_text(yaml.safe_dump(tree))
    assert main(["check", "recipe.yaml", "--accelerator", "cpu"]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and words in lines[0] and "foreign.py:Net" in lines[0]


@pytest.mark.parametrize("kind", ["import", "constructor"])
def test_one_clear_line_of_an_own_method_that_exits(
    project: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "import":
        _edit("own_method.py", "class Learn", "import sys; sys.exit(3)\nclass Learn")
    else:
        _edit("own_method.py", "        super().__init__()", "        import sys; sys.exit(3)")
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe()))
    assert main(["check", "recipe.yaml", "--accelerator", "cpu"]) == 2
    error = capfd.readouterr().err
    assert "it ends the program (sys.exit(3))" in error and "Traceback" not in error


def test_a_script_whose_command_line_may_be_empty(project: Path) -> None:
    """It runs as it does by `python script.py`, not with the words of Limbeck."""
    (project / "script.py").write_text(PARSES.format("p.add_argument('--batch-size', default=128)"))
    before = sys.argv
    assert isinstance(unwrap(Import("script.py:Net")), nn.Linear) and sys.argv is before


def test_a_package_by_its_name_where_the_file_cannot_be_run(project: Path) -> None:
    with pytest.raises(RecipeError, match=r"name it 'ownpackage\.inner\.arch\.Class', with "):
        Import("ownpackage/inner/arch.py:Net")
    assert isinstance(Import("ownpackage.inner.arch.Net", role="classifier", classes=2), Import)


WRAPS = """
import torch
from torch import nn
def parallel(): return nn.DataParallel(nn.Linear(2, 3))
def compiled(): return torch.compile(nn.Linear(2, 3))
def both(): return torch.compile(nn.DataParallel(nn.Linear(2, 3)))
"""


@pytest.mark.parametrize("name", ["parallel", "compiled", "both"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_networks_and_weights_that_were_spread_or_compiled(project: Path, name: str, prefix: str) -> None:
    (project / "wraps.py").write_text(WRAPS)
    held = nn.Linear(2, 3)
    torch.save({f"{prefix}{key}": value for key, value in held.state_dict().items()}, project / "w.pth")
    found = unwrap(Import("wraps.py:" + name, weights="w.pth"))
    assert type(found) is nn.Linear and torch.equal(found.weight, held.weight)

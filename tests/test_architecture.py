"""The rooms of the house and the way through them; every check is shown a source that breaks it.

The rooms stand in levels; a module imports from lower levels, and from its own room as that room allows: where a
room holds alternatives (losses, networks...) siblings know only its base files; where it holds the parts of one
machine (the engine, the recipe, the report, the run) they may know each other, but not in circles.
"""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from torch import nn

from limbeck.recipe.catalogue import catalogue, rooms

SOURCE = Path(__file__).parents[1] / "src" / "limbeck"

# Each level may import all levels above it. Names are folders, or modules directly in limbeck.
LEVELS = (
    "errors",
    "types",
    "ground",
    "losses",
    "metrics weighting attacks data",
    "networks",
    "terms samplers baselines compress export explain",
    "methods tasks",
    "training report",
    "recipe",
    "run",
    "commands flags",
    "cli api federated app",
    "__main__",
)
LEVEL = {room: number for number, level in enumerate(LEVELS) for room in level.split()}
# Their modules are parts of one thing, or built on one another; circles there are none all the same.
MACHINES = {"ground", "training", "report", "recipe", "run", "cli", "commands", "api", "baselines"}
FABRIC = {"training.launch", "training.replicas"}
FORBIDDEN = {"torchvision", "timm", "lpips", "piq", "cleanfid", "open_clip", "torch_fidelity"}
LATE = {
    "torch", "pydantic", "lightning_fabric", "matplotlib", "skimage", "scipy", "onnx", "onnxruntime", "transformers",
    "diffusers", "pyautoattack", "torch._dynamo", "jsonschema",
}  # fmt: skip


@cache
def sources() -> dict[str, str]:
    """Return the text of every module by its name below limbeck, e.g. "networks.dcgan"; limbeck itself is ""."""
    texts = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        texts[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return texts


@cache
def imported(text: str) -> frozenset[str]:
    """Return the dotted names that a module imports, anywhere in it, `import_module("...")` included."""
    return frozenset(_imported(text))


def _imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def own(text: str, known: set[str]) -> set[str]:
    """Return the modules of limbeck that a module imports."""
    found = set()
    for name in imported(text):
        parts = name.split(".")
        if parts[0] != "limbeck":
            continue
        candidates = (".".join(parts[1:end]) for end in range(len(parts), 0, -1))
        found.add(next(candidate for candidate in candidates if candidate in known or candidate == ""))
    return found


@cache
def offered() -> frozenset[str]:
    """Return the modules whose classes a recipe chooses between: alternatives, which do not know each other.

    A module that defines the base of such classes, or only helps them, is none.
    """
    bases = rooms()
    return frozenset(
        cls.__module__.removeprefix("limbeck.")
        for base in [*bases.values(), nn.Module]
        for cls in catalogue(base)
        if "room" not in vars(cls) and not _helps(cls.__module__)
    )


def _helps(module: str) -> bool:
    """Tell whether a module stands in a corner of building blocks and tools, or defines what others extend."""
    in_corner = module.count(".") > 2 and module.split(".")[2] in ("blocks", "handling", "pictures")
    own = (c for c in vars(sys.modules[module]).values() if inspect.isclass(c) and c.__module__ == module)
    return in_corner or any("room" in vars(c) or type.__subclasses__(c) for c in own)


def breaches(texts: Mapping[str, str]) -> list[str]:
    """Return every import that goes the wrong way."""
    found = []
    for name, text in texts.items():
        if name == "":
            continue
        room = name.split(".")[0]
        if room not in LEVEL:
            found.append(f"{name}: in no room")
            continue
        for other in sorted(own(text, set(texts)) - {""}):
            theirs = other.split(".")[0]
            if theirs not in LEVEL:
                found.append(f"{name} imports {other}, which is in no room")
            elif theirs != room and LEVEL[theirs] >= LEVEL[room]:
                found.append(f"{name} imports {other}: {room} may not know {theirs}")
            elif theirs == room and room not in MACHINES and other in offered():
                found.append(f"{name} imports its sibling {other}")
    return found


def circle(texts: Mapping[str, str]) -> list[str]:
    """Return the modules of a circle of imports, or []."""
    graph = {name: own(text, set(texts)) - {name, ""} for name, text in texts.items() if name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def importers(texts: Mapping[str, str], packages: set[str]) -> set[str]:
    """Return the modules that import one of the packages."""
    return {name for name, text in texts.items() if {i.split(".")[0] for i in imported(text)} & packages}


@cache
def classes(text: str) -> tuple[str, ...]:
    """Return the public classes that a module defines."""
    names = (node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    return tuple(name for name in names if not name.startswith("_"))


def ambiguous(texts: Mapping[str, str]) -> list[str]:
    """Return the public names under which more than one class is defined."""
    counts = Counter(name for text in texts.values() for name in classes(text))
    return [name for name, count in counts.items() if count > 1]


def loaded(code: str, folder: Path) -> set[str]:
    """Return which heavy packages a new process has loaded after `code`."""
    report = f"import sys\nprint('LOADED', *(set({sorted(LATE)}) & set(sys.modules)))"
    paths = [str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", f"{code}\n{report}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return set(ended.stdout.splitlines()[-1].split()[1:])


def test_imports_go_one_way() -> None:
    assert breaches(sources()) == []


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("losses.new", "from limbeck.networks.gan.dcgan import DcganGenerator", "losses may not know networks"),
        ("networks.new", "from limbeck.networks.gan.dcgan import DcganGenerator", "its sibling networks.gan.dcgan"),
        ("methods.new", "import limbeck.methods.gan", "its sibling methods.gan"),
        ("methods.new", "from limbeck.tasks import generation", "methods may not know tasks"),
        ("methods.new", "def f():\n    from limbeck.training.engine import fit", "methods may not know training"),
        (
            "tasks.new",
            "from importlib import import_module\nimport_module('limbeck.run.story')",
            "tasks may not know run",
        ),
        ("types", "from limbeck import losses", "types may not know losses"),
        ("training.new", "from limbeck.report.html import write_report", "training may not know report"),
        ("report.new", "from limbeck.recipe.reader import Recipe", "report may not know recipe"),
        ("recipe.new", "from limbeck.run.story import run", "recipe may not know run"),
        ("run.new", "from limbeck.cli import main", "run may not know cli"),
        ("elsewhere", "", "in no room"),
    ],
)
def test_a_wrong_import_is_found_out(name: str, text: str, says: str) -> None:
    found = breaches(sources() | {name: text})
    assert len(found) == 1 and says in found[0] and found[0].startswith(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("losses.new", "from limbeck.losses.tensors import precise\nfrom limbeck.errors import RecipeError"),
        ("methods.new", "from limbeck.losses import gan\nfrom limbeck.networks.gan.dcgan import DcganGenerator"),
        ("networks.new", "from limbeck.networks.handling.tap import Tap\nimport torch, limbeck"),
        ("data.new", "from limbeck.data.image_files import decode"),
    ],
)
def test_a_right_import_is_not(name: str, text: str) -> None:
    assert breaches(sources() | {name: text}) == []


def test_there_are_no_circles() -> None:
    assert circle(sources()) == []
    feed = {"training.feed": "from limbeck.training.engine import Engine"}
    assert set(circle(sources() | feed)) == {"training.feed", "training.engine"}


def test_only_what_starts_and_joins_processes_knows_fabric() -> None:
    packages = {"lightning_fabric", "lightning", "pytorch_lightning"}
    assert importers(sources(), packages) == FABRIC
    for text in ("import lightning_fabric.utilities", "from lightning.fabric import Fabric"):
        assert importers(sources() | {"methods.new": text}, packages) == FABRIC | {"methods.new"}


def test_nothing_that_needs_torchvision_is_imported() -> None:
    assert importers(sources(), FORBIDDEN) == set()
    for text in ("from torchvision.models import resnet50", "def f():\n    import timm", "__import__('lpips')"):
        assert importers(sources() | {"networks.new": text}, FORBIDDEN) == {"networks.new"}


def test_class_names_are_unique() -> None:
    assert ambiguous(sources()) == []
    assert ambiguous(sources() | {"networks.new": "class Gan: ..."}) == ["Gan"]


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["run", "--help"], ["list", "--room"], ["run", "my.yaml", "--task", "Gan"]]
)
def test_importing_limbeck_and_asking_for_help_is_light(words: list[str], tmp_path: Path) -> None:
    helped = f"from limbeck.cli import main\ntry:\n    main({words})\nexcept SystemExit: pass"
    assert loaded(f"import limbeck\n{helped}", tmp_path) == set()


def test_what_is_loaded_is_seen(tmp_path: Path) -> None:
    (tmp_path / "lightning_fabric.py").touch()
    assert loaded("import limbeck, lightning_fabric", tmp_path) == {"lightning_fabric"}


def test_what_there_is_to_build_from_needs_torch_alone(tmp_path: Path) -> None:
    """`limbeck list` imports every room; nothing else heavy comes with them, nor with `distill`."""
    listed = "from limbeck.cli import main\nassert main(['list']) == 0"
    captions = "from limbeck.data.glyphs import Glyphs\nGlyphs().caption(0)"  # fonts wait until they are drawn
    assert loaded(f"{listed}\n{captions}", tmp_path) == {"torch"}
    assert loaded("from limbeck import distill", tmp_path) == {"torch", "pydantic"}

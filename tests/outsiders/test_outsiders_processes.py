"""Processes, files of recipes, terminals and ends of messages, as outsiders met them: a table for each kind."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException
from toys import Dying, Killed, ToyGan, toy_images, toy_job

from limbeck.cli import main
from limbeck.data.base import InMemory
from limbeck.errors import CheckpointError, LimbeckError, TrainingError
from limbeck.ground import progress
from limbeck.ground.locks import held, joined
from limbeck.ground.progress import Progress
from limbeck.ground.rows import RowsWriter
from limbeck.losses.kd import Kd
from limbeck.methods.supervised import Supervised
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.recipe.reader import read_recipe
from limbeck.recipe.tree import load
from limbeck.report.result import Result
from limbeck.run.arm import Arm
from limbeck.run.earlier import keep_earlier
from limbeck.run.preparing import prepare
from limbeck.tasks.classification import Classification
from limbeck.training import launch
from limbeck.training.checkpoint import Checkpoints
from limbeck.training.launch import fit
from limbeck.training.teacher_cache import kept
from limbeck.training.watching import Watched
from limbeck.types import Batch, Update

RECIPE = """
name: tiny
data: {class_path: Glyphs, init_args: {size: 16, channels: 1, classes: ABC, train: 48, validation: 8, test: 8}}
task: Classification
method:
  class_path: Supervised
  init_args:
    terms: {student.logits: Kd, student.features: {class_path: Hint, init_args: {paths: {blocks.1: blocks.1}}}}
teacher:
  network: {class_path: SmallCnn, init_args: {width: 4, channels: 1, size: 16, classes: 3}}
  training: {steps: 2, batch: 16}
student:
  network: {class_path: SmallCnn, init_args: {width: 2, channels: 1, size: 16, classes: 3}}
  training: {steps: 4, batch: 16}
control: false
"""
CPU = ["--accelerator", "cpu"]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path / "tiny.yaml"


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line that a failed command said."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return next(line for line in error.splitlines() if line.startswith("limbeck: "))


# ---- files of recipes

LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'ha'] * 10)}]\n" for n in range(12))
MAPPINGS = "".join(
    f"a{n}: &a{n} {{{', '.join(f'k{k}: ' + (f'*a{n - 1}' if n else 'ha') for k in range(10))}}}\n" for n in range(12)
)
MERGES = "a0: &a0 {ha: ha}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9)
)
TOO_MANY = "expected at most 50,000 values, found more"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(LAUGHS, TOO_MANY, id="lists of aliases"),
        pytest.param(MAPPINGS, TOO_MANY, id="mappings of aliases"),
        pytest.param(MERGES, TOO_MANY, id="merged aliases"),
        pytest.param(f"a: [{'1, ' * 50_001}]", TOO_MANY, id="a long list"),
        pytest.param("[" * 5000 + "]" * 5000, "nested too deep", id="nested 5000 times"),
        pytest.param("a: &a {b: {c: *a}}", "an anchor that contains itself", id="an alias in its own anchor"),
        pytest.param("#" * 500_001, "expected a recipe of at most 500,000 bytes", id="a megabyte"),
    ],
)
def test_a_recipe_that_would_never_end(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "laughs.yaml").write_text(text)
    began = time.monotonic()
    assert main(["check", str(tmp_path / "laughs.yaml")]) == 2
    line = told(capsys)
    assert "laughs.yaml" in line and words in line
    assert time.monotonic() - began < 10


def test_nested_aliases_in_a_flag(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = "{" + LAUGHS.replace("\n", ", ") + "}"
    assert main(["check", str(recipe), "--student.network.init_args", value]) == 2
    assert TOO_MANY in told(capsys)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: &x [1, 2]\nb: *x\nc: [*x, *x]", {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}),
        ("a: &x {k: 1}\nb: {<<: *x, l: 2}", {"a": {"k": 1}, "b": {"k": 1, "l": 2}}),
        ("a: &x 3\nb: *x", {"a": 3, "b": 3}),
    ],
    ids=["lists", "merged", "a number"],
)
def test_aliases_are_written_out(text: str, found: Any, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    assert load(tmp_path / "r.yaml") == found


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "quick.yaml").write_text(RECIPE)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(os.mkfifo, "found an empty file", id="a pipe into which nobody writes"),
        pytest.param(Path.mkdir, "found a folder; name one in it: none", id="an empty folder"),
        pytest.param(_folder, "found a folder; name one in it: quick.yaml", id="a folder of recipes"),
        pytest.param(lambda p: p.symlink_to("/dev/zero"), "at most 500,000 bytes", id="a device without an end"),
        pytest.param(lambda p: p.with_name("tinny.yaml").touch(), "(did you mean 'tinny.yaml'?)", id="a misspelt file"),
        pytest.param(lambda p: p.symlink_to("nothing"), "no such recipe", id="a link to nothing"),
    ],
)
def test_what_is_no_file(
    make: Callable[[Path], object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "tiny.yaml")
    assert main(["check", str(tmp_path / "tiny.yaml")]) == 2
    assert words in told(capsys)


def test_a_pipe_into_which_somebody_writes_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # so that the writer need not wait
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)

    def write() -> None:
        time.sleep(0.2)
        os.write(writer, RECIPE.encode())
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    assert load(tmp_path / "pipe")["name"] == "tiny"
    thread.join()
    os.close(reader)


# ---- words of the command line


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["rnu", "a.yaml"], "(did you mean 'run'?)"),
        (["RUN", "a.yaml"], "(did you mean 'run'?)"),
        (["eval", "a.yaml"], "(did you mean 'evaluate'?)"),
        (["list", "smallcn"], "(did you mean 'SmallCnn'?)"),
        (["list", "kd"], "(did you mean 'Kd'?)"),
        (["list", "Generators"], "(did you mean 'generators'?)"),
        (["check", "tiny.yaml", "--student.network", "SmalCnn"], "(did you mean 'SmallCnn'?); there are "),
        (["check", "tiny.yaml", "--student.network", "resnetgenerator"], "(did you mean 'ResnetGenerator'?)"),
        (["check", "tiny.yaml", "--method.init_args.terms.student.logits", "kd"], "(did you mean 'Kd'?)"),
        (["check", "tiny.yaml", "--method.init_args.terms.student.logits", "Kullback"], ", the nearest "),
    ],
    ids=" ".join,
)
def test_a_misspelt_name_is_told_its_nearest_and_no_long_list(
    words: list[str], nearest: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    line = told(capsys)
    assert nearest in line
    assert line.count(",") < 20


@pytest.mark.parametrize(
    ("words", "closed"),
    [
        (["list"], "stdout"),
        (["schema"], "stdout"),
        (["check", "tiny.yaml", *CPU], "stdout"),  # a table of rich
        (["rnu"], "stderr"),
        (["train", "tiny.yaml", *CPU], "stderr"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_it_ends_quietly_when_nobody_reads(words: list[str], closed: str, recipe: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: writer}
    command = [sys.executable, "-c", "import sys; from limbeck.cli import main; sys.exit(main())", *words]
    done = subprocess.run(command, cwd=recipe.parent, timeout=120, check=False, **streams)
    os.close(writer)
    assert done.returncode == 141
    assert not done.stdout and not done.stderr


# ---- what a person sees while it trains


@pytest.mark.parametrize(
    ("total", "first", "seconds", "steps", "lines"),
    [
        pytest.param(20, 0, 0.1, 20, [f"{n}/20 loss 1" for n in range(2, 21, 2)], id="short: no times"),
        pytest.param(10, 0, 60, 2, ["1/10 loss 1  (0:01:00, 0:09:00 left)", "2/10 loss 1  (0:02:00, 0:08:00 left)"],
                     id="long"),
        pytest.param(1000, 0, 50, 6, ["3/1000 loss 1  (0:02:30, 13:50:50 left)",
                                       "6/1000 loss 1  (0:05:00, 13:48:20 left)"],
                     id="very long: every two minutes"),
        pytest.param(10, 8, 60, 10, ["9/10 loss 1  (0:01:00, 0:01:00 left)", "10/10 loss 1  (0:02:00)"], id="resumed"),
    ],
)  # fmt: skip
def test_lines_without_a_terminal(  # noqa: PLR0917
    total: int, first: int, seconds: float, steps: int, lines: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("toy", total, first) as bar:
        for step in range(first + 1, steps + 1):
            now[0] += seconds
            bar.update(step, {"student.loss": 1.0})
    found = capsys.readouterr().err
    assert found.splitlines() == [f"toy: {line}" for line in lines]
    assert found.isprintable() or not re.search(r"[\x00-\x09\x0b-\x1f]", found)


def test_a_resumed_training_says_so_and_shows_losses_at_once_and_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {
        "title": "toy", "steps": 10, "checkpoint_every": 2, "log_every": 100, "evaluate_every": 4,
        "monitor": lambda network: Watched({"aaa": 1.0}),
    }  # fmt: skip
    with pytest.raises(Killed):
        fit(toy_job(tmp_path, images=Dying(toy_images(), 3), **options))
    capsys.readouterr()
    fit(toy_job(tmp_path, **options))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "toy: goes on from step 2 of 10"
    assert said[1].startswith("toy: 3/10 real_fake ") and "adversarial" in said[1]
    assert said[2].startswith("toy: 4/10 real_fake ")  # and not the metric of step 4, which is the first new value


def test_a_line_for_a_person_stays_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress.say(f"{'word ' * 60}end :cat:")
    assert capsys.readouterr().err == f"{'word ' * 60}end :cat:\n"


# ---- processes

HOLD = """
import sys, time
from pathlib import Path
from limbeck.ground.locks import held
with held(Path(sys.argv[1]), "toy"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(lock: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Give a process that holds a lock for some seconds."""
    words = [sys.executable, "-c", HOLD, str(lock), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, None], ids=str)
def test_a_lock_dies_with_its_holder(
    number: signal.Signals | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "new" / ".lock"
    with holder(lock, 600 if number else 0.5) as process:
        if number is not None:
            threading.Timer(0.5, process.send_signal, [number]).start()
        with held(lock, "toy (seed 0)"):
            assert process.wait() == (-number if number else 0)
    said = capsys.readouterr().err
    assert re.fullmatch(
        rf"toy \(seed 0\): process {process.pid} on \S+ since \d+-\d+-\d+ \d+:\d+ is at it; waiting until it ends\n",
        said,
    )
    with held(lock, "toy"):
        pass
    assert capsys.readouterr().err == ""


def test_a_lock_waits_for_what_a_killed_holder_had_started(tmp_path: Path) -> None:
    freed: list[float] = []
    with joined(tmp_path / ".lock"):
        thread = threading.Thread(target=lambda: _hold(tmp_path / ".lock", freed))
        thread.start()
        thread.join(0.3)
        assert not freed
    thread.join()
    assert freed


def _hold(lock: Path, freed: list[float]) -> None:
    with held(lock, "toy"):
        freed.append(time.monotonic())


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LimbeckError, match=r"cannot be written \(.*choose another folder with --out"),
        held(tmp_path / "file" / ".lock", "toy"),
    ):
        pass


def student(recipe: Path, *flags: tuple[str, str]) -> Arm:
    """Return the student, whose teacher is trained."""
    arm = prepare(read_recipe(recipe, list(flags)), recipe.parent / "out", accelerator="cpu").students["student"][0]
    assert arm.teacher is not None
    arm.teacher.fit()
    return arm


def test_the_second_of_two_runs_waits_and_takes_what_the_first_has_trained(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = student(recipe), student(recipe)
    place = first.job().place
    with held(place.lock, "first"):
        thread = threading.Thread(target=second.fit)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        fit(first.job())
        trained = place.final.stat().st_mtime_ns
    thread.join()
    said = capsys.readouterr().err
    assert f"student (seed 0): process {os.getpid()} on " in said
    assert "student (seed 0): reused, its recipe has not changed" in said
    assert place.final.stat().st_mtime_ns == trained


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        (".final.safetensors.abc.part", True),
        ("checkpoints/.step-000000002.safetensors.abc.part", True),
        (".evaluation-0123.json.abc.part", True),
        ("mine.part", False),
        (".mine", False),
    ],
)
def test_what_a_kill_left_half_written_goes_when_the_arm_is_taken_up(name: str, goes: bool, recipe: Path) -> None:
    arm = student(recipe)
    left = arm.folder / name
    left.parent.mkdir(parents=True)
    left.touch()
    arm.fit()
    assert left.exists() != goes


def rows_of(outputs: torch.Tensor) -> Callable[[Path], None]:
    """Return what fills a teacher's cache with these."""

    def fill(path: Path) -> None:
        with RowsWriter(path, len(outputs)) as rows:
            rows.add({"": outputs})

    return fill


@pytest.mark.parametrize(
    ("name", "goes"), [(".cache.safetensors.abc.part", True), (".other.safetensors.abc.part", False)]
)
def test_what_a_kill_left_of_a_teachers_outputs_goes(name: str, goes: bool, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    kept(tmp_path / "cache.safetensors", 2, rows_of(torch.zeros(2, 1)))
    assert (tmp_path / name).exists() != goes


def test_what_a_kill_left_of_a_report_goes(recipe: Path, _blank_drawings: None) -> None:
    for name in (".report.html.abc.part", ".result.json.abc.part", ".student.safetensors.abc.part", ".mine.abc.part"):
        (recipe.parent / "out").mkdir(exist_ok=True)
        (recipe.parent / "out" / name).touch()
    assert main(["run", str(recipe), "--out", str(recipe.parent / "out"), *CPU]) == 0
    assert [file.name for file in (recipe.parent / "out").glob("*.part")] == [".mine.abc.part"]


class Leaving(ToyGan):
    """One of its processes ends in the middle of the sixth step."""

    def __init__(self, end: Callable[[], object], **options: Any) -> None:
        super().__init__(**options)
        self.end = end

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        if step == 5 and torch.distributed.get_rank() == 1:
            self.end()
        yield from super().updates(batch, step)


def kill_oneself() -> None:
    """Do what the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_told_in_a_line_and_takes_the_other_with_it(tmp_path: Path) -> None:
    job = toy_job(tmp_path, Leaving(kill_oneself), processes=2, checkpoint_every=2, title="toy")
    with pytest.raises(TrainingError) as caught:
        fit(job)
    assert re.fullmatch(
        r"toy: process 1 \(pid \d+\) was killed by SIGKILL, as the system does when memory runs out; the last"
        r" checkpoint is step-000000004\.safetensors; the same command goes on from there",
        str(caught.value),
    )
    began = time.monotonic()
    with held(job.place.lock, "toy"):
        assert time.monotonic() - began < 1  # as no process is left that trains there


class NoFabric:
    """Stands in for processes of which one ends in some way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, **_: Any) -> NoFabric:
        return self

    def launch(self, function: Any) -> None:
        raise self.error


KILLED = ProcessExitedException("", 1, 77, -9, "SIGKILL")
ABORTED = ProcessExitedException("", 0, 78, -6, "SIGABRT")
LEFT = ProcessExitedException("", 1, 79, 3)


@pytest.mark.parametrize(
    ("error", "saved", "words"),
    [
        (KILLED, "nothing", "process 1 (pid 77) was killed by SIGKILL, as the system does when memory runs out;"
         " there is no checkpoint yet; the same command"),
        (ABORTED, "a checkpoint", "process 0 (pid 78) was killed by SIGABRT; the last checkpoint is step-000000004"),
        (LEFT, "a checkpoint", "process 1 (pid 79) ended with status 3; the last checkpoint is step-000000004"),
        (ABORTED, "everything", "process 0 (pid 78) was killed by SIGABRT when everything was saved"),
    ],
)  # fmt: skip
def test_a_process_that_ended(  # noqa: PLR0917
    error: Exception, saved: str, words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    job = toy_job(tmp_path, processes=2)
    if saved != "nothing":
        Checkpoints(job.place.checkpoints, warn=print).save(4, {})
    if saved == "everything":
        job.place.final.touch()
    monkeypatch.setattr("lightning_fabric.Fabric", NoFabric(error))
    try:
        fit(job)
        said = capsys.readouterr().err
    except TrainingError as caught:
        assert saved != "everything"
        said = str(caught)
    assert words in said and "\n" not in said.strip()


@pytest.mark.parametrize("error", [None, TrainingError("toy"), KeyboardInterrupt()], ids=repr)
def test_a_process_leaves_its_group_however_it_ends(
    error: BaseException | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []

    def train(*_: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(launch, "_train_part", train)
    monkeypatch.setattr(launch, "parent_process", threading.main_thread)  # which is alive
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: left.append("left"))
    try:
        launch._one_of_several(None, toy_job(tmp_path))  # type: ignore[arg-type]
    except (TrainingError, KeyboardInterrupt) as caught:
        assert caught is error
    assert left == ["left"]


# ---- two recipes of one name in one folder

SHIPPED = Path(__file__).parents[2] / "results"


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """Return a result that has been written, with a report and a student beside it, and a file of somebody's own."""
    found = Result.read(next(SHIPPED.glob("*.json")))
    name = next(name for name, arm in found.arms.items() if arm.role == "student")
    found = replace(found, arms={name: found.arms[name]})
    found.write(tmp_path / "result.json")
    for file in ("report.html", f"{name}.safetensors", "mine.safetensors"):
        (tmp_path / file).write_text(f"old {file}")
    return found


@pytest.mark.parametrize(
    ("change", "kept_aside"),
    [
        ({}, False),
        ({"seeds": (7,)}, False),  # what the same recipe finds is replaced
        ({"recipe_hash": "another"}, True),
        ({"data": None}, True),
    ],
    ids=["the same", "the same recipe", "an edited recipe", "other data"],
)
def test_a_report_of_another_recipe_is_kept(
    change: Mapping[str, Any], kept_aside: bool, result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    keep_earlier(tmp_path, replace(result, **change))
    aside = list((tmp_path / "earlier").glob("*/*"))
    found = {file.name: file.read_bytes() for file in (*aside, *tmp_path.iterdir()) if file.is_file()}
    assert found == before
    assert len(aside) == (3 if kept_aside else 0) and (tmp_path / "mine.safetensors").exists()
    assert ("the report of another recipe was here; it is now in" in capsys.readouterr().err) == kept_aside


def test_what_a_damaged_result_stood_for_is_kept_too(result: Result, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{")
    keep_earlier(tmp_path, result)
    assert len(list((tmp_path / "earlier").glob("*/*"))) == 4
    keep_earlier(tmp_path, result)  # there is nothing any more


def test_an_edited_recipe_runs_in_the_same_folder_and_loses_nothing(
    recipe: Path, capsys: pytest.CaptureFixture[str], _blank_drawings: None
) -> None:
    out = recipe.parent / "out"
    command = ["run", str(recipe), "--out", str(out), *CPU]
    assert main(command) == 0
    first = {name: (out / name).read_bytes() for name in ("result.json", "report.html", "student.safetensors")}
    assert main(command) == 0
    assert not (out / "earlier").exists()
    first = {name: (out / name).read_bytes() for name in first}
    capsys.readouterr()
    assert main([*command, "--student.training.steps", "5"]) == 0
    said = capsys.readouterr().err
    assert "reused" in said and "--out gives a run a folder of its own" in said
    (aside,) = (out / "earlier").iterdir()
    assert {file.name: file.read_bytes() for file in aside.iterdir()} == first
    assert all((out / name).read_bytes() != content for name, content in first.items())


# ---- messages that say what to do


class Answers(nn.Module):
    """A teacher that says the same to everything."""

    def __init__(self, value: float, where: str) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((3,), value if where == "weights" else 0.0))
        self.added = value if where == "answers" else 0.0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (self.value + self.added).expand(len(image), 3)


@pytest.mark.parametrize(
    ("value", "where", "words"),
    [
        (torch.nan, "weights", "the weights of the teacher hold NaN or infinity: load others"),
        (torch.inf, "weights", "the weights of the teacher hold NaN or infinity: load others"),
        (torch.nan, "answers", "look at what the teacher says to the first images"),
    ],
)
def test_a_teacher_that_says_nan(value: float, where: str, words: str, tmp_path: Path) -> None:
    images = InMemory(torch.zeros(32, 1, 8, 8, dtype=torch.uint8), torch.zeros(32, dtype=torch.int64))
    method = Supervised(
        SmallCnn(width=2, channels=1, size=8, classes=3), Answers(value, where), terms={"student.logits": Kd()}
    )
    with pytest.raises(TrainingError) as caught:
        fit(toy_job(tmp_path, method, images=images, task=Classification()))
    assert "is not finite at step 0, when nothing had learned yet" in str(caught.value) and words in str(caught.value)
    assert "learning rate" not in str(caught.value)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [_cut, lambda path: path.write_bytes(b"no")], ids=["cut", "another file"])
def test_a_damaged_final_state_can_be_made_again(damage: Callable[[Path], object], recipe: Path) -> None:
    arm = student(recipe).fit()
    before = {name: value.clone() for name, value in arm.state["student"].items()}  # as the file is mapped into memory
    final = arm.folder / "final.safetensors"
    damage(final)
    again = student(recipe)
    with pytest.raises(CheckpointError, match="delete it, and the training goes on from its last checkpoint"):
        again.fit().network()
    final.unlink()
    after = again.fit().state["student"]
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("damage", [_cut, lambda path: path.write_bytes(b"no")], ids=["cut", "another file"])
def test_damaged_outputs_of_a_teacher_can_be_made_again(damage: Callable[[Path], object], tmp_path: Path) -> None:
    file = tmp_path / "cache.safetensors"
    outputs = torch.arange(3.0)[:, None]
    kept(file, 3, rows_of(outputs))
    damage(file)
    with pytest.raises(CheckpointError, match=r"cache\.safetensors.*; delete it, and the teacher is asked again"):
        kept(file, 3, rows_of(outputs))
    file.unlink()
    assert torch.equal(kept(file, 3, rows_of(outputs)).outputs[""], outputs)


def test_a_folder_that_is_deleted_while_it_trains_is_made_again(tmp_path: Path) -> None:
    class Deleting(ToyGan):
        def updates(self, batch: Batch, step: int) -> Iterator[Update]:
            if step == 5:
                shutil.rmtree(tmp_path / "arm")
            yield from super().updates(batch, step)

    job = toy_job(tmp_path / "arm", Deleting(), checkpoint_every=2)
    fit(job)
    assert job.place.final.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOENT], ids=errno.errorcode.get)
def test_a_state_that_cannot_be_written(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(
        CheckpointError, match=r"free space, or choose another folder with --out; the same command goes on"
    ):
        fit(toy_job(tmp_path))


# ---- a teacher's stored outputs

BF16 = ("student.training.precision", "bf16")
LAST = ("student.training.channels_last", "true")
VIEWS = ("student.training.views", "2")
TURNED = ("student.augmentation", "{class_path: Rotation, init_args: {degrees: 20}}")


@pytest.mark.parametrize(
    "flags", [(BF16,), (LAST,), (BF16, LAST), (BF16, TURNED), (LAST, TURNED)], ids=lambda f: " ".join(k for k, _ in f)
)
def test_what_is_stored_is_what_the_training_would_compute(flags: tuple[tuple[str, str], ...], recipe: Path) -> None:
    without = student(recipe, *flags, VIEWS).fit().state
    within = student(recipe, *flags, VIEWS, ("student.training.teacher_cache", "true")).fit().state
    for name, value in without["student"].items():
        torch.testing.assert_close(within["student"][name], value, rtol=1e-6, atol=1e-6)
    for one, other in zip(without["history"], within["history"], strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_stored_outputs_are_known_by_the_arithmetic(recipe: Path) -> None:
    for flags in ((), (BF16,), (LAST,)):
        student(recipe, *flags, ("student.training.teacher_cache", "true")).fit()
    assert len(list((recipe.parent / "out/arms").glob("teacher-cache-*.safetensors"))) == 3

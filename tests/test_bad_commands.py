"""Bad input to the command line and to `distill`: one clear line, exit status 2, and nothing half-written.

A row of `COMMANDS` is a name, what a user does in a folder with a finished run (it returns the words after `limbeck`),
and words that the line must have. What is wrong with a recipe itself is in `test_bad_input`.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import limbeck
from limbeck.cli import FLAGS, main
from limbeck.commands import VERBS
from limbeck.data.base import Split
from limbeck.errors import LimbeckError
from limbeck.metrics.cost import Cost
from limbeck.networks.gan.dcgan import DcganDiscriminator
from limbeck.tasks.generation import Generation
from limbeck.terms.perceptual import CriticFeatures
from limbeck.training import checkpoint

RECIPE = """
name: tiny
data: {class_path: Glyphs, init_args: {size: 16, train: 64, validation: 16, test: 32, channels: 1}}
task: {class_path: Generation, init_args: {latent: [8], samples: 32}}
method: Gan
networks: {discriminator: {class_path: DcganDiscriminator, init_args: {width: 4, size: 16}}}
teacher:
  network: {class_path: DcganGenerator, init_args: {width: 4, latent: 8, size: 16}}
  training: {steps: 1, batch: 8}
student:
  network: {class_path: DcganGenerator, init_args: {width: 2, latent: 8, size: 16}}
  training: {steps: 1, batch: 8}
"""
CPU = ("--accelerator", "cpu")
NO_TEACHER_TRAINING = ("--teacher.training", "null")
CUT = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Command:
    """What a user does wrong, and what the line has to say.

    Attributes:
        name: Names the test.
        act: Prepares the folder and returns the words after `limbeck`.
        words: Parts of the line.
    """

    name: str
    act: Callable[[Path], tuple[str, ...]]
    words: tuple[str, ...]


def says(line: str, *words: str) -> Command:
    """A command that is wrong in itself, written as in a shell; in `words` first a name, if it is not the line."""
    return Command(line, lambda _: tuple(line.split()), words)


def on(
    verb: str, prepare: Callable[[Path], object], *words: str, flags: tuple[str, ...] = (), name: str = ""
) -> Command:
    """A good command in a folder that `prepare` has spoilt."""

    def act(folder: Path) -> tuple[str, ...]:
        prepare(folder)
        return (verb, "tiny.yaml", *CPU, *flags)

    return Command(name or f"{verb}: {prepare.__name__}", act, words)


def arm(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"runs/tiny/arms/{name}-seed0-*")
    return found


def unmeasured(folder: Path) -> Path:
    """Return the student's final state, after forgetting what was measured on it."""
    for known in arm(folder, "student").glob("evaluation-*"):
        known.unlink()
    return arm(folder, "student") / "final.safetensors"


def a_truncated_state(folder: Path) -> None:
    file = unmeasured(folder)
    file.write_bytes(file.read_bytes()[:-100])


def a_state_with_one_bit_changed(folder: Path) -> None:
    file = unmeasured(folder)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def the_state_of_another_arm(folder: Path) -> None:
    shutil.copy(arm(folder, "teacher") / "final.safetensors", unmeasured(folder))


def a_damaged_evaluation(folder: Path) -> None:
    for known in arm(folder, "student").glob("evaluation-*"):
        known.write_text("{")


def nothing_trained(folder: Path) -> None:
    shutil.rmtree(folder / "runs")


def an_empty_file_as_state(folder: Path) -> None:
    unmeasured(folder).write_bytes(b"")


def unfinished(folder: Path, content: Callable[[bytes], bytes]) -> None:
    """Make the student's training an interrupted one, with other checkpoints."""
    unmeasured(folder).unlink()
    for file in (arm(folder, "student") / "checkpoints").iterdir():
        file.write_bytes(content(file.read_bytes()))


def truncated_checkpoints(folder: Path) -> None:
    unfinished(folder, lambda content: content[: len(content) // 2])


def altered_checkpoints(folder: Path) -> None:
    unfinished(folder, lambda content: content[:-3] + bytes(3))


def the_checkpoint_of_another_run(folder: Path) -> None:
    theirs = next((arm(folder, "control") / "checkpoints").iterdir()).read_bytes()
    unfinished(folder, lambda _: theirs)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch it-ran",)


def weights_with_code(folder: Path) -> None:
    torch.save({"state_dict": Code()}, folder / "weights.pth")


def weights_with_nan(folder: Path) -> None:
    tensors = load_file(folder / "runs/tiny/student.safetensors")
    tensors["output.weight"][0, 0, 0, 0] = torch.nan
    save_file(tensors, folder / "weights.safetensors")


def truncated_weights(folder: Path) -> None:
    whole = (folder / "runs/tiny/student.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(whole[: len(whole) // 2])


def weights_of_another_kind(folder: Path) -> None:
    (folder / "weights.onnx").write_bytes(b"no")


def good(folder: Path) -> None:
    pass


def data(description: str) -> Callable[[Path], None]:
    """Put other data into the recipe."""

    def prepare(folder: Path) -> None:
        lines = (folder / "tiny.yaml").read_text().splitlines()
        (folder / "tiny.yaml").write_text("\n".join([f"data: {description}" if "data:" in x else x for x in lines]))

    return prepare


def pictures(bad: bytes | None, *, options: str = "", count: int = 30) -> Callable[[Path], None]:
    """Put a folder of pictures into the recipe, one of them undecodable."""

    def prepare(folder: Path) -> None:
        (folder / "pictures").mkdir()
        for i in range(count):
            Image.new("L", (20, 20), i).save(folder / f"pictures/{i}.png")
        if bad is not None:
            (folder / "pictures/bad.png").write_bytes(bad)
        data(f"{{class_path: ImageFolder, init_args: {{path: pictures, size: 16, channels: 1{options}}}}}")(folder)

    return prepare


def pairs(**arrays: Any) -> Callable[[Path], None]:
    """Put pairs of latent and image into the recipe."""

    def prepare(folder: Path) -> None:
        given = {"latent": np.zeros((40, 8), np.float32), "image": np.zeros((40, 1, 16, 16), np.uint8)} | arrays
        np.savez(folder / "pairs.npz", **given)
        data("{class_path: LatentPairs, init_args: {path: pairs.npz}}")(folder)

    return prepare


def a_file_called(name: str, content: str = "x") -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / name).write_text(content)

    return prepare


def compared(name: str, content: bytes | None, *words: str) -> Command:
    def act(folder: Path) -> tuple[str, ...]:
        if content is not None:
            (folder / "result.json").write_bytes(content)
        return ("compare", "runs/tiny", "result.json")

    return Command(f"compare: {name}", act, ("result.json", *words))


WORDS = [
    says("rnu tiny.yaml", "invalid choice: 'rnu' (did you mean 'run'?)", "see limbeck --help"),
    says("run", "required: recipe", "see limbeck run --help"),
    says(
        "run tiny.yaml --sedes 3", "unrecognized arguments: --sedes (did you mean --seeds?)", "see limbeck run --help"
    ),
    says("run tiny.yaml --seeds", "--seeds: expected one argument"),
    says("run tiny.yaml --seeds many", "--seeds: expected a whole number, found 'many'"),
    says("run tiny.yaml --seeds 0", "seeds: expected a whole number of at least 1, found 0"),
    says("run tiny.yaml --seeds -2", "seeds: expected a whole number of at least 1, found -2"),
    says("run tiny.yaml --student.training.steps", "--student.training.steps: expected a value after it, found none"),
    says("run absent.yaml", "absent.yaml: no such recipe"),
    says("run tiny.yaml --accelerator tpu", "accelerator: expected auto, cpu, cuda, mps, found 'tpu'"),
    says("check tiny.yaml --accelerator gpu", "accelerator: expected auto, cpu, cuda, mps, found 'gpu'"),
    says("sample tiny.yaml --arm studnet", "--arm studnet: no such arm (did you mean 'student'?)", "teacher, control"),
    says("train tiny.yaml --seed -1", "--seed: expected a whole number of at least 0, found -1"),
    says(
        "evaluate tiny.yaml --split tset",
        "--split: expected train, validation, test, found 'tset' (did you mean 'test'",
    ),
    says("train tiny.yaml --arm x18", "--arm x18: no such arm", "there is teacher, control, student"),
    says("sample tiny.yaml --seed one", "--seed: expected a whole number, found 'one'"),
    says("sample tiny.yaml --pairs 0", "--pairs: expected a whole number of at least 1, found 0"),
    says("sample tiny.yaml --pairs -5", "--pairs: expected a whole number of at least 1, found -5"),
    says("sample tiny.yaml --pairs few", "--pairs: expected a whole number, found 'few'"),
    says("sample tiny.yaml --pairs 5 --to a.png", "--to: expected a file that ends in .safetensors", "found a.png"),
    says("list nonsense", "list nonsense: no such room or class; there are the rooms attack strengths, attacks"),
    says("list DcganGenerater", "no such room or class (did you mean 'DcganGenerator'?)"),
    says("compare", "required: results"),
    says("compare runs/absent --format cvs", "--format: expected text, md, csv, json, found 'cvs' (did you mean 'csv'"),
    says("compare runs/absent", "runs/absent: could not be read", "expected a result.json"),
    says("compare runs", "runs/result.json: could not be read", "expected a result.json"),
    compared("no JSON", b"{", "expected the JSON of a result"),
    compared("a picture", CUT, "expected the JSON of a result"),
    compared("another JSON", b'{"a": 1}', "expected a result as `limbeck run` writes it"),
    compared("a list", b"[1]", "expected a result as `limbeck run` writes it"),
]

STATES = [
    on("evaluate", nothing_trained, "student (seed 0) is not trained yet", "use `limbeck train`"),
    on("sample", nothing_trained, "student (seed 0) is not trained yet"),
    on("evaluate", a_truncated_state, "final.safetensors: not a whole safetensors file"),
    on("evaluate", an_empty_file_as_state, "final.safetensors: not a whole safetensors file"),
    on("evaluate", a_state_with_one_bit_changed, "final.safetensors: its content does not match its checksum"),
    on("evaluate", the_state_of_another_arm, "final.safetensors: belongs to another training; delete"),
    on("evaluate", a_damaged_evaluation, "a damaged evaluation", "delete it to evaluate again"),
    on("run", truncated_checkpoints, "step-000000001.safetensors: not a whole safetensors file", "to restart"),
    on("run", altered_checkpoints, "does not match its checksum", "so is every other in the folder"),
    on("run", the_checkpoint_of_another_run, "its checkpoint belongs to another training", "--out"),
]

WEIGHTS = [
    on("evaluate", good, "--weights: no such file: no.safetensors", flags=("--weights", "no.safetensors"), name="none"),
    on("evaluate", weights_with_code, "holds", "system that is no tensor", flags=("--weights", "weights.pth")),
    on(
        "evaluate", weights_with_nan, "weights.safetensors: output.weight holds 1 of 32 values that are NaN",
        flags=("--weights", "weights.safetensors"),
    ),
    on(
        "evaluate", truncated_weights, "weights.safetensors: truncated, or not a weight file",
        flags=("--weights", "weights.safetensors"),
    ),
    on("evaluate", weights_of_another_kind, "truncated, or not a weight file", flags=("--weights", "weights.onnx")),
    on(
        "run", good, "student.safetensors: made for another network than this DcganGenerator",
        "blocks.0.conv.weight expected (8, 8, 4, 4), found (8, 4, 4, 4)",
        flags=("--teacher.load", "runs/tiny/student.safetensors", *NO_TEACHER_TRAINING), name="another teacher",
    ),
    on(
        "run", weights_with_code, "weights.pth: holds",
        flags=("--teacher.load", "weights.pth", *NO_TEACHER_TRAINING), name="teacher with code",
    ),
    on(
        "run", good, "teacher.load: no such file: absent.pth",
        flags=("--teacher.load", "absent.pth", *NO_TEACHER_TRAINING), name="no teacher file",
    ),
]  # fmt: skip

COLOUR = "{channels: 3, latent: 8}"
STREAMED = ", streaming: true"
WORKER = ("--teacher.training.workers", "1")
DATA = [
    on("run", pictures(CUT), "pictures/bad.png: cannot be decoded", "repair or remove it", name="undecodable"),
    on("run", pictures(b""), "pictures/bad.png: cannot be decoded", name="an empty picture"),
    on("run", pictures(CUT, options=STREAMED), "bad.png: cannot be decoded", flags=WORKER, name="streamed undecodable"),
    on("run", pictures(None, count=0), "pictures: expected images (", "found none", name="an empty folder"),
    on("run", pictures(None, count=1), "no image is left for the", name="a single picture"),
    on("run", data("{class_path: ImageFolder, init_args: {path: absent}}"), "no such folder", name="no folder"),
    on("run", data("{class_path: ImageFolder, init_args: {path: tiny.yaml}}"), "found a file", name="a file as folder"),
    on(
        "train", data("CIFAR10"), "data_batch_1 is missing: put it into no-root/cifar-10-batches-py",
        flags=(
            "--data-root", "no-root", "--teacher.network.init_args", COLOUR, "--student.network.init_args", COLOUR,
            "--networks.discriminator.init_args", "{channels: 3}",
        ), name="no data root",
    ),
    on("run", pairs(latent=np.zeros((39, 8))), "pairs.npz: expected `latent` (40, ...)", name="pairs that are none"),
    on("run", pairs(latent=np.zeros((40, 9), np.float32)), "expected the shape of the data's own latents, [9]",
       name="pairs of another latent"),
    on("run", pairs(image=np.zeros((40, 1, 8, 8), np.uint8)), "student.network: expected images (1, 8, 8)",
       name="small pairs"),
    on("run", pairs(latent=np.full((40, 8), None)), "pairs.npz: damaged, or no .npz file", "allow_pickle",
       name="pickled pairs"),
    on("run", good, "student: expected a training.batch of at most", "found 65 and 64",
       flags=("--student.training.batch", "65"), name="a batch larger than the data"),
    on("run", good, "student.network: expected images (1, 16, 16) (C, H, W) as in glyphs, found (1, 32, 32)",
       flags=("--student.network.init_args.size", "32"), name="images of another size"),
    on("run", good, "student.network: expected latents (8,) as the task draws them, found (9,)",
       flags=("--student.network.init_args.latent", "9"), name="latents of another length"),
    on("run", good, "student.network: expected the 36 classes of glyphs, found 3",
       flags=("--student.network.init_args.classes", "3"), name="too few classes"),
    on("run", good, "student.training.batch: expected a whole number of at least 1, found 0",
       flags=("--student.training.batch", "0"), name="a batch of none"),
    on("run", good, "student.network: DcganGenerator.width: expected a whole number of at least 1, found -4",
       flags=("--student.network.init_args.width", "-4"), name="a negative width"),
    on("run", good, "task.samples: expected at least 2, found -1",
       flags=("--task.init_args.samples", "-1"), name="a negative number of samples"),
    on("run", good, "Glyphs.train: expected at least 1 image, found 0",
       flags=("--data.init_args.train", "0"), name="no images"),
]  # fmt: skip

BELOW = a_file_called("file")
PLACES = [
    on(verb, BELOW, "file/x/arms: cannot be made (Not a dir", flags=("--out", "file/x"), name=f"{verb} to file/x")
    for verb in ("run", "train", "evaluate", "sample")
] + [
    on("run", BELOW, "file/x: cannot be made", flags=("--arms", "file/x", "--out", "new"), name="--arms file/x"),
    on("sample", BELOW, "file: cannot be written", flags=("--to", "file/x.png"), name="a picture below a file"),
    on("sample", BELOW, "file/x.safetensors: cannot be written",
       flags=("--pairs", "5", "--to", "file/x.safetensors"), name="pairs below a file"),
    on("sample", good, "runs: cannot be written (Is a directory)", flags=("--to", "runs"), name="--to a folder"),
]  # fmt: skip

COMMANDS = [*WORDS, *STATES, *WEIGHTS, *DATA, *PLACES]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tiny recipe and a finished run of it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        # To measure it takes seconds.
        patch.setattr(
            "limbeck.run.assessing.costs",
            lambda networks, _: dict.fromkeys(networks, Cost({"parameters": 1.0}, {})),
        )
        assert main(["run", str(folder / "tiny.yaml"), "--out", str(folder / "runs/tiny"), *CPU]) == 0
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of it, the working directory."""
    place = tmp_path / "here"
    shutil.copytree(finished, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("LIMBECK_DATA", str(place / "no-data"))
    return place


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".lock"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line that a failed command said."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    (start,) = [i for i, line in enumerate(error.splitlines()) if line.startswith("limbeck: ")]
    lines = error.splitlines()[start:]
    assert all(len(line) < 500 for line in lines)
    return " ".join(lines)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_bad_command_is_told_in_a_line_and_leaves_nothing_behind(
    command: Command, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.act(folder)
    before = contents(folder)
    assert main(list(words)) == 2
    line = told(capsys)
    for word in command.words:
        assert word in line
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before
    whole = {name for name in after.keys() - before.keys() if "/arms/" in name and not name.endswith(".part")}
    assert after.keys() == before.keys() | whole, "only whole arms may be new"


def test_the_commands_are_many_and_their_names_unique() -> None:
    assert len(COMMANDS) >= 60
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize("words", [["evaluate"], ["sample"], ["sample", "--pairs", "9"], ["train"]], ids=" ".join)
def test_the_commands_that_the_cases_spoil_are_good(words: list[str], folder: Path) -> None:
    assert main([words[0], "tiny.yaml", *CPU, *words[1:]]) == 0


def test_trained_weights_go_where_they_are_asked_for_and_follow_the_seed(folder: Path) -> None:
    for seed in ("0", "1"):
        assert main(["train", "tiny.yaml", *CPU, "--seed", seed, "--to", f"student-{seed}.safetensors"]) == 0
    first, second = (load_file(f"student-{seed}.safetensors") for seed in (0, 1))
    assert first.keys() == second.keys() and any(not torch.equal(first[name], second[name]) for name in first)
    (arm,) = folder.rglob("student-seed1-*")
    trained = checkpoint.load(arm / "final.safetensors")["student"]
    assert second.keys() == trained.keys() and all(torch.equal(second[name], trained[name]) for name in second)


def test_an_arm_of_another_seed_is_the_one_that_a_run_of_several_seeds_trains(folder: Path) -> None:
    assert main(["train", "tiny.yaml", *CPU, "--seed", "1"]) == 0
    (trained,) = folder.rglob("student-seed1-*")
    (teacher,) = folder.rglob("teacher-seed*")
    assert main(["run", "tiny.yaml", *CPU, "--seeds", "2"]) == 0
    assert list(folder.rglob("student-seed1-*")) == [trained] and list(folder.rglob("teacher-seed*")) == [teacher]
    assert main(["train", "tiny.yaml", *CPU, "--arm", "teacher", "--seed", "1"]) == 0
    assert len(list(folder.rglob("teacher-seed1-*"))) == 1


def test_settings_are_chosen_on_the_validation_split(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Split] = []
    evaluate = Generation.evaluate

    def noted(self: Generation, *args: Any, split: Split, **options: Any) -> dict[str, float]:
        asked.append(split)
        return evaluate(self, *args, split=split, **options)

    monkeypatch.setattr(Generation, "evaluate", noted)
    for split in ([], ["--split", "test"], ["--split", "validation"], ["--split", "validation"]):
        assert main(["evaluate", "tiny.yaml", *CPU, *split]) == 0
    assert asked == ["validation"], "on test data the run before has measured already; each split is measured once"


def test_weights_are_only_written_as_safetensors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    assert main(["train", "tiny.yaml", *CPU, "--to", "student.pth"]) == 2
    assert "--to: expected a file that ends in .safetensors, found student.pth" in told(capsys)
    assert contents(folder) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the test needs it not to have")
@pytest.mark.parametrize("verb", ["run", "train", "evaluate", "sample", "check"])
def test_an_accelerator_that_is_not_there(verb: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    assert main([verb, "tiny.yaml", "--accelerator", "cuda"]) == 2
    assert "accelerator: expected one that PyTorch finds here (cpu" in told(capsys)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["run", "--out", "new"], "safetensors: could not be written (No space left on device)"),
        (["sample"], "cannot be written (No space left on device)"),
        (["sample", "--pairs", "5"], "pairs.safetensors: cannot be written (No space left on device)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_full_disk(
    words: list[str], place: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before = contents(folder)
    assert main([words[0], "tiny.yaml", *CPU, *words[1:]]) == 2
    line = told(capsys)
    assert place in line and "free space" in line
    assert contents(folder) == before


# distill


def theirs(width: int = 2, latent: int = 6, side: int = 4) -> nn.Module:
    """Return a generator of 2 side x 2 side images in [0, 1] that knows nothing of Limbeck."""
    return nn.Sequential(
        nn.Linear(latent, width * side * side), nn.Unflatten(1, (width, side, side)),
        nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


def spoilt() -> nn.Module:
    network = theirs()
    nn.init.constant_(network[0].bias, torch.nan)  # type: ignore[arg-type, index]
    return network


DISTILL: dict[str, tuple[dict[str, Any], str]] = {
    "a larger student": ({"student": theirs(side=8)}, r"student: expected images \(2, 3, 8, 8\) .* \(2, 3, 16, 16\)"),
    "a student of other latents": ({"student": theirs(latent=7)}, r"student: Seq.* cannot be called .* \(2, 6\): Runt"),
    "a student that makes no images": ({"student": nn.Linear(6, 5)}, r"student: .* \(N, C, H, W\), found \(2, 5\)"),
    "a teacher that is a file": ({"teacher": "model.pth"}, r"teacher: expected a torch.nn.Module, found 'model.pth'"),
    "a teacher of NaN": ({"teacher": spoilt()}, "the teacher answers with NaN or infinity; check its weights"),
    "a student of NaN": ({"student": spoilt()}, "the student answers with NaN or infinity"),
    "wrong latent": ({"latent": (7,)}, r"teacher: Sequential cannot be called with an input \(2, 7\)"),
    "latent of size 0": ({"latent": (0,)}, r"latent: expected the shape of one latent, such as \(128,\), found \(0,\)"),
    "negative latent": ({"latent": (-6,)}, r"latent: expected the shape of one latent.*found \(-6,\)"),
    "no latent": ({"latent": ()}, r"latent: expected the shape of one latent.*found \(\)"),
    "latent as a number": ({"latent": 6}, "latent: expected the shape of one latent.*found 6"),
    "unknown method": ({"method": "gna"}, "no method 'gna' .did you mean 'gan'.*supervised"),
    "unknown option": ({"penalti": "r1"}, r"no such argument 'penalti' of Gan.* \(did you mean 'penalty'\?\)"),
    "moved option": ({"penalty": "r1"}, r"now written as a term: .*R1\(weight=..., every=...\) or GradientPenalty"),
    "wrong option": ({"critic_steps": 0}, "critic_steps: expected a whole number of at least 1, found 0"),
    "no latent at all": ({"latent": None}, r"latent: expected the shape of one latent, .* no `task` is given"),
    "no range": ({"image_range": None}, "image_range: expected the range of the images that the teacher and the stud"),
    "unknown loss": ({"weights": {"student.ouput": 1.0}}, "student.ouput: no such loss .did you mean 'student.output'"),
    "negative weight": ({"weights": {"student.output": -1.0}}, "student.output: weight: .* number of at least 0"),
    "floats out of range": ({"data": torch.full((64, 3, 8, 8), 255.0)}, r"images in \[0, 1\], found 255..255"),
    "images of NaN": ({"data": torch.full((64, 3, 8, 8), torch.nan)}, "finite float images, found NaN"),
    "images of int64": ({"data": torch.zeros(64, 3, 8, 8, dtype=torch.int64)}, r"uint8 .* found torch.int64"),
    "no channel": ({"data": torch.zeros(64, 8, 8)}, r"images \(N, C, H, W\), found a tensor of shape \(64, 8, 8\)"),
    "no images": ({"data": torch.zeros(0, 3, 8, 8)}, r"images \(N, C, H, W\), found .*\(0, 3, 8, 8\)"),
    "images of another size": ({"data": torch.zeros(64, 3, 4, 4)}, r"teacher: expected images \(2, 3, 4, 4\)"),
    "no folder": ({"data": "absent"}, "data: no such folder: absent"),
    "reversed range": ({"image_range": (1, 0)}, r"expected \[low, high\] with low < high, found \[1.0, 0.0\]"),
    "no steps": ({"steps": 0}, "distill: steps: expected a whole number of at least 1, found 0"),
    "negative batch": ({"batch": -1}, "distill: batch: expected a whole number of at least 1, found -1"),
    "large batch": ({"batch": 640}, "a training.batch of at most the number of training images, found 640 and 52"),
    "no seeds": ({"seeds": 0}, "seeds: expected a whole number of at least 1, found 0"),
    "no samples": ({"samples": 0}, "task.samples: expected at least 2, found 0"),
    "unknown accelerator": ({"accelerator": "tpu"}, "accelerator: expected auto, cpu, cuda, mps, found 'tpu'"),
    "a place below a file": ({"out": "file/x"}, "file/x/arms: cannot be made"),
    "features by name": ({"features": "inception"}, "features: expected a FeatureExtractor, .* found 'inception'"),
    "a discriminator of other images": (
        {"discriminator": DcganDiscriminator(4)}, r"networks\.discriminator: expected images \(3, 8, 8\)",
    ),
    "critic features of nobody": (
        {"terms": {"student.critic": CriticFeatures(["0"])}}, "student.critic: CriticFeatures needs a teacher_discrim",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), DISTILL.values(), ids=DISTILL)
def test_what_distill_cannot_use(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    given = {"teacher": theirs(4), "student": theirs(), "data": torch.zeros(64, 3, 8, 8), "latent": (6,)}
    more = {"image_range": (0, 1), "out": "mine", "steps": 1, "batch": 8, "accelerator": "cpu"}
    with pytest.raises(LimbeckError, match=message) as caught:
        limbeck.distill(**{**given, **more, **change})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_every_verb_has_its_flags() -> None:
    assert list(FLAGS) == list(VERBS)

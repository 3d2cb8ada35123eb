"""`limbeck list`: what there is to choose from, room by room."""

from __future__ import annotations

import subprocess
import sys

import pytest

from limbeck.cli import main
from limbeck.methods.base import Method
from limbeck.recipe.catalogue import catalogue, rooms, summary


def test_rooms_show_themselves_with_what_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    found: dict[str, set[str]] = {}
    room = ""
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("  "):
            found[room].add(line.split()[0])
        else:
            room, found[line] = line, set()
    expected = {name: {cls.__name__ for cls in catalogue(base)} for name, base in rooms().items()}
    assert found == {name: classes for name, classes in expected.items() if classes}
    assert {"methods", "data", "export formats", "baselines"} <= set(found) and "Safetensors" in found["export formats"]


def test_a_class_shows_all_that_it_says_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "Gan"])
    told = capsys.readouterr().out
    first, default, argument = (
        "Two players in turn",
        "* `student.output`: the distance of its images",
        "  critic_steps:",
    )
    assert 0 < told.index(first) < told.index(default) < told.index(argument)
    assert "  terms: mapping of text to (Term or LogitLoss or FeatureLoss or null) or null = None\n" in told
    assert "Args:" not in told and "Raises:" not in told


def test_what_is_offered_says_what_it_is_in_one_line() -> None:
    for base in rooms().values():
        for cls in catalogue(base):
            assert summary(cls).endswith("."), cls


def test_bases_of_methods_are_not_offered() -> None:
    assert not [cls for cls in catalogue(Method) if not getattr(cls, "__final__", False)]


def test_the_package_runs_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    def ended(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "limbeck", *words], capture_output=True, text=True, check=False)

    main(["list", "methods"])
    assert ended("list", "methods").stdout == capsys.readouterr().out
    refused = ended("lst")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("limbeck: invalid choice: 'lst' (did you mean 'list'?)")


def test_output_that_nobody_reads_to_its_end_is_no_error() -> None:
    code = "from limbeck.cli import main; raise SystemExit(main(['schema']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"{\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141

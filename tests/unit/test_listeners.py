"""listeners.py: whoever listens is told everything once, in order, and that it is over however it ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from toys import Dying, Killed, Stopped, ToyGan, toy_images, toy_job, trained

from limbeck.errors import TrainingError
from limbeck.training.job import Job
from limbeck.training.launch import Interrupted, fit
from limbeck.training.listeners import Terminal
from limbeck.training.watching import Watched


class Recording:
    """Writes down what it is told, in a file, as it may be told in another process."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def begun(self, title: str, steps: int, first: int, known: Mapping[str, float]) -> None:
        self._note(f"begun {title} {steps} {first}")

    def stepped(self, step: int, row: Mapping[str, float]) -> None:
        self._note(f"step {step} {' '.join(row)}".rstrip())

    def alarm(self, step: int, line: str) -> None:
        self._note(f"alarm {step} {line}")

    def done(self) -> None:
        self._note("done")

    def _note(self, line: str) -> None:
        with self.file.open("a") as file:
            file.write(f"{line}\n")

    @property
    def told(self) -> list[str]:
        return self.file.read_text().splitlines()


LOSSES = "discriminator.real_fake discriminator.r1 student.adversarial"


def make(recording: Recording, folder: Path, **options: Any) -> Job:
    return toy_job(folder, **{"steps": 4, "title": "toy", "listeners": [recording], "log_every": 2} | options)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "told")


def test_a_training_from_its_beginning_to_its_end(recording: Recording, tmp_path: Path) -> None:
    state = trained(make(recording, tmp_path))
    logged = [f"step 1 {LOSSES}", "step 2", f"step 3 {LOSSES}", f"step 4 {LOSSES}"]
    assert recording.told == ["begun toy 4 0", *logged, "done"]
    assert [row["step"] for row in state["history"]] == [1, 3, 4]


def test_the_values_are_those_of_the_history(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []

    class Rows(Recording):
        def stepped(self, step: int, row: Mapping[str, float]) -> None:
            rows.append({"step": step, **row})

    def monitor(network: nn.Module) -> Watched:
        return Watched({"metric": 0.5})

    state = trained(make(Rows(tmp_path / "told"), tmp_path, monitor=monitor, log_every=1))
    assert rows[:3] == state["history"][:3]
    assert rows[3] == {**state["history"][3], "metric": 0.5} and state["history"][4] == {"step": 4, "metric": 0.5}


def test_an_alarm(recording: Recording, tmp_path: Path) -> None:
    looks = iter([Watched({"fid": 1.0}, None, 1.0), Watched({"fid": 3.0}, "samples lose diversity", 3.0)])
    trained(make(recording, tmp_path, monitor=lambda _: next(looks), evaluate_every=2))
    worse = "the student is less than half as good on the validation split as at step 2"
    alarms = ["alarm 4 samples lose diversity", f"alarm 4 {worse}"]
    assert recording.told[-5:] == [f"step 3 {LOSSES}", *alarms, f"step 4 {LOSSES} fid", "done"]


def test_an_interrupted_run_is_over_and_the_next_goes_on(recording: Recording, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit(make(recording, tmp_path / "run", method=Stopped(2, os.getpid())))
    assert signal.getsignal(signal.SIGTERM) is handler
    assert recording.told[-2:] == [f"step 3 {LOSSES}", "done"]
    recording.file.unlink()
    fit(make(recording, tmp_path / "run"))
    assert recording.told == ["begun toy 4 3", f"step 4 {LOSSES}", "done"]


@pytest.mark.parametrize("error", [Killed, TrainingError])
def test_a_failed_run_is_over(
    recording: Recording, tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    if error is Killed:
        job = make(recording, tmp_path, images=Dying(toy_images(), 2))
    else:
        method = ToyGan(penalty=False)
        monkeypatch.setattr(method.discriminator[-1], "forward", lambda x: x.sum(1, keepdim=True) * float("nan"))
        job = make(recording, tmp_path, method=method)
    with pytest.raises(error):
        fit(job)
    assert [line for line in recording.told if not line.startswith("step")] == ["begun toy 4 0", "done"]


def test_who_could_not_begin_is_not_told_that_it_is_over(recording: Recording, tmp_path: Path) -> None:
    class Refusing(Recording):
        def begun(self, title: str, steps: int, first: int, known: Mapping[str, float]) -> None:
            raise OSError("no connection")

    refusing = Refusing(tmp_path / "refusing")
    with pytest.raises(OSError, match="no connection"):
        fit(make(recording, tmp_path, listeners=[recording, refusing]))
    assert recording.told == ["begun toy 4 0", "done"] and not refusing.file.exists()


def test_of_several_processes_the_first_tells(recording: Recording, tmp_path: Path) -> None:
    fit(make(recording, tmp_path, processes=2, log_every=1))
    steps = [f"step {step} {LOSSES}" for step in range(1, 5)]
    assert recording.told == ["begun toy 4 0", *steps, "done"]


def test_a_terminal_that_is_none_gets_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(make(Recording(tmp_path / "told"), tmp_path / "run", listeners=[Terminal()], steps=20))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toy: ")]
    assert [line.split()[1] for line in lines] == [f"{step}/20" for step in range(2, 21, 2)]
    assert all("real_fake" in line and "adversarial" in line for line in lines)


def test_nobody_has_to_listen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(make(Recording(tmp_path / "told"), tmp_path, listeners=[]))
    assert capsys.readouterr().err == ""

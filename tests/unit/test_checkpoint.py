"""checkpoint.py: a state comes back bit for bit, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from toys import differences

from limbeck.errors import CheckpointError
from limbeck.training.checkpoint import Checkpoints, load, save


def state(step: int = 3) -> dict[str, Any]:
    """A state with every kind of value that there is, and tensors of awkward shapes and layouts."""
    draw = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "identity": "abc",
        "rate": 0.1,
        "nothing": None,
        "betas": [0.9, 0.999],
        "history": [{"step": 1, "student.output": 0.25}, {"step": 2}],
        "method": {
            "weight": torch.randn(3, 2, generator=draw),
            "scalar": torch.tensor(2.5),
            "empty": torch.empty(0, 4),
            "count": torch.tensor(7),
            "flags": torch.tensor([True, False]),
            "half": torch.randn(5, generator=draw).bfloat16(),
            "double": torch.randn(2, generator=draw, dtype=torch.float64),
            "turned": torch.randn(2, 3, generator=draw).t(),
            "parameter": torch.nn.Parameter(torch.randn(2, generator=draw)),
        },
    }


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "state.safetensors"
    save(path, {"step": 3, "w": torch.tensor([1.5, -2.0]), "n": torch.tensor(7)})
    return path.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "state.safetensors"


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path / "state.safetensors", state())
    assert differences(state(), load(tmp_path / "state.safetensors")) == []


def test_the_comparison_itself_finds_a_difference() -> None:
    other = state()
    other["method"]["weight"][0, 0] += 1e-7
    assert differences(state(), other) == ["/method/weight"]


def test_what_is_saved_does_not_change_with_the_state(tmp_path: Path) -> None:
    changing = state()
    save(tmp_path / "state.safetensors", changing)
    changing["method"]["weight"].zero_()
    assert differences(state(), load(tmp_path / "state.safetensors")) == []


def test_truncation_at_any_byte_is_detected(content: bytes, place: Path) -> None:
    for length in range(len(content)):
        place.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            load(place)


@settings(deadline=None)
@given(data=st.data(), mask=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_detected(content: bytes, place: Path, data: st.DataObject, mask: int) -> None:
    damaged = bytearray(content)
    position = data.draw(st.integers(0, len(content) - 1))
    damaged[position] ^= mask
    place.write_bytes(bytes(damaged))
    end = 8 + int.from_bytes(content[:8], "little")  # of the header, which blanks fill up
    padding = range(len(content[:end].rstrip(b" ")), end)
    if position in padding and chr(damaged[position]) in "\t\n\r":
        assert load(place)["step"] == 3  # a blank for a blank: the same content
        return
    with pytest.raises(CheckpointError):
        load(place)


def test_a_tensor_put_in_anothers_place_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save(path, {"a": torch.zeros(2), "b": torch.ones(2)})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({"/a": torch.ones(2), "/b": torch.zeros(2)}, path, metadata)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load(path)


def test_another_safetensors_file_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="checksum"):
        load(tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, value: float) -> None:
    checkpoints = Checkpoints(tmp_path, warn=print)
    checkpoints.save(1, state(1))
    broken = state(2)
    broken["method"]["weight"][1, 1] = value
    with pytest.raises(CheckpointError, match=r"step-000000002.*not saved, /method/weight holds NaN or infinity"):
        checkpoints.save(2, broken)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.safetensors"]
    assert differences(state(1), checkpoints.latest()) == []


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, warn=print)
    for step in (5, 10, 999, 1000, 10000):
        checkpoints.save(step, state(step))
    assert [path.name for path in checkpoints.paths()] == ["step-000001000.safetensors", "step-000010000.safetensors"]
    latest = checkpoints.latest()
    assert latest is not None and latest["step"] == 10000


def test_a_damaged_one_is_named_and_the_one_before_it_used(tmp_path: Path) -> None:
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=said.append)
    checkpoints.save(5, state(5))
    checkpoints.save(10, state(10))
    newest = checkpoints.paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    assert differences(state(5), checkpoints.latest()) == []
    assert len(said) == 1 and "step-000000010" in said[0] and "using the one before it" in said[0]


def test_when_all_are_damaged_it_says_how_to_restart(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, warn=lambda line: None)
    for step in (5, 10):
        checkpoints.save(step, state(step))
        checkpoints.paths()[-1].write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-000000010.*delete .* to restart"):
        checkpoints.latest()


def test_without_checkpoints_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", warn=print).latest() is None


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "state.safetensors"
    save(path, state(1))

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif call == "replace":
        monkeypatch.setattr(Path, "replace", full)
    else:
        whole = os.fdopen

        def opened(*arguments: Any) -> Any:
            file = whole(*arguments)
            return type("Full", (), {
                "__enter__": lambda self: self, "__exit__": lambda self, *_: file.close(), "write": full,
            })()  # fmt: skip

        monkeypatch.setattr(os, "fdopen", opened)
    with pytest.raises(CheckpointError, match=r"No space left on device.*free space, or choose another folder"):
        save(path, state(2))
    monkeypatch.undo()
    assert [found.name for found in tmp_path.iterdir()] == ["state.safetensors"]
    assert differences(state(1), load(path)) == []


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, warn=print)
    left = tmp_path / ".step-000000005.safetensors.abc.part"
    left.write_bytes(b"half")
    assert checkpoints.latest() is None  # it is never taken for a checkpoint
    checkpoints.save(10, state(10))
    assert not left.exists()

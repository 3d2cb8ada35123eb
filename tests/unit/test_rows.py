"""rows.py: tables that are written row by row read as they were, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from limbeck.errors import CheckpointError
from limbeck.ground.rows import RowsWriter, read_rows
from limbeck.training.teacher_cache import kept


def tables() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {"": torch.randn(7, 3, generator=draw), "a.b": torch.randn(7, 2, 5, generator=draw).bfloat16()}


def written(path: Path) -> Path:
    with RowsWriter(path, 7) as rows:
        for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
            rows.add({name: table[part] for name, table in tables().items()})
    return path


def test_what_is_written_is_read_here_and_by_the_library(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "rows.safetensors")
    for found in (read_rows(path), load_file(path)):
        assert found.keys() == tables().keys()
        assert all(torch.equal(found[name], table) for name, table in tables().items())
    assert [file.name for file in path.parent.iterdir()] == ["rows.safetensors"]


@pytest.mark.parametrize("place", [30, 64, -1])
def test_a_changed_byte_is_found(tmp_path: Path, place: int) -> None:
    path = written(tmp_path / "rows.safetensors")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"altered or damaged|not a whole safetensors file"):
        read_rows(path)


def test_a_file_that_is_cut_off_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.safetensors")
    for length in (0, 5, 100, path.stat().st_size - 1):
        (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:length])
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            read_rows(tmp_path / "cut.safetensors")


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not saved, the output holds NaN"), RowsWriter(tmp_path / "r", 7) as rows:
        rows.add({"": torch.tensor([[1.0], [torch.nan]])})
    with pytest.raises(ValueError, match="expected 7 rows, found 2"), RowsWriter(tmp_path / "r", 7) as rows:
        rows.add({"": torch.ones(2, 1)})
    with pytest.raises(KeyboardInterrupt), RowsWriter(tmp_path / "r", 7) as rows:
        rows.add({"": torch.ones(2, 1)})
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a mapped file that has no place on the disk would end the process."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(CheckpointError, match=r"could not be written \(No space left on device\); free space"):
        kept(tmp_path / "cache.safetensors", 7, written)
    assert not list(tmp_path.glob("*cache.safetensors*"))

"""Whole photographs, alone or beside their degraded forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data.photo_set import PhotoSet
from limbeck.errors import DataError


def written(folder: Path, names: list[str], size: tuple[int, int] = (13, 10)) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(np.full((size[1], size[0], 3), number, np.uint8)).save(folder / name)
    return folder


def test_photographs_are_cut_to_a_multiple_and_found_beside_their_degraded_forms(tmp_path: Path) -> None:
    whole = written(tmp_path / "HR", ["bird.png", "birds.png", "cat.png"])
    small = written(tmp_path / "small", ["catx4.png", "birdsx4.png", "birdx4.png"], (3, 2))
    photos = PhotoSet(str(whole), str(small), name="set3")
    found = list(photos.photographs(4))
    assert len(photos) == len(found) == 3 and photos.name == "set3"
    assert [image.shape for image, _ in found] == [(1, 3, 8, 12)] * 3
    levels = [round((float(given.mean()) + 1) * 127.5) for _, given in found if given is not None]
    assert levels == [2, 1, 0]  # bird, birds, cat as they were written
    assert all(given is None for _, given in PhotoSet(str(whole)).photographs())
    assert PhotoSet(str(whole)).name == "hr" and " at 0x" not in repr(photos)


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    whole = written(tmp_path / "HR", ["bird.png", "cat.png"])
    with pytest.raises(DataError, match=r"HR/bird\.png: expected its degraded form in .*/other, .* found none"):
        PhotoSet(str(whole), str(written(tmp_path / "other", ["cat.png"])))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected photographs, found none"):
        PhotoSet(str(tmp_path / "empty"))
    (whole / "cat.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cat\.png: cannot be decoded"):
        list(PhotoSet(str(whole)).photographs())
    assert torch.is_tensor(next(PhotoSet(str(whole)).photographs())[0])


def test_a_set_is_known_by_what_its_files_hold(tmp_path: Path) -> None:
    """Evaluations are remembered under its text."""
    whole = written(tmp_path / "HR", ["bird.png", "cat.png"])
    before = repr(PhotoSet(str(whole)))
    assert repr(PhotoSet(str(whole))) == before
    Image.fromarray(np.full((10, 13, 3), 77, np.uint8)).save(whole / "cat.png")
    assert repr(PhotoSet(str(whole))) != before

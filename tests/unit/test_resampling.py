"""resampling.py against MATLAB: its weights where they are fractions, and the files that the field has from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limbeck.data.degradations.downscale import Downscale
from limbeck.data.photo_set import PhotoSet
from limbeck.ground.resampling import resize

ROOT = Path(os.environ.get("LIMBECK_DATA", "nowhere"))


def answer(size: int, new: int, at: int) -> Tensor:
    """Return what a row (new,) shows of a single bright pixel of a row of `size`."""
    row = torch.zeros(1, 1, 1, size, dtype=torch.float64)
    row[..., at] = 1
    return resize(row, (1, new))[0, 0, 0]


def test_halving_weighs_eight_pixels_as_matlab_does() -> None:
    weights = torch.stack([answer(32, 16, at)[8] for at in range(12, 22)])  # of the new pixel between 16 and 17
    expected = torch.tensor([0, -3, -9, 29, 111, 111, 29, -9, -3, 0], dtype=torch.float64) / 256
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)


def test_doubling_weighs_four_pixels_as_matlab_does() -> None:
    weights = torch.stack([answer(16, 32, at)[17] for at in range(7, 12)])  # a quarter beyond the middle of pixel 8
    expected = torch.tensor([-9, 111, 29, -3, 0], dtype=torch.float64) / 128
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)


@pytest.mark.skipif(not (ROOT / "sr" / "Set5").is_dir(), reason="needs sr/Set5 of LIMBECK_DATA")
@pytest.mark.parametrize("scale", [2, 4])
def test_set5_is_made_smaller_to_the_grey_levels_of_matlab(scale: int) -> None:
    pairs = PhotoSet("sr/Set5/HR", f"sr/Set5/LR_x{scale}", name="set5").photographs(scale)
    for whole, given in pairs:
        assert given is not None
        apart = ((Downscale(scale)(whole, torch.zeros(1, dtype=torch.int64)) - given) * 127.5).abs().round()
        assert float((apart > 0).float().mean()) < 0.01  # a half, which MATLAB rounds up, may fall either way
        assert float((apart > 1).float().mean()) < 1e-3 and float(apart.max()) <= 2

"""losses/calibration.py against theory: Gaussian scores have a linear log-odds."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.losses.calibration import calibrate


def gaussian(mean: float, spread: float, count: int, seed: int) -> torch.Tensor:
    return mean + spread * torch.randn(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fakes", [40_000, 4_000])
def test_gaussian_scores(fakes: int) -> None:
    # log N(s; 2, 1.5²) - log N(s; -1, 1.5²) = (3 s - 1.5) / 2.25, however many there are on each side
    scale, offset = calibrate(gaussian(2, 1.5, 40_000, 1), gaussian(-1, 1.5, fakes, 2))
    assert scale == pytest.approx(3 / 2.25, rel=0.05)
    assert offset == pytest.approx(-1.5 / 2.25, abs=0.06)


def test_log_odds_stay_as_they_are() -> None:
    # Scores s ~ N(±m, 2m) are their own log-odds: 2 m s / (2 m) = s
    scale, offset = calibrate(gaussian(1, math.sqrt(2), 50_000, 3), gaussian(-1, math.sqrt(2), 50_000, 4))
    assert (scale, offset) == pytest.approx((1, 0), abs=0.03)


def test_it_undoes_a_change_of_scale_and_offset() -> None:
    real, fake = gaussian(1, 1, 500, 5).double(), gaussian(-1, 1, 500, 6).double()
    scale, offset = calibrate(real, fake)
    changed_scale, changed_offset = calibrate(100 * real + 7, 100 * fake + 7)
    assert changed_scale * 100 == pytest.approx(scale, rel=1e-9)
    assert changed_offset + changed_scale * 7 == pytest.approx(offset, abs=1e-9)


def test_separated_scores_reach_platts_targets() -> None:
    scale, offset = calibrate(torch.ones(8), -torch.ones(3))
    assert scale + offset == pytest.approx(math.log(9 / 10 / (1 / 10)), rel=1e-9)  # σ = (8 + 1) / (8 + 2)
    assert -scale + offset == pytest.approx(math.log(1 / 5 / (4 / 5)), rel=1e-9)  # σ = 1 / (3 + 2)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (torch.empty(0), torch.ones(3), "real images, found 0"),
        (torch.ones(3), torch.tensor([1.0, math.nan]), "finite scores of generated images"),
        (torch.ones(3), torch.ones(2), "all 5 scores are equal"),
    ],
)
def test_scores_that_cannot_be_calibrated(real: torch.Tensor, fake: torch.Tensor, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        calibrate(real, fake)

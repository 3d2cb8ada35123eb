"""Pictures of masks: colours by hand, colours that can be told apart, what is right and wrong, the legend."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.errors import DataError
from limbeck.metrics.pictures.mask_picture import PALETTE, error_picture, legend_picture, mask_picture, overlay
from limbeck.types import VOID

# Simulated dichromacy in linear RGB (Machado et al. 2009, table 1, severity 1.0).
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]


def levels(picture: Tensor) -> Tensor:
    return ((picture + 1) * 127.5).round().int()


def test_colours_by_hand() -> None:
    """Class 0 is #e69f00, class 1 #56b4e9, void black; the 25th class has the first colour again."""
    picture = mask_picture(torch.tensor([[[0, 1], [VOID, 24]]]), 25)
    assert picture.shape == (1, 3, 2, 2) and picture.dtype == torch.float32
    assert levels(picture)[0].permute(1, 2, 0).tolist() == [
        [[0xE6, 0x9F, 0x00], [0x56, 0xB4, 0xE9]],
        [[0, 0, 0], [0xE6, 0x9F, 0x00]],
    ]


def _seen(matrix: list[list[float]] | None) -> np.ndarray:
    """Return the palette and black in CIELAB, as eyes see them."""
    color = pytest.importorskip("skimage.color")
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in (*PALETTE, "#000000")])
    if matrix is not None:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.array(matrix).T
        linear = linear.clip(0, 1)
        rgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    found: np.ndarray = color.rgb2lab(rgb[None])[0]
    return found


@pytest.mark.parametrize(("matrix", "least"), [(None, 25), (PROTANOPIA, 16), (DEUTERANOPIA, 16)])
def test_colours_can_be_told_apart(matrix: list[list[float]] | None, least: float) -> None:
    """In units of which about 2.3 are just noticed."""
    lab = _seen(matrix)
    assert len(lab) == 25
    distances = {pair: np.linalg.norm(lab[pair[0]] - lab[pair[1]]) for pair in combinations(range(25), 2)}
    assert min(distances.values()) > least


def test_an_overlay_is_a_mean_of_both() -> None:
    image = torch.rand(2, 1, 4, 5) * 2 - 1
    mask = torch.randint(3, (2, 4, 5))
    picture = mask_picture(mask, 3)
    torch.testing.assert_close(overlay(image, mask, 3), (image + picture) / 2)
    torch.testing.assert_close(overlay(image, mask, 3, 0.0), image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(overlay(image.expand(-1, 3, -1, -1), mask, 3, 1.0), picture)


def test_errors_are_red_and_void_is_black() -> None:
    found = levels(error_picture(torch.tensor([[[0, 1, 2]]]), torch.tensor([[[0, 2, VOID]]])))
    right, wrong, void = found[0, :, 0].T.tolist()
    assert max(right) - min(right) < 20 and 100 < right[0] < 200  # grey
    assert wrong[0] > 200 and max(wrong[1:]) < 50
    assert void == [0, 0, 0]


def test_the_legend_has_every_colour_and_its_size_depends_on_the_number_alone() -> None:
    names = ["sky", "building", "a class with a very long name"]
    legend = legend_picture(names)
    assert legend.shape[:2] == (1, 3) and legend.abs().max() <= 1
    there = {tuple(c) for c in levels(legend)[0].flatten(1).T.tolist()}
    for colour in (*PALETTE[:3], "#000000"):
        assert tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) in there
    assert tuple(int(PALETTE[3][i : i + 2], 16) for i in (1, 3, 5)) not in there
    assert legend_picture(["a", "b", "c"]).shape == legend.shape
    assert legend_picture([str(k) for k in range(30)]).shape[2] > legend.shape[2]
    assert not torch.equal(legend_picture(["a", "b", "c"]), legend)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mask_picture(torch.zeros(2, 2), 3), r"mask_picture: expected masks \(N, H, W\), found \(2, 2\)"),
        (lambda: mask_picture(torch.tensor([[[3]]]), 3), "mask_picture: expected classes 0..2 or 255 .*found 3..3"),
        (lambda: overlay(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 5), 3), r"found \(1, 3, 4, 4\) and \(1, 4, 5\)"),
        (lambda: error_picture(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3)), "error_picture: expected two equal masks"),
    ],
)
def test_bad_input_is_one_line(call: Callable[[], object], says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)

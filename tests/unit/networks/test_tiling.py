"""Tiles and eight sides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.networks.handling.tiling import from_all_sides, tiled


def network(scale: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3 * scale**2, 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(scale)).eval()


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("tile", [4, 7, 50])
def test_tiles_make_the_whole_where_the_network_sees_no_further_than_the_overlap(scale: int, tile: int) -> None:
    restore, image = network(scale), torch.randn(2, 3, 21, 13)
    with torch.no_grad():
        whole = restore(image)
        torch.testing.assert_close(tiled(restore, image, tile, 2, scale), whole, rtol=1e-5, atol=1e-5)
        if tile < 13:
            assert not torch.allclose(tiled(restore, image, tile, 1, scale), whole, atol=1e-3)


def test_the_mean_over_eight_sides_turns_with_the_image() -> None:
    restore, image = network(2), torch.randn(2, 3, 9, 7)
    with torch.no_grad():
        found = from_all_sides(restore, image)
        turned = from_all_sides(restore, torch.rot90(image, 1, (2, 3)))
        torch.testing.assert_close(torch.rot90(found, 1, (2, 3)), turned, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(restore(image), found, atol=1e-3)
    torch.testing.assert_close(from_all_sides(nn.Identity(), image), image)

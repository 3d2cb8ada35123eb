"""networks/oriented_pyramid.py: what its filters answer to, by hand, and whether its statistics tell textures apart."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from limbeck.baselines.classification.oriented_pyramid import CONSTANT, FREQUENCY, MEAN_GAIN, OrientedPyramid
from limbeck.baselines.style.gatys import Gatys
from limbeck.data.pictures import picture
from limbeck.errors import RecipeError
from limbeck.losses.style import gram, style_distance
from limbeck.networks.handling.tap import features_at

LEVELS = [f"level.{number}" for number in range(4)]


def grating(angle: float, frequency: float, side: int = 64) -> Tensor:
    row, column = torch.meshgrid(*2 * [torch.arange(float(side))], indexing="ij")
    wave = (frequency * (column * math.cos(angle) + row * math.sin(angle))).cos()
    return wave.expand(1, 3, -1, -1)


def test_flat_colour_makes_no_waves_and_is_told_by_the_means() -> None:
    image = torch.tensor([0.6, -0.3, 0.0])[None, :, None, None].expand(2, -1, 16, 24)
    for level, feature in enumerate(features_at(OrientedPyramid(), LEVELS, image)):
        assert feature.shape == (2, 76, 16 >> level, 24 >> level)
        waves, means, constant = feature.split([72, 3, 1], 1)
        assert float(waves.abs().max()) < 1e-6
        told = torch.tensor([0.1, 0.15, 0.9])[:, None, None] * MEAN_GAIN  # light, blue-yellow, red-green
        torch.testing.assert_close(means, told.expand_as(means), rtol=0, atol=1e-5)
        assert bool((constant == CONSTANT).all())


@pytest.mark.parametrize("direction", range(6))
def test_a_wave_is_answered_by_the_filters_of_its_direction(direction: int) -> None:
    image = grating(direction * math.pi / 6, FREQUENCY)
    first = features_at(OrientedPyramid(), LEVELS[:1], image)[0]
    strength = first[0, :12, 8:-8, 8:-8].square().mean((1, 2)).view(6, 2).sum(1)  # the positive parts for light
    assert int(strength.argmax()) == direction and float(strength.max()) > 0.3
    assert float(strength.max()) > 3 * float(strength[(direction + 3) % 6])


def test_a_longer_wave_is_answered_deeper() -> None:
    def depth(frequency: float) -> float:
        levels = features_at(OrientedPyramid(), LEVELS, grating(0, frequency, 128))
        power = torch.stack([feature[:, :72].square().mean() for feature in levels])
        return float((power * torch.arange(4)).sum() / power.sum())

    depths = [depth(FREQUENCY / 2**octave) for octave in range(4)]
    assert depths[0] < 0.1 and all(later > before + 0.4 for before, later in pairwise(depths))


def test_a_turned_image_has_its_channels_turned() -> None:
    """A quarter of a turn is three of six directions: light and its mean follow, up to the sign of odd filters."""
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before, after = (features_at(OrientedPyramid(), LEVELS, i)[0] for i in (image, image.rot90(1, (2, 3))))
    for direction in range(3):  # its even filter is channel 2 k
        torch.testing.assert_close(after[:, 2 * direction + 6], before[:, 2 * direction].rot90(1, (1, 2)))


def test_two_cut_outs_of_a_texture_are_nearer_than_two_textures() -> None:
    seen = OrientedPyramid()
    textures = {name: picture(name, 256) for name in ("gravel.png", "brick.png", "grass.png")}
    grams = {
        (name, corner): [gram(f) for f in features_at(seen, LEVELS, image[..., corner : corner + 128, :128])]
        for name, image in textures.items()
        for corner in (0, 128)
    }

    def apart(one: list[Tensor], two: list[Tensor]) -> float:
        return sum(float((a - b).norm() / b.norm()) for a, b in zip(one, two, strict=True))

    for name in textures:
        own = apart(grams[name, 0], grams[name, 128])
        assert all(own < 0.7 * apart(grams[name, 0], grams[other, 128]) for other in textures if other != name)


def test_a_photograph_is_painted_towards_a_texture_and_remains_to_be_seen() -> None:
    image, style, seen = picture("astronaut.png", 48), picture("gravel.png", 96), OrientedPyramid()
    painted = Gatys(seen, LEVELS[1:3], LEVELS, style_weight=4, steps=15)(image, style)
    grams = [gram(f) for f in features_at(seen, LEVELS, style)]
    before, after = (float(style_distance(features_at(seen, LEVELS, i), grams)) for i in (image, painted))
    assert after < before / 10
    light = [i.mean(1).flatten() for i in (image, painted)]
    assert float(torch.corrcoef(torch.stack(light))[0, 1]) > 0.4


def test_what_it_cannot_see_is_told() -> None:
    for shape in ((1, 1, 32, 32), (1, 3, 32, 7)):
        with pytest.raises(
            RecipeError, match=r"OrientedPyramid: expected RGB images .* at least 8x8 pixels, found \(1,"
        ):
            OrientedPyramid()(torch.zeros(shape))
    with pytest.raises(RecipeError, match=r"OrientedPyramid\.levels"):
        OrientedPyramid(levels=0)
    assert not list(OrientedPyramid().parameters())

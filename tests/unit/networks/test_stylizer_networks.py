"""Classical stylizers do to the statistics of an image what they say."""

from __future__ import annotations

import numpy as np
import torch
from skimage.exposure import match_histograms
from torch import Tensor, nn

from limbeck.networks.fourier_style import FourierStyle
from limbeck.networks.histogram_matching import HistogramMatching
from limbeck.networks.johnson import JohnsonStylizer
from limbeck.networks.optimal_transport import OptimalTransportColour
from limbeck.networks.pyramid_style import PyramidStyle
from limbeck.networks.reinhard import Reinhard


def picture(seed: int, low: float = -0.3, high: float = 0.3, size: tuple[int, int] = (32, 40)) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, *size, generator=draw) * (high - low) + low


def moments(image: Tensor) -> tuple[Tensor, Tensor]:
    flat = image[0].flatten(1)
    return flat.mean(1), torch.cov(flat, correction=0)


def test_optimal_transport_gives_the_moments_of_the_style_and_changes_nothing_of_an_equal_one() -> None:
    image, style = picture(0), picture(1, -0.2, 0.4)
    style[:, 1] = (style[:, 1] + style[:, 0]) / 2  # correlated colours
    found = OptimalTransportColour()(image, style)
    for mine, goal in zip(moments(found), moments(style), strict=True):
        torch.testing.assert_close(mine, goal, rtol=0, atol=2e-4)
    torch.testing.assert_close(OptimalTransportColour()(image, image), image, rtol=0, atol=1e-4)


def test_reinhard_moves_colours_to_the_style_and_keeps_an_equal_one() -> None:
    image, style = picture(0), picture(1, 0.1, 0.6)
    style[:, 2] -= 0.6
    found = Reinhard()(image, style)
    before, after, goal = (t.mean((0, 2, 3)) for t in (image, found, style))
    assert (after - goal).abs().max() < 0.05 < (before - goal).abs().min()
    torch.testing.assert_close(Reinhard()(image, image), image, rtol=0, atol=5e-3)


def test_histograms_are_those_of_the_style_as_in_scikit_image() -> None:
    image, style = picture(0), picture(1, -0.8, 0.1, (29, 31))
    found = HistogramMatching()(image, style)
    expected = match_histograms(image[0].numpy(), style[0].numpy(), channel_axis=0)
    assert float(np.abs(found[0].numpy() - expected).max()) < 0.01
    same = HistogramMatching()(image, image.flip(3))
    torch.testing.assert_close(same, image, rtol=0, atol=1e-6)


def test_fourier_takes_the_mean_and_keeps_phases() -> None:
    image, style = picture(0), picture(1, -0.1, 0.6)
    found = FourierStyle(0.001)(image, style)  # the mean alone, whose phase is its sign
    shift = style.mean((2, 3)).abs() * image.mean((2, 3)).sign() - image.mean((2, 3))
    torch.testing.assert_close(found, image + shift[..., None, None], rtol=0, atol=1e-3)
    torch.testing.assert_close(FourierStyle(0.2, 0.0)(image, style), image, rtol=0, atol=1e-5)
    whole = torch.fft.fft2(FourierStyle(0.1)(image, style))
    assert float((whole.angle() - torch.fft.fft2(image).angle()).cos().median()) > 0.99


def test_bands_become_as_strong_as_those_of_the_style() -> None:
    image, style = picture(0, -0.1, 0.1), picture(1, -0.3, 0.3, (32, 40))
    found = PyramidStyle(3)(image, style)
    assert abs(float(found.std() / style.std()) - 1) < 0.1
    torch.testing.assert_close(PyramidStyle(3)(image, image), image, rtol=0, atol=1e-5)
    assert float(PyramidStyle(3, most=1.0)(image, style).std()) < float(found.std()) / 2


def test_johnsons_network_has_his_size_and_a_small_one_a_tenth() -> None:
    def count(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    assert 1_650_000 < count(JohnsonStylizer()) < 1_700_000  # 1.68 M, as in public implementations
    assert count(JohnsonStylizer(16, 3, depthwise=True)) < count(JohnsonStylizer()) / 10
    assert count(JohnsonStylizer(4, 1, styles=3)) - count(JohnsonStylizer(4, 1)) == 2 * 2 * (4 + 8 + 16 + 32 + 8 + 4)

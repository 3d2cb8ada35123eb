"""Stylizers do to the statistics of an image what they say; given weights paint as their painter did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.exposure import match_histograms
from torch import Tensor, nn

from limbeck.baselines.style.fourier_style import FourierStyle
from limbeck.baselines.style.gatys import Gatys
from limbeck.baselines.style.histogram_matching import HistogramMatching
from limbeck.baselines.style.optimal_transport import OptimalTransportColour
from limbeck.baselines.style.pyramid_style import PyramidStyle
from limbeck.baselines.style.reinhard import Reinhard
from limbeck.data.pictures import picture as drawn
from limbeck.errors import RecipeError, WeightsError
from limbeck.losses.style import content_distance, gram, style_distance
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.networks.handling.tap import features_at
from limbeck.networks.stylizers.adaptive_stylizer import AdaptiveStylizer, adain, whitened
from limbeck.networks.stylizers.fast_style import FastStyle
from limbeck.networks.stylizers.johnson import JohnsonStylizer

DATA = Path(os.environ.get("LIMBECK_DATA", "nowhere"))
UDNIE = DATA / "weights" / "fast_style_udnie" / "udnie_fp16.npz"
VGG = DATA / "weights" / "vgg16_relu3_3" / "vgg16_to_conv3_3_fp16.npz"


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


@pytest.mark.parametrize("dark", [-0.6, -0.1])
def test_fourier_takes_mean_and_first_ring_and_keeps_phases(dark: float) -> None:
    image, style = picture(0), picture(1, dark, dark + 0.7)
    found = FourierStyle(0.001)(image, style)
    torch.testing.assert_close(found.mean((2, 3)), style.mean((2, 3)), rtol=0, atol=1e-5)
    made, seen, goal = (torch.fft.fft2(t) for t in (found, image, style))
    ring = torch.zeros(32, 40, dtype=torch.bool)
    ring[[[-1], [0], [1]], [-1, 0, 1]] = True
    ring[0, 0] = False
    torch.testing.assert_close(made[..., ring].abs(), goal[..., ring].abs(), rtol=0, atol=1e-3)
    ring[0, 0] = True
    torch.testing.assert_close(made[..., ~ring], seen[..., ~ring], rtol=0, atol=1e-3)
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


def test_a_residual_johnson_begins_at_the_image_with_its_colours_normalised() -> None:
    network = JohnsonStylizer(2, 1, styles=2, residual=True)
    image = torch.rand(3, 3, 22, 19, generator=torch.Generator().manual_seed(0)) * 2 - 1
    style = torch.tensor([0, 1, 1])
    pixels = image.numpy()
    normal = (pixels - pixels.mean((2, 3), keepdims=True)) / pixels.std((2, 3), keepdims=True)
    with torch.no_grad():
        torch.testing.assert_close(network(image, style).numpy(), np.tanh(0.5 * normal), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(network(0.3 * image - 0.2, style), network(image, style), rtol=1e-3, atol=1e-3)
        network.contrast[1] = 0  # of the second style alone
        painted = network(image, style)
    network(image, style).square().sum().backward()
    assert network.output.weight.grad is not None and network.output.weight.grad.abs().min() > 0
    assert painted[0].std() > 0.3
    assert not painted[1:].any()


def maps(seed: int, channels: int = 6, size: tuple[int, int] = (12, 17)) -> Tensor:
    """Features whose channels are correlated, (2, channels, *size)."""
    draw = torch.Generator().manual_seed(seed)
    independent = torch.randn(2, channels, *size, generator=draw).flatten(2)
    mixed = torch.randn(2, channels, channels, generator=draw) @ independent
    found: Tensor = (mixed + torch.randn(2, channels, 1, generator=draw) * 5).view(2, channels, *size).relu() * 40
    return found


def test_adain_gives_every_channel_the_mean_and_spread_of_the_style() -> None:
    content, style = maps(0), maps(1, size=(9, 8))
    found = adain(content, style).numpy().astype(np.float64)
    goal = style.numpy().astype(np.float64)
    np.testing.assert_allclose(found.mean((2, 3)), goal.mean((2, 3)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.std((2, 3)), goal.std((2, 3)), rtol=1e-2, atol=1e-3)
    centred = [(m - m.mean((2, 3), keepdims=True)).reshape(12, -1) for m in (found, content.numpy())]
    angles = (centred[0] * centred[1]).sum(1) / np.linalg.norm(centred[0], axis=1) / np.linalg.norm(centred[1], axis=1)
    np.testing.assert_allclose(angles, 1, rtol=1e-5)  # nothing else has changed
    torch.testing.assert_close(adain(content, content), content, rtol=0, atol=0.02 * float(content.std()))


def test_whitening_gives_all_channels_together_the_covariance_of_the_style() -> None:
    content, style = maps(0), maps(1, size=(9, 8))
    found = whitened(content, style)
    for mine, goal in zip(found.double().flatten(2), style.double().flatten(2), strict=True):
        np.testing.assert_allclose(mine.mean(1), goal.mean(1), rtol=1e-4, atol=1e-4)
        expected = np.cov(goal.numpy(), ddof=0)
        np.testing.assert_allclose(np.cov(mine.numpy(), ddof=0), expected, rtol=0, atol=2e-2 * np.abs(expected).max())
    other = np.cov(adain(content, style)[0].flatten(1).double().numpy(), ddof=0)
    expected = np.cov(style[0].flatten(1).double().numpy(), ddof=0)
    assert np.abs(other - expected).max() > 0.1 * np.abs(expected).max()  # which adain does not


def test_whitening_bears_fewer_places_than_channels_and_dead_channels() -> None:
    content, style = maps(0, 64, (5, 6)), maps(1, 64, (4, 4))
    content[:, :9], style[:, 3:12] = 0, 0
    content.requires_grad_()
    found = whitened(content, style)
    found.square().mean().backward()  # type: ignore[no-untyped-call]
    assert found.isfinite().all() and content.grad is not None and content.grad.isfinite().all()


def test_strength_goes_from_the_image_to_the_style() -> None:
    torch.manual_seed(0)
    encoder, image, style = Vgg16(width=4, until="relu2_1"), picture(0), picture(1, -0.9, 0.1)
    mild, none, full = (AdaptiveStylizer(encoder, strength=s) for s in (0.5, 0.0, 1.0))
    for one in (mild, none):
        one.load_state_dict(full.state_dict())
    plain = torch.tanh(full.decoder(encoder(image) / full.scale))
    torch.testing.assert_close(none(image, style), plain)
    assert (full(image, style) - plain).abs().mean() > (mild(image, style) - plain).abs().mean() > 0
    painted = full(image, style).detach()
    assert float(painted.std()) > 0.01 and float(painted.abs().max()) < 0.999  # tanh is not flat


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"exchange": "swap"}, "expected adain or whitening, found 'swap'"),
        ({"strength": 1.5}, r"expected a number in \[0, 1\], found 1.5"),
        ({"encoder": nn.Flatten()}, r"expected features \(N, C, H / s, W / s\)"),
        ({"encoder": nn.AvgPool2d(3)}, r"expected features .* found \(1, 3, 10, 10\)"),
    ],
)
def test_what_an_adaptive_stylizer_cannot_use(options: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        AdaptiveStylizer(**{"encoder": Vgg16(width=2), **options})  # type: ignore[arg-type]


def test_gatys_lowers_what_he_says_he_lowers() -> None:
    vgg, image, style = Vgg16(width=8, until="relu2_1"), picture(0), drawn("brick.png", 48)
    paths = ["relu1_1", "relu2_1"]
    grams = [gram(f) for f in features_at(vgg, paths, style)]
    shown = features_at(vgg, ["relu2_1"], image)

    def distances(painted: Tensor) -> tuple[float, float]:
        content = content_distance(features_at(vgg, ["relu2_1"], painted), shown)
        return float(content), float(style_distance(features_at(vgg, paths, painted), grams))

    start = distances(image)[1]
    few, many, faithful = (
        distances(Gatys(vgg, ["relu2_1"], paths, style_weight=w, steps=s)(image, style))
        for w, s in ((0.3, 4), (0.3, 30), (0.003, 30))
    )
    assert many[0] + 0.3 * many[1] < few[0] + 0.3 * few[1] < 0.3 * start
    assert many[1] < start / 5 and faithful[0] < many[0] and faithful[1] > many[1]
    with pytest.raises(RecipeError, match=r"Gatys.style_weight: expected a number above 0, found 0"):
        Gatys(vgg, ["relu2_1"], paths, style_weight=0)


def test_gatys_paints_where_gradients_are_switched_off_and_leaves_the_network_alone() -> None:
    vgg = Vgg16(width=4, until="relu1_2", trained=True)
    with torch.no_grad():
        found = Gatys(vgg, ["relu1_2"], ["relu1_2"], steps=3)(picture(0), picture(1))
    assert not found.requires_grad and all(p.grad is None for p in vgg.parameters())
    assert not torch.equal(found, picture(0))


def test_less_of_vgg_is_its_first_layers() -> None:
    image = picture(0)
    whole, part = Vgg16(), Vgg16(until="relu2_1")
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if k in part.state_dict()})
    torch.testing.assert_close(part(image), features_at(whole, ["relu2_1"], image)[0])
    assert part(image).shape == (1, 128, 16, 20) and Vgg16(width=3)(image).shape == (1, 12, 8, 10)
    assert not any(p.requires_grad for p in whole.parameters())
    assert all(p.requires_grad for p in Vgg16(width=2, trained=True).parameters())
    with pytest.raises(RecipeError, match=r"Vgg16.until: expected one of relu1_1, .*relu3_3, found 'relu4_1'"):
        Vgg16(until="relu4_1")


def test_weights_of_another_painter_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"nothing")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "c.npz")
    np.savez(tmp_path / "whole.npz", **{"conv1.weight": np.zeros((32, 3, 9, 9), np.float16)})  # type: ignore[arg-type]
    (tmp_path / "d.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-20])
    for name in "acd":
        for network in (FastStyle, Vgg16):
            with pytest.raises(WeightsError, match=rf"{name}\.npz: truncated, or not a weight file"):
                network(str(tmp_path / f"{name}.npz"))
    with pytest.raises(WeightsError, match=r"no\.npz: no such weight file"):
        FastStyle(str(tmp_path / "no.npz"))
    nan = {name: p.detach().numpy() for name, p in FastStyle().named_parameters()}
    nan["res3_1.scale"] = np.full(128, np.nan)
    np.savez(tmp_path / "nan.npz", **nan)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"nan\.npz: res3_1\.scale holds values that are NaN or infinite"):
        FastStyle(str(tmp_path / "nan.npz"))
    wrong: dict[str, Any] = {"conv1.weight": np.zeros((16, 3, 9, 9), np.float16)}
    np.savez(tmp_path / "b.npz", **wrong)
    with pytest.raises(WeightsError, match=r"expected conv1.weight \(32, 3, 9, 9\), found \(16, 3, 9, 9\)"):
        FastStyle(str(tmp_path / "b.npz"))


def painter(seed: int, **options: Any) -> FastStyle:
    torch.manual_seed(seed)
    network = FastStyle(**options).eval()
    for name, parameter in network.named_parameters():
        if name.endswith(("scale", "shift")):
            nn.init.normal_(parameter, 1.0 if name.endswith("scale") else 0.0, 0.3)
    return network


def test_a_painter_of_the_same_size_starts_as_the_other_and_one_of_low_rank_as_far_as_it_can() -> None:
    larger, same = painter(0, widths=(6, 8, 12), blocks=2), FastStyle(widths=(6, 8, 12), blocks=2).eval()
    same.start_from(larger)
    image = picture(3, -1, 1)
    expected = larger(image).detach()
    torch.testing.assert_close(same(image), expected, rtol=0, atol=0)
    apart = {}
    for rank in (2, 4, 7):
        cut = FastStyle(widths=(6, 8, 12), blocks=2, rank=rank).eval()
        before = float((cut(image).detach() - expected).abs().mean())
        cut.start_from(larger)
        apart[rank] = float((cut(image).detach() - expected).abs().mean())
        assert apart[rank] < before * 0.9
    assert apart[7] < apart[4] < apart[2]


def test_blocks_with_fewer_channels_between_their_convolutions_start_as_far_as_they_can() -> None:
    larger, image = painter(0, widths=(6, 8, 12), blocks=2), picture(3, -1, 1)
    expected = larger(image).detach()
    apart = []
    for between, rank in ((12, None), (8, None), (3, None), (8, 7), (8, 2)):
        cut = FastStyle(widths=(6, 8, 12), blocks=2, rank=rank, between=between).eval()
        cut.start_from(larger)
        apart.append(float((cut(image).detach() - expected).abs().mean()))
        assert cut.get_submodule("res1_1").scale.shape == (between,)
    assert apart[0] < 1e-3 < apart[1] < apart[2] and apart[1] < apart[3] < apart[4]


def test_channels_that_are_there_twice_are_cut_away_without_a_trace() -> None:
    larger = painter(0, widths=(6, 8, 12), blocks=1)
    with torch.no_grad():
        for name in ("conv1", "conv2", "up1", "up2"):
            layer, half = larger.get_submodule(name), 3 if name in ("conv1", "up2") else 4
            outputs = layer.weight.transpose(0, 1) if layer.enlarge else layer.weight
            for tensor in (outputs, layer.scale, layer.shift):
                tensor[half:] = tensor[:half]
    cut = FastStyle(widths=(3, 4, 12), blocks=1).eval()
    cut.start_from(larger)
    image = picture(3, -1, 1)
    torch.testing.assert_close(cut(image), larger(image), rtol=0, atol=0.01)
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in larger.parameters())


@pytest.mark.parametrize(
    ("larger", "found"),
    [
        (JohnsonStylizer(4, 1), "found JohnsonStylizer"),
        (
            FastStyle(widths=(4, 8, 12)),
            r"found FastStyle with widths \[4, 8, 12\], 5 blocks, rank None and between None",
        ),
        (FastStyle(widths=(3, 8, 8)), "found FastStyle with widths"),
        (FastStyle(widths=(4, 8, 8), blocks=1), "and 2 blocks, found FastStyle .* 1 blocks"),
        (FastStyle(widths=(4, 8, 8), rank=3), "rank 3 and between None"),
        (FastStyle(widths=(4, 8, 8), between=3), "rank None and between 3"),
    ],
)
def test_a_painter_is_cut_out_of_none_that_does_not_hold_it(larger: nn.Module, found: str) -> None:
    with pytest.raises(RecipeError, match=found):
        FastStyle(widths=(4, 8, 8), blocks=2, rank=3).start_from(larger)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"widths": (4, 8)}, "FastStyle.widths: expected three"),
        ({"widths": (4, 0, 8)}, r"widths\[1\]"),
        ({"widths": (4, 6, 8), "rank": 6}, "FastStyle.rank: expected a number of at least 1 and below 6"),
        ({"widths": (4, 16, 16), "rank": 10, "between": 1}, "FastStyle.between: expected at least a ninth of rank 10"),
        ({"widths": (4, 6, 8), "between": 9}, "FastStyle.between: expected a number of at least 1 and at most 8"),
    ],
)
def test_a_painter_of_no_size_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        FastStyle(**options)


@pytest.mark.skipif(not (UDNIE.is_file() and VGG.is_file()), reason="needs weights/fast_style_udnie of LIMBECK_DATA")
def test_the_given_painter_paints_in_the_style_that_it_was_trained_for() -> None:
    """Its painting of a photograph is much nearer to Picabia's Udnie, in VGG's features, than the photograph is."""
    vgg, painter = Vgg16(str(VGG)), FastStyle(str(UDNIE)).eval()
    image, paths = drawn("astronaut.png", 128), ["relu1_2", "relu2_2", "relu3_3"]
    with torch.no_grad():
        painted = painter(image)
        udnie = drawn(str(DATA / "style" / "picabia_udnie_1913.jpg"), 384)
        grams = [gram(f) for f in features_at(vgg, paths, udnie)]
        images = image, painted, FastStyle().eval()(image)
        photo, found, untrained = (float(style_distance(features_at(vgg, paths, i), grams)) for i in images)
        kept = float(content_distance(features_at(vgg, ["relu3_3"], painted), features_at(vgg, ["relu3_3"], image)))
    assert found < photo / 5 and found < untrained / 5 and kept < 1
    assert sum(p.numel() for p in painter.parameters()) == 1_677_638

"""Networks that restore: sizes and figures as published, and classical ones where their result is known."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from limbeck.baselines.restoration.back_projection import BackProjection
from limbeck.baselines.restoration.diffusion_inpainting import DiffusionInpainting
from limbeck.baselines.restoration.edge_directed import EdgeDirected
from limbeck.baselines.restoration.fourier_upscaling import FourierUpscaling
from limbeck.baselines.restoration.interpolation import Interpolation
from limbeck.baselines.restoration.patch_inpainting import PatchInpainting
from limbeck.baselines.restoration.wiener import Wiener
from limbeck.data.degradations.blur import Blur
from limbeck.data.degradations.downscale import Downscale
from limbeck.data.photo_set import PhotoSet
from limbeck.errors import RecipeError
from limbeck.ground.resampling import resize
from limbeck.metrics.image import psnr
from limbeck.networks.blocks.contextual_attention import borrowed
from limbeck.networks.blocks.harmonic_start import harmonic_start
from limbeck.networks.given.weights import load_weights
from limbeck.networks.restorers.dncnn import DnCnn
from limbeck.networks.restorers.edsr import Edsr
from limbeck.networks.restorers.imdn import Imdn
from limbeck.networks.restorers.inpainting_unet import InpaintingUnet
from limbeck.networks.restorers.rlfn import Rlfn
from limbeck.networks.restorers.uncertain_restorer import UncertainRestorer
from limbeck.tasks.restoration import Restoration

ROOT = Path(os.environ.get("LIMBECK_DATA", "nowhere"))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_those_of_the_papers() -> None:
    assert count(Edsr(64, 16, 2)) == 1_369_859  # Lim et al. 2017: 1.37 M at scale 2
    assert count(Edsr(64, 16, 4)) == 1_517_571  # and 1.5 M at scale 4
    assert count(DnCnn(64, 17, 1)) == 556_097  # Zhang et al. 2017: 0.56 M, grey, 17 layers
    assert count(Imdn()) == 893_936  # the AIM 2020 challenge states 0.894 M


@pytest.mark.skipif(not (ROOT / "weights" / "sr_x4").is_dir(), reason="needs weights/sr_x4 and sr of LIMBECK_DATA")
def test_published_weights_of_imdn_give_the_published_figure() -> None:
    network = Imdn()
    load_weights(network, ROOT / "weights" / "sr_x4" / "imdn_baseline.pth")
    photos = PhotoSet("sr/Set5/HR", "sr/Set5/LR_x4", name="set5")
    found = Restoration(Downscale(4), [photos]).per_image(network.eval(), photos)
    assert float(found["psnr_y"].mean()) == pytest.approx(32.25, abs=0.05)


def wave(count: int, frequency: int, period: int, shift: float) -> Tensor:
    """A cosine at the centres of `count` pixels of an image that is `period` long."""
    at = (torch.arange(count, dtype=torch.float64) + 0.5) * period / count
    return torch.cos(2 * math.pi * frequency * at / period + shift)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [12, 13])
def test_the_fourier_transform_is_exact_on_band_limited_images(scale: int, size: int) -> None:
    def image(side: int) -> Tensor:
        rows = wave(side, 3, size, 0.4) + 0.5 * wave(side, 5, size, 1.0)
        columns = wave(side, 2, size, -1.1)
        return (rows[:, None] * columns / 2)[None, None]

    found = FourierUpscaling(scale, 1, mirrored=False)(image(size))
    torch.testing.assert_close(found, image(size * scale), rtol=0, atol=1e-6)


def test_mirrored_it_does_not_ring_from_one_border_to_the_other() -> None:
    ramp = torch.linspace(-0.8, 0.8, 16).expand(1, 1, 16, 16)
    truth = torch.nn.functional.interpolate(ramp, scale_factor=4, mode="bilinear")
    error = [float((FourierUpscaling(4, 1, mirrored=m)(ramp) - truth).abs().max()) for m in (False, True)]
    assert error[1] < 0.1 and error[0] > 0.3


def holed(image: Tensor) -> Tensor:
    hole = torch.full_like(image[:, :1], -1.0)
    hole[..., 3:9, 4:12] = 1
    return torch.cat([torch.where(hole > 0, 0.0, image), hole], 1)


def test_harmonic_filling_is_exact_on_ramps_and_biharmonic_on_bowls() -> None:
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 14), torch.linspace(-1, 1, 17), indexing="ij")
    ramp, saddle, bowl = 0.5 * rows + 0.3 * columns, rows * columns, rows**2 - 0.5 + columns * rows
    for image in (ramp[None, None], saddle[None, None]):
        torch.testing.assert_close(DiffusionInpainting(1)(holed(image)), image, rtol=0, atol=1e-4)
    curved = 0.5 * bowl[None, None]
    torch.testing.assert_close(DiffusionInpainting(1, "biharmonic")(holed(curved)), curved, rtol=0, atol=1e-3)
    assert float((DiffusionInpainting(1)(holed(curved)) - curved).abs().max()) > 0.05


def test_an_image_that_is_all_hole_is_filled_with_nothing() -> None:
    image = torch.cat([torch.zeros(1, 1, 6, 6), torch.ones(1, 1, 6, 6)], 1)
    assert DiffusionInpainting(1)(image).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (14, 17), (16, 64)])
def test_the_start_of_a_filling_keeps_what_is_known_and_is_near_the_harmonic_one(size: tuple[int, int]) -> None:
    rows, columns = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in size)
    image = (0.6 * torch.sin(2 * rows)[:, None] + 0.4 * torch.cos(3 * columns))[None, None]
    known = (torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    known[..., 5:9, 4:10] = 0
    known[..., 0, 0] = 1
    found = harmonic_start(image + (1 - known) * 9, known)
    torch.testing.assert_close(found * known, image * known)
    exact = DiffusionInpainting(1)(torch.cat([image * known, 1 - 2 * known], 1))
    assert float((found - exact).abs().mean()) < 0.03
    torch.testing.assert_close(harmonic_start(torch.full_like(image, 0.3), known), torch.full_like(image, 0.3))
    assert torch.equal(harmonic_start(image, torch.zeros_like(known)), torch.zeros_like(image))


def test_a_residual_network_that_has_learnt_nothing_yet_gives_the_start() -> None:
    network = InpaintingUnet(4, 1, halvings=2, residual=True).eval()
    image = holed(torch.rand(2, 1, 14, 17) - 0.5)
    other = image.clone()
    other[:, :1] = torch.where(image[:, 1:] > 0, torch.rand(2, 1, 14, 17), image[:, :1])
    with torch.no_grad():
        assert torch.equal(network(image), network(other))
        padded = torch.nn.functional.pad(image, (0, 3, 0, 2), mode="replicate")
        start = harmonic_start(padded[:, :1], (padded[:, 1:] < 0).float())[..., :14, :17]
        torch.testing.assert_close(network(image), start)


def test_attention_borrows_from_where_it_looks_alike_and_never_from_holes() -> None:
    generator = torch.Generator().manual_seed(0)
    tile = torch.randn(1, 8, 4, 4, generator=generator) * 9
    hidden = tile.repeat(1, 1, 3, 3)  # what is at a place is also four places on
    moved = borrowed(hidden, torch.ones(1, 1, 12, 12)) - hidden
    assert float(moved.abs().mean()) < 0.02 * float(hidden.abs().mean())
    known = torch.ones(1, 1, 12, 12)
    known[..., 5:8, 5:8] = 0
    other = hidden.clone()
    other[..., 6, 6] += 50
    looked = borrowed(other, known)
    far = torch.ones(12, 12, dtype=torch.bool)
    far[4:9, 4:9] = False  # whose patches the change is in
    torch.testing.assert_close(looked[..., far], borrowed(hidden, known)[..., far])
    assert float(looked.abs().max()) <= float(hidden.abs().max()) + 1e-4  # the outlier is not passed on
    assert borrowed(hidden, torch.zeros(1, 1, 12, 12)).isfinite().all()


@pytest.mark.parametrize("convolution", ["plain", "partial", "gated"])
def test_attention_reaches_across_the_image(convolution: Literal["plain", "partial", "gated"]) -> None:
    torch.manual_seed(0)
    network = InpaintingUnet(4, 1, halvings=2, convolution=convolution, attention=True).eval()
    image = holed(torch.rand(1, 1, 64, 64) - 0.5).requires_grad_()
    network(image)[..., 3:9, 4:12].sum().backward()
    assert image.grad is not None and float(image.grad[..., 60:, 60:].abs().max()) > 0
    with pytest.raises(RecipeError, match="attention: expected at least 2 halvings, found 1"):
        InpaintingUnet(4, halvings=1, attention=True)


def test_partial_convolutions_see_no_hole() -> None:
    torch.manual_seed(0)
    network = InpaintingUnet(4, 1, halvings=2, convolution="partial").eval()
    image = holed(torch.rand(2, 1, 16, 16) - 0.5)
    other = image.clone()
    other[:, :1] = torch.where(image[:, 1:] > 0, torch.rand(2, 1, 16, 16), image[:, :1])
    with torch.no_grad():
        assert torch.equal(network(image), network(other))


def test_the_mean_of_an_uncertain_restorer_is_its_network_and_its_scale_is_bounded() -> None:
    network = Edsr(4, 1, 2)
    uncertain = UncertainRestorer(network, 4)
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    mean, log_scale = uncertain.distribution(image)
    assert torch.equal(mean, network(image)) and torch.equal(uncertain(image), mean)
    assert log_scale.shape == mean.shape and -7 < log_scale.min().item() <= log_scale.max().item() < 1
    log_scale.sum().backward()
    assert all(p.grad is None for p in network.parameters())
    assert all(p.grad is not None for p in uncertain.uncertainty.parameters())


def test_an_uncertain_restorer_sees_what_it_restores_and_where_the_holes_are() -> None:
    uncertain = UncertainRestorer(DiffusionInpainting(1), 4)
    grey, flat = torch.zeros(1, 1, 14, 17), torch.full((1, 1, 14, 17), -1.0)
    whole, missing = torch.cat([grey, flat], 1), holed(grey)
    with torch.no_grad():
        (mean, sure), (filled, unsure) = (uncertain.distribution(image) for image in (whole, missing))
    torch.testing.assert_close(mean, filled, rtol=0, atol=1e-6)  # the mean says nothing of the hole
    assert float((sure - unsure)[..., 4:8, 5:11].abs().min()) > 0
    torch.testing.assert_close(sure[..., 12:, :], unsure[..., 12:, :])  # beyond what three convolutions see


def photograph(side: int = 64) -> Tensor:
    """Discs of several sizes: edges at all angles."""
    at = torch.arange(side) + 0.5
    image = torch.full((1, 1, side, side), -0.6)
    for row, column, radius, value in ((20, 22, 14, 0.5), (40, 44, 12, -0.1), (45, 15, 8, 0.8), (12, 50, 6, 0.1)):
        distance = torch.hypot(at[:, None] - row, at - column)
        image = torch.where(distance < radius, torch.full_like(image, value), image)
    return image


def test_back_projection_comes_to_agree_with_the_image_given() -> None:
    image = Downscale(2)(photograph(), torch.zeros(1))

    def residual(iterations: int) -> float:
        found = BackProjection(2, 1, iterations=iterations)(image)
        return float((resize(found, (32, 32)) - image).abs().mean())

    assert residual(1) > residual(3) > residual(10)
    truth = photograph()
    errors = [
        float((network(image) - truth).square().mean()) for network in (BackProjection(2, 1), Interpolation(2, 1))
    ]
    assert errors[0] < errors[1]


def test_wiener_undoes_a_known_blur_and_leaves_greys() -> None:
    truth = photograph()
    blurred = Blur(1.2)(truth, torch.zeros(1))
    restored = Wiener(1, 1, noise=0.003, sigma=1.2)(blurred)
    gain = psnr(restored, truth) - psnr(blurred, truth)
    assert float(gain) > 2
    small = Downscale(2)(truth, torch.zeros(1))
    assert float(psnr(Wiener(2, 1, noise=0.05)(small), truth) - psnr(Interpolation(2, 1)(small), truth)) > 0.1
    grey = torch.full((1, 1, 12, 12), 0.3)
    torch.testing.assert_close(Wiener(2, 1)(grey), torch.full((1, 1, 24, 24), 0.3), rtol=0, atol=1e-4)


def test_wiener_is_the_formula_along_a_line() -> None:
    """Against the whole transform of the mirrored line; the other dimension has one pixel, which it leaves alone."""
    network, image = Wiener(1, 1, noise=0.02, sigma=0.8), torch.rand(1, 1, 1, 16) - 0.5
    mirrored = torch.cat([image, image.flip(3)], 3)[0, 0, 0].double()
    kernel = torch.zeros(32, dtype=torch.float64)
    for place, value in enumerate(network.response):
        kernel[(place - len(network.response) // 2) % 32] += float(value)
    transfer = torch.fft.fft(kernel)
    filtered = torch.fft.fft(mirrored) * transfer.conj() / (transfer.abs() ** 2 + 0.02) * 1.02
    expected = torch.fft.ifft(filtered).real[:16].float()
    torch.testing.assert_close(network(image)[0, 0, 0], expected.clamp(-1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not (ROOT / "weights" / "sr_x4").is_dir(), reason="needs weights/sr_x4 and sr of LIMBECK_DATA")
def test_published_weights_of_rlfn_give_the_published_figure() -> None:
    network = Rlfn()
    load_weights(network, ROOT / "weights" / "sr_x4" / "team04_rlfn.pth")
    photos = PhotoSet("sr/Set5/HR", "sr/Set5/LR_x4", name="set5")
    found = Restoration(Downscale(4), [photos]).per_image(network.eval(), photos)
    assert float(found["psnr_y"].mean()) == pytest.approx(32.10, abs=0.05)


def test_edge_directed_interpolation_follows_an_edge_and_keeps_ramps() -> None:
    at = torch.arange(96) + 0.5
    edge = ((at[:, None] * 2 + at - 140) / 3).clamp(-1, 1)[None, None] * 0.8  # 27 degrees
    small = Downscale(2)(edge, torch.zeros(1))
    inner = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    errors = [float((n(small) - edge)[inner].square().mean()) for n in (EdgeDirected(2, 1), Interpolation(2, 1))]
    assert errors[0] < errors[1]
    ramp = (torch.linspace(-0.5, 0.5, 24)[:, None] + torch.linspace(-0.3, 0.3, 24))[None, None]
    truth = torch.nn.functional.interpolate(ramp, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(EdgeDirected(2, 1)(ramp)[inner], truth[inner], rtol=0, atol=2e-3)
    with pytest.raises(RecipeError, match=r"EdgeDirected.scale: expected 2 or 4, as it can only double, found 3"):
        EdgeDirected(3)


def test_patches_continue_a_pattern_exactly() -> None:
    tile = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    image = tile.repeat(1, 1, 5, 5)
    hole = torch.full_like(image, -1.0)
    hole[..., 11:19, 9:16] = 1
    found = PatchInpainting(1, 7)(torch.cat([torch.where(hole > 0, 0.0, image), hole], 1))
    torch.testing.assert_close(found, image)
    assert PatchInpainting(1, 7)(torch.cat([image * 0, torch.ones_like(image)], 1)).abs().max() == 0

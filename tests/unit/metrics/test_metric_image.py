import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import DataError
from limbeck.metrics.image import entropy, ms_ssim, normalised_entropy, psnr, ssim


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_psnr_of_a_known_error():
    reference = torch.zeros(2, 3, 4, 4)
    image = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.02)])
    # MSE 0.04 and 0.0004 against a peak of 2² = 4: 20 dB and 40 dB.
    torch.testing.assert_close(psnr(image, reference), torch.tensor([20.0, 40.0]))


def test_equal_images():
    image = noise(2, 3, 180, 180)
    assert psnr(image, image).tolist() == [math.inf, math.inf]
    torch.testing.assert_close(ssim(image, image), torch.ones(2))
    torch.testing.assert_close(ms_ssim(image, image), torch.ones(2))


def test_ssim_of_two_constants_is_the_luminance_term():
    a, b = torch.full((1, 1, 16, 16), 0.5), torch.full((1, 1, 16, 16), -0.25)
    c1 = (0.01 * 2) ** 2
    expected = (2 * 1.5 * 0.75 + c1) / (1.5**2 + 0.75**2 + c1)  # intensities count from black
    torch.testing.assert_close(ssim(a, b), torch.tensor([expected]), atol=1e-4, rtol=0)


def test_ssim_sees_only_windows_inside_the_image():
    a, b = noise(1, 1, 11, 11), noise(1, 1, 11, 11, seed=1)
    corner = b.clone()
    corner[..., 0, 0] = -corner[..., 0, 0]
    # One window at 11x11: its corner weighs g(5)^4 of the centre, almost nothing.
    assert abs(float(ssim(a, b) - ssim(a, corner))) < 1e-4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(11, 20), st.integers(11, 20))
def test_ssim_is_symmetric_bounded_and_per_sample(seed, height, width):
    a, b = noise(3, 2, height, width, seed=seed), noise(3, 2, height, width, seed=seed + 1)
    forth = ssim(a, b)
    torch.testing.assert_close(forth, ssim(b, a))
    assert forth.abs().max() <= 1
    torch.testing.assert_close(forth[1:2], ssim(a[1:2], b[1:2]))


def test_ssim_is_differentiable():
    a, b = noise(1, 1, 12, 12).double().requires_grad_(), noise(1, 1, 12, 12, seed=1).double()
    assert torch.autograd.gradcheck(lambda x: ssim(x, b), (a,))


def test_ms_ssim_of_an_inverted_image_is_zero():
    image = noise(1, 1, 176, 176)
    assert ms_ssim(image, -image).item() == 0  # contrast terms are negative


def test_half_precision_is_computed_in_float32():
    a, b = noise(1, 1, 16, 16).bfloat16(), noise(1, 1, 16, 16, seed=1).bfloat16()
    assert ssim(a, b).dtype == torch.float32
    torch.testing.assert_close(ssim(a, b), ssim(a.float(), b.float()))


def test_entropy_by_hand():
    one = torch.zeros(1, 16, 16)
    two = torch.cat([torch.full((1, 8, 16), -1.0), torch.full((1, 8, 16), 1.0)], dim=1)
    all_levels = (torch.arange(256).view(1, 16, 16) / 127.5) - 1
    quarter = torch.full((1, 16, 16), -1.0)
    quarter[:, :4] = 1.0  # p = 1/4 and 3/4
    found = entropy(torch.stack([one, two, all_levels, quarter]))
    expected = [0.0, 1.0, 8.0, 0.25 * 2 + 0.75 * math.log2(4 / 3)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(normalised_entropy(two[None]), torch.tensor([1 / 8], dtype=torch.float64))


def test_entropy_of_colours_is_that_of_their_luma():
    # Levels 0 and 255 of green alone and of all channels: luma 0, 150 and 255.
    image = torch.full((1, 3, 3, 1), -1.0)
    image[0, 1, 1, 0] = 1.0
    image[0, :, 2, 0] = 1.0
    torch.testing.assert_close(entropy(image), torch.tensor([math.log2(3)], dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr(torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4)), r"equal shapes.*found \(1, 1, 4, 4\)"),
        (lambda: ssim(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)), r"\(N, C, H, W\)"),
        (lambda: ssim(torch.zeros(1, 1, 10, 40), torch.zeros(1, 1, 10, 40)), "at least 11x11 pixels, found 10x40"),
        (lambda: ms_ssim(torch.zeros(1, 1, 175, 300), torch.zeros(1, 1, 175, 300)), "at least 176x176.*175x300"),
        (lambda: entropy(torch.zeros(1, 4, 8, 8)), "grey or RGB"),
    ],
)
def test_bad_images_are_named(call, message):
    with pytest.raises(DataError, match=message):
        call()

"""PSNR, SSIM and MS-SSIM against scikit-image and SciPy, entropy against scikit-image."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter

from limbeck.metrics.image import SCALE_WEIGHTS, entropy, ms_ssim, psnr, ssim

skimage_metrics = pytest.importorskip("skimage.metrics", reason='needs the extra "classic"')
skimage_measure = pytest.importorskip("skimage.measure", reason='needs the extra "classic"')


def smooth_pair(shape, noise, seed=0):
    """Images with structure, and the same with noise, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.normal(size=shape), sigma=(0, 0, 2, 2))
    image = image / np.abs(image).max()
    return image, np.clip(image + noise * rng.normal(size=shape), -1, 1)


def tensors(*arrays):
    return [torch.from_numpy(a).float() for a in arrays]


def skimage_ssim(a, b):
    """Of intensities from 0; with these options it averages over pixels at least 5 from the border."""
    return skimage_metrics.structural_similarity(
        a + 1, b + 1, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0
    )


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (3, 3, 33, 20), (1, 3, 11, 11)])
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.6])
def test_psnr_and_ssim_agree_with_scikit_image(shape, noise):
    a, b = smooth_pair(shape, noise)
    expected_psnr = [skimage_metrics.peak_signal_noise_ratio(x, y, data_range=2.0) for x, y in zip(a, b, strict=True)]
    expected_ssim = [skimage_ssim(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(psnr(*tensors(a, b)), expected_psnr, rtol=1e-5)
    np.testing.assert_allclose(ssim(*tensors(a, b)), expected_ssim, atol=2e-6)


def test_scikit_image_averages_over_the_interior():
    a, b = (x[0] for x in smooth_pair((1, 1, 24, 24), 0.2))
    mean, full = skimage_metrics.structural_similarity(
        a, b, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0, full=True
    )
    assert mean == pytest.approx(full[:, 5:-5, 5:-5].mean(), abs=1e-12)
    assert abs(mean - full.mean()) > 1e-4  # the border would have made a difference


def scipy_ms_ssim(a, b):
    """Wang et al. 2003, Eq. 7, with SciPy's filters in float64."""

    def blur(x):
        return gaussian_filter(x, sigma=(0, 1.5, 1.5), truncate=3.5)[:, 5:-5, 5:-5]

    def halve(x):
        return uniform_filter(x, size=(1, 2, 2), origin=(0, -1, -1))[:, ::2, ::2][
            :, : x.shape[1] // 2, : x.shape[2] // 2
        ]

    result = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        term = (2 * cov + 0.06**2) / (va + vb + 0.06**2)
        if scale == len(SCALE_WEIGHTS) - 1:
            ma, mb = ma + 1, mb + 1  # of intensities from 0
            term = term * (2 * ma * mb + 0.02**2) / (ma**2 + mb**2 + 0.02**2)
        result *= term.mean() ** weight
        a, b = halve(a), halve(b)
    return result


@pytest.mark.parametrize("noise", [0.05, 0.4])
def test_ms_ssim_agrees_with_scipy(noise):
    a, b = smooth_pair((2, 3, 177, 200), noise)
    expected = [scipy_ms_ssim(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ms_ssim(*tensors(a, b)), expected, atol=5e-6)


def test_entropy_agrees_with_scikit_image():
    levels = np.random.default_rng(0).integers(0, 256, size=(3, 1, 30, 31))
    levels[1] = levels[1] // 16 * 16
    image = torch.from_numpy(levels).float() / 127.5 - 1
    expected = [skimage_measure.shannon_entropy(x, base=2) for x in levels]
    np.testing.assert_allclose(entropy(image), expected, atol=1e-12)


def test_on_real_images():
    root = os.environ.get("LIMBECK_DATA")
    file = Path(root or ".", "fashion-mnist", "t10k-images-idx3-ubyte.gz")
    if not root or not file.is_file():
        pytest.skip("LIMBECK_DATA is unset or holds no fashion-mnist")
    content = gzip.decompress(file.read_bytes())
    pixels = np.frombuffer(content, np.uint8, offset=16)[: 64 * 784].reshape(64, 1, 28, 28)
    a = pixels / 127.5 - 1
    b = gaussian_filter(a, sigma=(0, 0, 0.8, 0.8))
    np.testing.assert_allclose(
        psnr(*tensors(a, b)),
        [skimage_metrics.peak_signal_noise_ratio(x, y, data_range=2.0) for x, y in zip(a, b, strict=True)],
        rtol=1e-5,
    )
    np.testing.assert_allclose(ssim(*tensors(a, b)), [skimage_ssim(x, y) for x, y in zip(a, b, strict=True)], atol=5e-5)

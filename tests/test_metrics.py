"""PSNR and SSIM of 8-bit frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nervkit.fitting.losses import ssim as ssim_loss
from nervkit.metrics import Quality, mean_quality, psnr, ssim
from nervkit.metrics.quality import IDENTICAL


def pair(height: int = 20, width: int = 30, noise: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A frame and a noisy copy."""
    generator = np.random.default_rng(0)
    y, x, c = np.ogrid[:height, :width, :3]
    frame = np.rint(127 + 100 * np.sin(x / 5 + c) * np.cos(y / 4)).astype(np.uint8)
    noisy = frame + generator.integers(-noise, noise + 1, frame.shape)
    return frame, noisy.clip(0, 255).astype(np.uint8)


def test_psnr_of_known_errors() -> None:
    black = np.zeros((4, 6, 3), np.uint8)
    assert psnr(black, black + np.uint8(255)) == 0
    assert psnr(black, black + np.uint8(1)) == pytest.approx(48.1308036)
    one = black.copy()
    one[0, 0, 0] = 72  # the only one of 72 samples
    assert psnr(black, one) == pytest.approx(10 * np.log10(255**2 / 72))


def test_psnr_has_no_sign_and_no_wrap() -> None:
    frame, noisy = pair(noise=200)
    error = np.mean((frame.astype(float) - noisy.astype(float)) ** 2)
    assert psnr(frame, noisy) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-12)
    assert psnr(noisy, frame) == psnr(frame, noisy)


def test_identical_frames_have_a_finite_psnr() -> None:
    frame, _ = pair()
    assert psnr(frame, frame.copy()) == IDENTICAL == 100
    large = np.zeros((2160, 3840, 3), np.uint8)
    other = large.copy()
    other[7, 7, 0] = 1  # the smallest error at 4K is still told apart
    assert psnr(large, other) > IDENTICAL


def test_ssim_is_wangs() -> None:
    frame, noisy = pair()
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(line, line)[..., None] / line.sum() ** 2
    local = []
    for i in range(frame.shape[0] - 10):
        for j in range(frame.shape[1] - 10):
            a, b = (z[i : i + 11, j : j + 11].astype(float) for z in (frame, noisy))
            mean_a, mean_b = (window * a).sum((0, 1)), (window * b).sum((0, 1))
            var_a, var_b = (
                (window * (z - m) ** 2).sum((0, 1)) for z, m in ((a, mean_a), (b, mean_b))
            )
            covariance = (window * (a - mean_a) * (b - mean_b)).sum((0, 1))
            local.append(
                (2 * mean_a * mean_b + 2.55**2)
                / (mean_a**2 + mean_b**2 + 2.55**2)
                * (2 * covariance + 7.65**2)
                / (var_a + var_b + 7.65**2)
            )
    assert ssim(frame, noisy) == pytest.approx(np.mean(local), abs=1e-10)


def test_ssim_is_what_the_loss_raises() -> None:
    frame, noisy = pair()
    x, y = (torch.from_numpy(z).permute(2, 0, 1)[None].double() / 255 for z in (frame, noisy))
    assert ssim(frame, noisy) == pytest.approx(float(ssim_loss(x, y)), abs=1e-10)


def test_ssim_of_identical_frames_is_one() -> None:
    frame, _ = pair()
    assert ssim(frame, frame.copy()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(10, 30), (30, 10), (1, 1)])
def test_ssim_needs_eleven_pixels(height: int, width: int) -> None:
    assert ssim(*pair(height, width)) is None


def test_ssim_fits_eleven_pixels() -> None:
    frame, noisy = pair(11, 11)
    value = ssim(frame, noisy)
    assert value is not None
    assert 0 < value < 1


def test_the_mean_is_over_frames() -> None:
    assert mean_quality([Quality(30, 0.5), Quality(40, 1.0)]) == Quality(35, 0.75)
    assert mean_quality([Quality(30, None), Quality(50, None)]) == Quality(40, None)

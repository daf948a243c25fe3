"""Losses between frames in [0, 1], which recipes name."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nervkit.metrics.msssim import WEIGHTS
from nervkit.models.recipe import Loss

# Not from a library: pytorch-msssim refuses MS-SSIM at 320x160, pads odd sides with zeros and takes
# 0.9 to 1.4 times as long; torchmetrics takes 2.5 to 3.7 times as long (benchmarks/ssim_loss.py).
WINDOW = 11  # pixels; the side of SSIM's window
LEAST_TERM = 1e-6  # lower bound of the mean term of a scale of MS-SSIM


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean SSIM (Wang et al., 2004, eq. 13) over pixels, channels and frames.

    The window is an 11x11 Gaussian of sigma 1.5, without padding; smaller frames get the largest
    odd window that fits. K1 = 0.01, K2 = 0.03.
    """
    luminance, contrast = _local_terms(x, y, WINDOW)
    return (luminance * contrast).mean()


def ms_ssim(x: Tensor, y: Tensor, window: int = WINDOW) -> Tensor:
    """Return the mean MS-SSIM (Wang et al., 2003, eq. 7) over channels and frames. `window` is the
    side of the window in pixels.

    With a window of 11, and frames of more than 160 pixels on both sides, it equals
    `metrics.ms_ssim`. Smaller frames have fewer scales: those that the window fits, at least one.
    Their exponents are rescaled to the same sum. The mean term of a scale is at least LEAST_TERM,
    so that its power has a gradient.
    """
    scales = 1
    while scales < len(WEIGHTS) and -(-min(x.shape[-2:]) // 2**scales) >= window:
        scales += 1
    share = sum(WEIGHTS[:scales]) / sum(WEIGHTS)
    exponents = [weight / share for weight in WEIGHTS[:scales]]
    value = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device)
    for scale, exponent in enumerate(exponents):
        luminance, contrast = _local_terms(x, y, window)
        last = scale == scales - 1
        term = (luminance * contrast if last else contrast).mean(dim=(2, 3))
        value = value * term.clamp(min=LEAST_TERM) ** exponent
        if not last:
            x, y = (F.avg_pool2d(z, 2, ceil_mode=True) for z in (x, y))
    return value.mean()


def _local_terms(x: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return luminance, and contrast times structure (Wang et al., 2004), at every position of the
    window, or of the largest odd window that fits the frame."""
    size = min(window, *x.shape[-2:])
    size -= 1 - size % 2
    offsets = torch.arange(size, device=x.device, dtype=x.dtype) - size // 2
    kernel = torch.exp(-(offsets**2) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def blur(z: Tensor) -> Tensor:
        channels = z.shape[1]
        z = F.conv2d(z, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        return F.conv2d(z, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)

    channels = x.shape[1]
    moments = blur(torch.cat((x, y, x * x, y * y, x * y), dim=1))
    mean_x, mean_y, square_x, square_y, product = torch.split(moments, channels, dim=1)
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = product - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (var_x + var_y + c2)


def fusion6(x: Tensor, y: Tensor) -> Tensor:
    """Return 0.7 L1 + 0.3 (1 - SSIM): NeRV (2110.13903), eq. 2."""
    return 0.7 * F.l1_loss(x, y) + 0.3 * (1 - ssim(x, y))


def fusion10(x: Tensor, y: Tensor) -> Tensor:
    """Return 0.7 L1 + 0.3 (1 - MS-SSIM), under its name in the NeRV repositories."""
    return 0.7 * F.l1_loss(x, y) + 0.3 * (1 - ms_ssim(x, y))


def fusion10_5x5(x: Tensor, y: Tensor) -> Tensor:
    """Return fusion10 with a 5x5 window: HiNeRV (2306.09818), section 4.1."""
    return 0.7 * F.l1_loss(x, y) + 0.3 * (1 - ms_ssim(x, y, 5))


def frequency_l1(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean |FFT2(x) - FFT2(y)| over frequencies and over real and imaginary parts, with
    unnormalized transforms."""
    return torch.view_as_real(torch.fft.fft2(x - y)).abs().mean()


def fusion10_freq(x: Tensor, y: Tensor) -> Tensor:
    """Return 60 (0.7 L1 + 0.3 (1 - MS-SSIM)) + mean |FFT2(x) - FFT2(y)|, which preserves high
    frequencies: Boosting-NeRV (2402.18152), section 3."""
    return 60 * fusion10(x, y) + frequency_l1(x, y)


def log_mse(x: Tensor, y: Tensor, floor: float = 1e-4) -> Tensor:
    """Return the mean over frames of log(MSE + floor). This is the mean PSNR, the usual measure of
    a video, with falling weight on frames above the floor's PSNR of 40 dB."""
    return (x - y).square().flatten(1).mean(dim=1).add(floor).log().mean()


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("mse", F.mse_loss, by_value=True),
        Loss("log_mse", log_mse, by_value=True, error=torch.exp),
        Loss("fusion6", fusion6),
        Loss("fusion10", fusion10),
        Loss("fusion10_5x5", fusion10_5x5),
        Loss("fusion10_freq", fusion10_freq),
    )
}


def loss_named(loss: str | Loss) -> Loss:
    """Return a recipe's loss, which may be a name."""
    return LOSSES[loss] if isinstance(loss, str) else loss

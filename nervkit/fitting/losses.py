"""Losses between frames in [0, 1]: those that recipes call by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nervkit.models.recipe import Loss


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean SSIM (Wang et al., 2004, eq. 13) over pixels, channels and frames.

    11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, only where the window fits; a frame
    smaller than that gets the largest odd window that fits.
    """
    size = min(11, *x.shape[-2:])
    size -= 1 - size % 2
    offsets = torch.arange(size, device=x.device, dtype=x.dtype) - size // 2
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(z: Tensor) -> Tensor:
        channels = z.shape[1]
        z = F.conv2d(z, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        return F.conv2d(z, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)

    channels = x.shape[1]
    moments = blur(torch.cat((x, y, x * x, y * y, x * y), dim=1)).split(channels, dim=1)
    mean_x, mean_y, square_x, square_y, product = moments
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = product - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean()


def fusion6(x: Tensor, y: Tensor) -> Tensor:
    """0.7 L1 + 0.3 (1 - SSIM). NeRV (2110.13903), eq. 2."""
    return 0.7 * F.l1_loss(x, y) + 0.3 * (1 - ssim(x, y))


def log_mse(x: Tensor, y: Tensor, floor: float = 1e-4) -> Tensor:
    """Mean over frames of log(MSE + floor): the mean PSNR, which is what videos are judged by, with
    less and less weight on frames beyond the floor's PSNR, which is 40 dB."""
    return (x - y).square().flatten(1).mean(dim=1).add(floor).log().mean()


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("mse", F.mse_loss, by_value=True),
        Loss("log_mse", log_mse, by_value=True, error=torch.exp),
        Loss("fusion6", fusion6),
    )
}


def loss_named(loss: str | Loss) -> Loss:
    """The loss of a recipe, which may call it by name."""
    return LOSSES[loss] if isinstance(loss, str) else loss

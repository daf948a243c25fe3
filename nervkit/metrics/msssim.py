"""Multi-scale SSIM of 8-bit RGB frames."""

from __future__ import annotations

import numpy as np

# Not from a library: pytorch-msssim takes 1.4 times as long and pads odd sides with zeros,
# torchmetrics takes 11 times as long and drops odd rows (benchmarks/ssim_loss.py).
#: exponents of the scales, finest first (Wang et al., 2003, section 3.2)
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: a side must be larger: the coarsest scale, 1/16 rounded up, must hold the 11x11 window
LARGEST_UNDEFINED = 160
RADIUS = 5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ms_ssim(reference: np.ndarray, frame: np.ndarray) -> float | None:
    """Return the MS-SSIM (Wang et al., 2003) of two (H, W, 3) uint8 frames, in [0, 1], mean over
    the channels; None if a side is 160 pixels or less.

    There are five scales with 2x2 means between them. An odd last row or column is repeated, as in
    the authors' code. The window is an 11x11 Gaussian of sigma 1.5, without padding. Negative terms
    count as 0.
    """
    if min(reference.shape[:2]) <= LARGEST_UNDEFINED:
        return None
    values = [
        _channel(reference[..., channel].astype(float), frame[..., channel].astype(float))
        for channel in range(reference.shape[2])
    ]
    return sum(values) / len(values)


def _channel(x: np.ndarray, y: np.ndarray) -> float:
    """Return the MS-SSIM of two (H, W) float planes: contrast at every scale, luminance at the
    last."""
    value = 1.0
    for exponent in WEIGHTS[:-1]:
        _, contrast = _local_terms(x, y)
        value *= max(float(contrast.mean()), 0.0) ** exponent
        x, y = _halved(x), _halved(y)
    luminance, contrast = _local_terms(x, y)
    return value * max(float((luminance * contrast).mean()), 0.0) ** WEIGHTS[-1]


def _local_terms(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return luminance, and contrast times structure, at every position of the window."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    product = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    covariance = _blurred(x * y) - product
    variances = _blurred(x * x + y * y) - squares
    return (2 * product + C1) / (squares + C1), (2 * covariance + C2) / (variances + C2)


def _blurred(z: np.ndarray) -> np.ndarray:
    # Imported here, as `--help` and `info` must start fast.
    from scipy.ndimage import gaussian_filter

    inside = slice(RADIUS, -RADIUS)
    return gaussian_filter(z, 1.5, radius=RADIUS)[inside, inside]


def _halved(z: np.ndarray) -> np.ndarray:
    """Return the means of 2x2 pixels."""
    height, width = z.shape
    z = np.pad(z, ((0, height % 2), (0, width % 2)), mode="edge")
    return (z[::2, ::2] + z[::2, 1::2] + z[1::2, ::2] + z[1::2, 1::2]) / 4

"""Denoising by shrinkage of DCT coefficients in overlapping blocks."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from scipy.ndimage import uniform_filter

SIDE = 8  # pixels of a block
STEP = 4  # pixels from block to block
WINDOW = 9  # blocks: side of the window for the local variance of a coefficient
CHANCE = 1.1  # times the noise power: a variance of few blocks may be this large by chance


def denoised(
    noisy: np.ndarray, prediction: np.ndarray | None, noise: torch.Tensor, index: int
) -> np.ndarray:
    """Denoise one of several aligned planes.

    All steps work on the DCT over the planes and blocks of SIDE x SIDE samples (Yu and Sapiro, "DCT
    image denoising", 2011).

    1. A linear regression at each frequency scales the prediction to the planes.
    2. The residual has a local variance around each block. Its excess over the noise is signal, and
       a Wiener filter adds it (Mihcak et al., "Low-complexity image denoising", 1999).
    3. The result estimates the signal power of each coefficient for an empirical Wiener filter
       (Ghael et al., 1997) of the planes themselves. That is better with a poor prediction, and
       step 2 with a good one: both are averaged, weighted by the noise that they let pass.

    Overlapping blocks are averaged, weighted by their remaining noise (Guleryuz, 2007).

    Args:
        noisy: (n, H, W) float32. Warped planes have lost some of their noise, so in them slightly
            too much counts as noise.
        prediction: of the planes without noise, with the same shape, if there is one.
        noise: power of the noise at each frequency of each block: (SIDE * SIDE, rows, columns), or
            broadcastable to it.
        index: of the plane to return.

    Returns:
        (H, W) float32.
    """
    noise = noise.clamp(min=1e-6)
    observed = _spectrum(noisy)
    residual = observed
    if prediction is not None:
        predicted = _spectrum(prediction)
        covariance = (observed * predicted).mean(dim=(2, 3), keepdim=True)
        power = predicted.square().mean(dim=(2, 3), keepdim=True).clamp_(min=1e-6)
        predicted *= (covariance / power).clamp_(0, 1)
        residual = observed - predicted
    # A spectrum is 20 times as large as a plane, so the following steps work in place.
    share = _local_mean(residual.square()).sub_(CHANCE * noise).clamp_(min=0)
    share /= share + noise
    first = share * observed if prediction is None else predicted.addcmul_(share, residual)
    del residual
    gain = first.square()
    gain /= gain + noise
    second = observed.mul_(gain)
    weight = _local_mean(gain)
    weight /= (_local_mean(share) + weight).clamp_(min=1e-6)
    remaining = gain.lerp_(share, weight).square_().mul_(noise / noise.mean()).sum(dim=(0, 1))
    return _plane(second.lerp_(first, weight), remaining, index, noisy.shape[1:])


def _local_mean(values: torch.Tensor) -> torch.Tensor:
    """Average (n, frequencies, rows, columns) over WINDOW x WINDOW blocks."""
    total = uniform_filter(values.numpy(), (1, 1, WINDOW, WINDOW), mode="constant")
    total /= uniform_filter(np.ones(values.shape[2:], np.float32), WINDOW, mode="constant")
    return torch.from_numpy(total)


@cache
def _basis(size: int) -> torch.Tensor:
    """Return the orthonormal DCT matrix: (frequency, position)."""
    return torch.from_numpy(dct(np.eye(size, dtype=np.float32), axis=0, norm="ortho"))


@cache
def _blocks() -> torch.Tensor:
    """Return the DCT of a block as a convolution kernel: (SIDE * SIDE, 1, SIDE, SIDE)."""
    basis = _basis(SIDE)
    return torch.einsum("iy,jx->ijyx", basis, basis).reshape(-1, 1, SIDE, SIDE)


@cache
def _window() -> torch.Tensor:
    """Return the weight of each pixel of a block: (1, 1, SIDE, SIDE)."""
    side = torch.hann_window(SIDE + 2, periodic=False)[1:-1]
    return (side[:, None] * side)[None, None]


def block_spectra(planes: np.ndarray) -> torch.Tensor:
    """Return the DCT of the blocks inside (n, H, W) planes: (n, SIDE * SIDE, rows, columns). If a
    side is shorter than SIDE, there are no blocks."""
    if min(planes.shape[1:]) < SIDE:
        return torch.empty(len(planes), SIDE**2, 0, 0)
    values = torch.from_numpy(np.ascontiguousarray(planes, np.float32))
    return F.conv2d(values[:, None], _blocks(), stride=STEP)


def block_means(plane: np.ndarray) -> np.ndarray:
    """Return the means (rows, columns) of the blocks of an (H, W) plane that `denoised` uses."""
    padded = np.pad(plane, _margins(plane.shape), "symmetric")
    return F.avg_pool2d(torch.from_numpy(padded)[None], SIDE, STEP)[0].numpy()


def _margins(size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the padding before and after each axis with which blocks cover all of a plane."""
    return [(STEP, STEP + -side % STEP) for side in size]


def _spectrum(planes: np.ndarray) -> torch.Tensor:
    """Return the DCT of padded (n, H, W) planes, over blocks and over the planes: (n, SIDE * SIDE,
    rows, columns)."""
    padded = np.pad(planes, [(0, 0), *_margins(planes.shape[1:])], "symmetric")
    return torch.einsum("kn,nfyx->kfyx", _basis(len(planes)), block_spectra(padded))


def _plane(
    spectrum: torch.Tensor, noise: torch.Tensor, index: int, size: tuple[int, ...]
) -> np.ndarray:
    """Return plane `index` (H, W) of a spectrum. Its blocks are weighted by the inverse of their
    `noise` (rows, columns)."""
    weight = 1 / noise.clamp(min=1e-3)
    spectrum = torch.einsum("k,kfyx->fyx", _basis(len(spectrum))[:, index], spectrum) * weight
    total = F.conv_transpose2d(spectrum, _blocks() * _window(), stride=STEP)
    total /= F.conv_transpose2d(weight[None], _window(), stride=STEP)
    return total[0, STEP : STEP + size[0], STEP : STEP + size[1]].numpy()

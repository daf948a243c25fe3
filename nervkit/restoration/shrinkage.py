"""Noise taken out of overlapping blocks by their DCT."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from scipy.ndimage import uniform_filter

SIDE = 8  # pixels of a block
STEP = 4  # pixels from block to block
BLOCKS = 9  # blocks: the side of the window that a coefficient's variance is taken in
CHANCE = 1.1  # times the noise: a variance of so few blocks may be as large by chance


def shrunk(noisy: np.ndarray, guess: np.ndarray, variance: np.ndarray, which: int) -> np.ndarray:
    """One of some frames that show the same place, without most of its white noise.

    All is done in the DCT over the frames and blocks of SIDE x SIDE pixels (Yu and Sapiro, "DCT
    image denoising", 2011).

    1. How much of the guess is in the frames is a linear regression at each frequency.
    2. What the frames differ from that by has a variance in the blocks around. What exceeds the
       noise's is signal, and added by its share (Mihcak et al., "Low-complexity image denoising",
       1999).
    3. How strong each coefficient of the signal is, is now known, and the empirical Wiener filter
       (Ghael et al., 1997) takes the noise out of the frames themselves. This is the better one
       where the guess is poor, step 2 where it is good: both are mixed by the noise that they
       let through.

    Overlapping blocks are averaged by how much noise is left in them (Guleryuz, 2007).

    Args:
        noisy: (n, H, W, C) float32. Where frames were moved, which takes some of their noise away,
            a little too much is taken for noise.
        guess: what is known of the frames without noise, of the same shape.
        variance: (C,) that of the noise of all frames.
        which: of the frames is wanted.

    Returns:
        (H, W, C) float32.
    """
    planes = zip(np.moveaxis(noisy, 3, 0), np.moveaxis(guess, 3, 0), variance, strict=True)
    return np.stack([_plane(*plane, which) for plane in planes], axis=2)


def _plane(noisy: np.ndarray, guess: np.ndarray, variance: float, which: int) -> np.ndarray:
    """As `shrunk`, of one channel: (n, H, W) to (H, W)."""
    noise = max(float(variance), 1e-6)
    seen, guessed = _spectrum(noisy), _spectrum(guess)
    found = (seen * guessed).mean(dim=(2, 3), keepdim=True)
    full = guessed.square().mean(dim=(2, 3), keepdim=True).clamp_(min=1e-6)
    guessed *= (found / full).clamp_(0, 1)
    # A spectrum is 20 times as large as a frame: they are changed in place from here on.
    differing = seen - guessed
    share = _around(differing.square()).sub_(CHANCE * noise).clamp_(min=0)
    share /= share + noise
    first = guessed.addcmul_(share, differing)
    del differing
    gain = first.square()
    gain /= gain + noise
    second = seen.mul_(gain)
    trust = _around(gain)
    trust /= (_around(share) + trust).clamp_(min=1e-6)
    left = gain.lerp_(share, trust).square_().sum(dim=(0, 1))
    return _frame(second.lerp_(first, trust), left, which, noisy.shape[1:])


def _around(values: torch.Tensor) -> torch.Tensor:
    """(n, frequencies, rows, columns) means over BLOCKS x BLOCKS blocks."""
    total = uniform_filter(values.numpy(), (1, 1, BLOCKS, BLOCKS), mode="constant")
    total /= uniform_filter(np.ones(values.shape[2:], np.float32), BLOCKS, mode="constant")
    return torch.from_numpy(total)


@cache
def _basis(size: int) -> torch.Tensor:
    """The orthonormal DCT: (frequency, place)."""
    return torch.from_numpy(dct(np.eye(size, dtype=np.float32), axis=0, norm="ortho"))


@cache
def _blocks() -> torch.Tensor:
    """The DCT of a block as a convolution: (SIDE * SIDE, 1, SIDE, SIDE)."""
    basis = _basis(SIDE)
    return torch.einsum("iy,jx->ijyx", basis, basis).reshape(-1, 1, SIDE, SIDE)


@cache
def _window() -> torch.Tensor:
    """How much each pixel of a block counts: (1, 1, SIDE, SIDE)."""
    side = torch.hann_window(SIDE + 2, periodic=False)[1:-1]
    return (side[:, None] * side)[None, None]


def _spectrum(frames: np.ndarray) -> torch.Tensor:
    """(n, H, W) to the DCT of all blocks: (n, SIDE * SIDE, rows, columns)."""
    around = [(STEP, STEP + -size % STEP) for size in frames.shape[1:]]
    padded = torch.from_numpy(np.pad(frames, [(0, 0), *around], "symmetric"))
    spectrum = F.conv2d(padded[:, None], _blocks(), stride=STEP)
    return torch.einsum("kn,nfyx->kfyx", _basis(len(frames)), spectrum)


def _frame(
    spectrum: torch.Tensor, noise: torch.Tensor, which: int, size: tuple[int, ...]
) -> np.ndarray:
    """One (H, W) frame, whose blocks have this DCT and so much `noise` (rows, columns)."""
    weight = 1 / noise.clamp(min=1e-3)
    spectrum = torch.einsum("k,kfyx->fyx", _basis(len(spectrum))[:, which], spectrum) * weight
    total = F.conv_transpose2d(spectrum, _blocks() * _window(), stride=STEP)
    total /= F.conv_transpose2d(weight[None], _window(), stride=STEP)
    return total[0, STEP : STEP + size[0], STEP : STEP + size[1]].numpy()

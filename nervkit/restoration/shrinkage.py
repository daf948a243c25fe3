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


def shrunk(
    noisy: np.ndarray, guess: np.ndarray | None, noise: torch.Tensor, which: int
) -> np.ndarray:
    """One of some planes that show the same place, without most of its noise.

    All is done in the DCT over the planes and blocks of SIDE x SIDE samples (Yu and Sapiro, "DCT
    image denoising", 2011).

    1. How much of the guess is in the planes is a linear regression at each frequency.
    2. What the planes differ from that by has a variance in the blocks around. What exceeds the
       noise's is signal, and added by its share (Mihcak et al., "Low-complexity image denoising",
       1999).
    3. How strong each coefficient of the signal is, is now known, and the empirical Wiener filter
       (Ghael et al., 1997) takes the noise out of the planes themselves. This is the better one
       where the guess is poor, step 2 where it is good: both are mixed by the noise that they
       let through.

    Overlapping blocks are averaged by how much noise is left in them (Guleryuz, 2007).

    Args:
        noisy: (n, H, W) float32. Where planes were moved, which takes some of their noise away,
            a little too much is taken for noise.
        guess: what is known of the planes without noise, of the same shape; None: nothing.
        noise: the noise's power at each frequency of each block: (SIDE * SIDE, rows, columns), or
            what goes with that.
        which: of the planes is wanted.

    Returns:
        (H, W) float32.
    """
    noise = noise.clamp(min=1e-6)
    seen = _spectrum(noisy)
    differing = seen
    if guess is not None:
        guessed = _spectrum(guess)
        found = (seen * guessed).mean(dim=(2, 3), keepdim=True)
        full = guessed.square().mean(dim=(2, 3), keepdim=True).clamp_(min=1e-6)
        guessed *= (found / full).clamp_(0, 1)
        differing = seen - guessed
    # A spectrum is 20 times as large as a plane: they are changed in place from here on.
    share = _around(differing.square()).sub_(CHANCE * noise).clamp_(min=0)
    share /= share + noise
    first = share * seen if guess is None else guessed.addcmul_(share, differing)
    del differing
    gain = first.square()
    gain /= gain + noise
    second = seen.mul_(gain)
    trust = _around(gain)
    trust /= (_around(share) + trust).clamp_(min=1e-6)
    left = gain.lerp_(share, trust).square_().mul_(noise / noise.mean()).sum(dim=(0, 1))
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


def spectrum_of(planes: np.ndarray) -> torch.Tensor:
    """(n, H, W) to the DCT of the blocks inside: (n, SIDE * SIDE, rows, columns), without rows or
    columns where a side is under SIDE."""
    if min(planes.shape[1:]) < SIDE:
        return torch.empty(len(planes), SIDE**2, 0, 0)
    values = torch.from_numpy(np.ascontiguousarray(planes, np.float32))
    return F.conv2d(values[:, None], _blocks(), stride=STEP)


def block_means(plane: np.ndarray) -> np.ndarray:
    """(H, W) to the (rows, columns) means of the blocks that `shrunk` takes."""
    padded = np.pad(plane, _margins(plane.shape), "symmetric")
    return F.avg_pool2d(torch.from_numpy(padded)[None], SIDE, STEP)[0].numpy()


def _margins(size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Samples to add before and after, for blocks to lie over every one of a plane."""
    return [(STEP, STEP + -side % STEP) for side in size]


def _spectrum(planes: np.ndarray) -> torch.Tensor:
    """(n, H, W) to the DCT of all blocks, over the planes too: (n, SIDE * SIDE, rows, columns)."""
    padded = np.pad(planes, [(0, 0), *_margins(planes.shape[1:])], "symmetric")
    return torch.einsum("kn,nfyx->kfyx", _basis(len(planes)), spectrum_of(padded))


def _frame(
    spectrum: torch.Tensor, noise: torch.Tensor, which: int, size: tuple[int, ...]
) -> np.ndarray:
    """One (H, W) frame, whose blocks have this DCT and so much `noise` (rows, columns)."""
    weight = 1 / noise.clamp(min=1e-3)
    spectrum = torch.einsum("k,kfyx->fyx", _basis(len(spectrum))[:, which], spectrum) * weight
    total = F.conv_transpose2d(spectrum, _blocks() * _window(), stride=STEP)
    total /= F.conv_transpose2d(weight[None], _window(), stride=STEP)
    return total[0, STEP : STEP + size[0], STEP : STEP + size[1]].numpy()

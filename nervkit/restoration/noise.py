"""Noise estimation: the power at each frequency and its dependence on brightness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter

from nervkit.models.flow import warp
from nervkit.restoration.shrinkage import SIDE, STEP, block_spectra

BINS = 8  # of brightness, from 0 to 255
RELIABLE_SHARE = 0.25  # of the blocks of a bin: those with the least doubt
INTEGER_DOUBT = 0.02  # squared pixels: the inaccuracy of motion by whole pixels
ENOUGH_BLOCKS = 256  # small planes use a larger share, up to this many blocks
LEAST_BLOCKS = 32  # in a bin, for an estimate of its level
LEAST_ENERGY = 0.02  # of a sample's variance: a block that differs by less is a copy
WHITENESS = 1.5  # times the power at high frequencies: white noise has no more at any frequency
CLEARLY_LESS = 0.8  # of the mean of two estimates: estimates of the same power are closer
SAMPLED_FRAMES, LAG = 6, 8  # frames compared for a static camera, and the distance of each pair
LEAST_FRAMES = 16  # of a clip: a fit to fewer finds little that repeats, and keeps noise
STATIC_SHARE = 0.6  # of the picture is the same with a static camera
STRONG = 8.0  # 8-bit steps of gray: a deviation of 14 in each of R, G and B
NORMAL = 0.6745  # median absolute value of a normal variable, in standard deviations
CENTRES = (np.arange(BINS) + 0.5) * 256 / BINS

# The high frequencies of a block, where noise exceeds nearly all picture content.
HIGH = np.flatnonzero(np.add.outer(np.arange(SIDE), np.arange(SIDE)) >= SIDE)


class Noise(NamedTuple):
    """The noise of one plane. `power` (SIDE * SIDE,) is the mean square of each coefficient of the
    orthonormal DCT of its blocks. `levels` (BINS,) are factors on it for blocks of the brightness
    CENTRES: camera noise grows with the light (Foi et al., "Practical Poissonian-Gaussian noise
    modeling", 2008), and clipped noise is weak in black and white."""

    power: np.ndarray
    levels: np.ndarray

    @classmethod
    def zero(cls) -> Self:
        """Return no noise."""
        return cls(np.zeros(SIDE**2, np.float32), np.ones(BINS, np.float32))

    def split_white(self) -> tuple[np.ndarray, np.ndarray]:
        """Split the power into white noise, with similar power at all frequencies, and the rest."""
        white = np.minimum(self.power, np.float32(WHITENESS * self.power[HIGH].mean()))
        return white, self.power - white

    def in_blocks(self, brightness: np.ndarray) -> torch.Tensor:
        """Return the power (SIDE * SIDE, rows, columns) for the brightness of each block."""
        levels = np.interp(brightness, CENTRES, self.levels).astype(np.float32)
        return torch.from_numpy(self.power[:, None, None] * levels)


def noise_of_plane(residual: np.ndarray, brightness: np.ndarray) -> Noise | None:
    """Estimate the noise of a plane by itself.

    Args:
        residual: (H, W), the plane, or its residual after a prediction.
        brightness: (H, W), denoised, in [0, 255].

    Returns:
        None if nothing can be estimated: the plane is too small, or empty.
    """
    energy, doubt = _energy(residual), _detail(brightness)
    return _estimate(energy, doubt, brightness, _energy(residual), white_variance(residual))


def noise_of_pair(
    plane: np.ndarray,
    other: np.ndarray,
    flow: np.ndarray,
    residual: np.ndarray,
    brightness: np.ndarray,
) -> Noise | None:
    """Estimate the noise of a plane from its difference to a motion-compensated neighbour.

    Motion compensation is never exact. The estimate therefore uses blocks with little detail and
    motion by whole pixels, and medians, which are robust to outliers. Interpolation between pixels
    reduces noise; the factor is measured on white noise that is warped in the same way.

    Args:
        plane, other: (H, W), the plane and its neighbour.
        flow: (2, H, W) from `plane` to `other`.
        residual, brightness: of `plane`, as for `noise_of_plane`.

    Returns:
        None if nothing can be estimated: the plane is too small, or a copy of the other.
    """
    white = np.random.default_rng(0).standard_normal(plane.shape, np.float32)
    warped = warp(np.stack([other, white], axis=2), flow)
    fraction = torch.from_numpy(np.square(flow - flow.round()).sum(axis=0))[None]
    doubt = _detail(brightness)
    if min(plane.shape) >= SIDE:
        doubt = doubt * (INTEGER_DOUBT + F.avg_pool2d(fraction, SIDE, STEP).flatten().numpy())
    return _estimate(
        _energy(plane - warped[..., 0]),
        doubt,
        brightness,
        _energy(residual),
        np.inf,
        _energy(warped[..., 1]),
    )


def _estimate(
    energy: np.ndarray,
    doubt: np.ndarray,
    brightness: np.ndarray,
    residual: np.ndarray,
    most: float,
    warped_noise: np.ndarray | None = None,
) -> Noise | None:
    """Estimate noise from the blocks with the least doubt at each brightness, so that dark blocks
    do not represent all.

    Args:
        energy: (SIDE * SIDE, blocks), squared coefficients of a view of the noise.
        doubt: (blocks,), how unreliable each block is.
        brightness: (H, W) of the plane.
        residual: (SIDE * SIDE, blocks), squared coefficients of the residual: an upper bound. If
            both powers are similar, their mean counts.
        most: upper bound of the power.
        warped_noise: (SIDE * SIDE, blocks), of additional noise of variance 1 in the view.
    """
    means = block_spectra(brightness[None])[0, 0].flatten().numpy() / SIDE
    reliable = _reliable_blocks(energy, doubt, means)
    chosen = np.concatenate(reliable)
    if not len(chosen):
        return None
    scale = np.ones(SIDE**2)
    if warped_noise is not None:
        scale = 1 + warped_noise[:, chosen].mean(axis=1)
    powers = [np.median(energy[:, chosen], axis=1) / scale, np.median(residual[:, chosen], axis=1)]
    least, mean = np.min(powers, axis=0), np.mean(powers, axis=0)
    power = np.where(least < CLEARLY_LESS * mean, least, mean) / NORMAL**2
    power = power.clip(max=most)
    # The mean of a block differs by changes of the light more than by noise.
    power[0] = min(power[0], max(power[1], power[SIDE]))
    power = uniform_filter(power.reshape(SIDE, SIDE), 3, mode="nearest").ravel()
    levels = np.full(BINS, np.nan)
    overall = float(np.median(energy[np.ix_(HIGH, chosen)].mean(axis=0)))
    for number, blocks in enumerate(reliable):
        if len(blocks) >= LEAST_BLOCKS and overall > 0:
            levels[number] = np.median(energy[np.ix_(HIGH, blocks)].mean(axis=0)) / overall
    return Noise(power, levels)


def _reliable_blocks(
    energy: np.ndarray, doubt: np.ndarray, brightness: np.ndarray
) -> list[np.ndarray]:
    """Return the indices of the blocks with the least doubt in each bin of brightness. Copies are
    left out."""
    different = np.flatnonzero(energy.mean(axis=0) > LEAST_ENERGY)
    bins = (brightness[different] * (BINS / 256)).astype(int).clip(0, BINS - 1)
    share = max(RELIABLE_SHARE, ENOUGH_BLOCKS / max(len(different), 1))
    reliable = []
    for number in range(BINS):
        blocks = different[bins == number]
        count = int(np.ceil(share * len(blocks)))
        reliable.append(blocks[np.argsort(doubt[blocks], kind="stable")[:count]])
    return reliable


def _energy(plane: np.ndarray) -> np.ndarray:
    """Return the squared coefficients (SIDE * SIDE, blocks) of the blocks of an (H, W) plane."""
    return block_spectra(plane[None])[0].flatten(1).square_().numpy()


def _detail(brightness: np.ndarray) -> np.ndarray:
    """Return the energy of each block without its mean, (blocks,)."""
    return _energy(brightness)[1:].sum(axis=0)


def is_static_under_noise(frames: np.ndarray) -> bool:
    """Return whether most of (T, H, W, 3) uint8 frames is the same LAG frames later, apart from
    strong noise. Distant frames then show the same content. False for short clips."""
    if len(frames) < LEAST_FRAMES or min(frames.shape[1:3]) < SIDE:
        return False
    shares = []
    for t in np.unique(np.linspace(0, len(frames) - 1 - LAG, SAMPLED_FRAMES).astype(int)):
        before, after = (frames[u].mean(axis=2, dtype=np.float32) for u in (t, t + LAG))
        deviation = float(np.sqrt(white_variance(before)))
        if deviation < STRONG:
            return False
        difference = F.avg_pool2d(torch.from_numpy(before - after)[None], SIDE).abs()
        shares.append(float((difference < 3 * deviation * 2**0.5 / SIDE).float().mean()))
    return float(np.mean(shares)) > STATIC_SHARE


def white_variance(plane: np.ndarray) -> float:
    """Estimate the variance of white noise in an (H, W) plane: from its second differences along
    both axes (Immerkaer, 1996), by the median absolute value, which is robust to detail (Donoho and
    Johnstone, 1994). 0 if a side is shorter than three samples."""
    if min(plane.shape) < 3:
        return 0.0
    fine = plane[1:-1] - (plane[:-2] + plane[2:]) / 2
    fine = fine[:, 1:-1] - (fine[:, :-2] + fine[:, 2:]) / 2
    return float(np.median(np.abs(fine)) / NORMAL / 1.5) ** 2


def median_noise(estimates: Sequence[Noise]) -> Noise:
    """Return the median of several estimates. It ignores a cut or a repeated frame."""
    if not estimates:
        return Noise.zero()
    power = np.median([noise.power for noise in estimates], axis=0)
    measured = np.array([noise.levels for noise in estimates])
    known = np.flatnonzero(~np.isnan(measured).all(axis=0))
    levels = np.ones(BINS, np.float32)
    if len(known):
        levels = np.interp(CENTRES, CENTRES[known], np.nanmedian(measured[:, known], axis=0))
    return Noise(power.astype(np.float32), levels.astype(np.float32))

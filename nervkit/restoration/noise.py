"""How strong noise is: at each frequency, and by how bright it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter

from nervkit.models.flow import moved
from nervkit.restoration.shrinkage import SIDE, STEP, spectrum_of

BINS = 8  # of brightness, from 0 to 255
SUREST = 0.25  # of the blocks of a bin: those with little that moves, and moves between samples
WHOLE = 0.02  # square samples: so inexact is motion by whole samples
ENOUGH = 256  # blocks: small planes have more of theirs looked at
FEWEST = 32  # blocks: from fewer, nothing is said about a bin
IDLE = 0.02  # of a sample's variance: a block that differs by less is a copy and tells nothing
EVEN = 1.5  # times the power at high frequencies: white noise has no more anywhere
CLEARLY_LESS = 0.8  # of the mean of two estimates: those of the same are not so far from it
SAMPLED, LAG = 6, 8  # frames, for whether the camera is static: so many, and so long after
LEAST_FRAMES = 16  # of a clip: a fit to fewer has little that repeats, and keeps noise
STATIC = 0.6  # of the picture is the same then
STRONG = 8.0  # 8-bit steps of gray: a deviation of 14 in each of R, G and B
NORMAL = 0.6745  # the median of a normal variable's absolute value, in deviations
CENTRES = (np.arange(BINS) + 0.5) * 256 / BINS

# Of a block's frequencies, the high ones: there, noise exceeds nearly all that pictures have.
HIGH = np.flatnonzero(np.add.outer(np.arange(SIDE), np.arange(SIDE)) >= SIDE)


class Noise(NamedTuple):
    """The noise of one plane. `power` (SIDE * SIDE,) is the mean square of each coefficient of the
    orthonormal DCT of its blocks, `levels` (BINS,) what it is multiplied by in blocks of the
    brightness CENTRES: camera noise grows with the light (Foi et al., "Practical
    Poissonian-Gaussian noise modeling", 2008), and clipped noise is weak in black and white."""

    power: np.ndarray
    levels: np.ndarray

    @classmethod
    def none(cls) -> Self:
        return cls(np.zeros(SIDE**2, np.float32), np.ones(BINS, np.float32))

    def parted(self) -> tuple[np.ndarray, np.ndarray]:
        """The power that is about the same at all frequencies, and what exceeds that."""
        white = np.minimum(self.power, np.float32(EVEN * self.power[HIGH].mean()))
        return white, self.power - white

    def in_blocks(self, brightness: np.ndarray) -> torch.Tensor:
        """Its power (SIDE * SIDE, rows, columns) in blocks of this brightness (rows, columns)."""
        levels = np.interp(brightness, CENTRES, self.levels).astype(np.float32)
        return torch.from_numpy(self.power[:, None, None] * levels)


def noise_alone(residual: np.ndarray, light: np.ndarray) -> Noise | None:
    """The noise of a plane by itself.

    Args:
        residual: (H, W) the plane, or what a prediction leaves of it.
        light: (H, W) how bright it is, 0 to 255, without most of its noise.

    Returns:
        None where nothing can be estimated: the plane is too small, or empty.
    """
    energy, detail = _energy(residual), _detail(light)
    return _noise(energy, detail, light, _energy(residual), white_variance(residual))


def noise_between(
    plane: np.ndarray, other: np.ndarray, flow: np.ndarray, residual: np.ndarray, light: np.ndarray
) -> Noise | None:
    """The noise of a plane by what it differs by from another that shows the same.

    Motion is never followed exactly. So the noise is looked for where there is little detail, and
    where things have moved by whole samples; and by medians, which outliers hardly reach. What lies
    between samples has less noise: how much less, white noise tells that is moved in the same way.

    Args:
        plane, other: (H, W).
        flow: (2, H, W) from the one to the other.
        residual, light: as in `noise_alone`, of `plane`.

    Returns:
        None where nothing can be estimated: the plane is too small, or a copy of the other.
    """
    white = np.random.default_rng(0).standard_normal(plane.shape, np.float32)
    there = moved(np.stack([other, white], axis=2), flow)
    between = torch.from_numpy(np.square(flow - flow.round()).sum(axis=0))[None]
    unsure = F.avg_pool2d(between, SIDE, STEP).flatten().numpy() if min(plane.shape) >= SIDE else 0
    doubt = _detail(light) * (WHOLE + unsure)
    return _noise(
        _energy(plane - there[..., 0]),
        doubt,
        light,
        _energy(residual),
        np.inf,
        _energy(there[..., 1]),
    )


def _noise(
    energy: np.ndarray,
    doubt: np.ndarray,
    light: np.ndarray,
    residual: np.ndarray,
    most: float,
    passed: np.ndarray | None = None,
) -> Noise | None:
    """From a view of the noise. It is looked for in the blocks of each brightness that there is the
    least doubt about, so that dark ones do not speak for all.

    Args:
        energy, residual: (SIDE * SIDE, blocks) of the view and of what the plane has besides; the
            smaller power counts, or the mean where both say about the same.
        doubt: (blocks,) how little they tell.
        light: (H, W) of the plane.
        most: what the power does not exceed.
        passed: (SIDE * SIDE, blocks) of other noise in the view, for a variance of 1.
    """
    brightness = spectrum_of(light[None])[0, 0].flatten().numpy() / SIDE
    alive = np.flatnonzero(energy.mean(axis=0) > IDLE)
    bins = (brightness[alive] * (BINS / 256)).astype(int).clip(0, BINS - 1)
    share = max(SUREST, ENOUGH / max(len(alive), 1))
    sure = []
    for number in range(BINS):
        blocks = alive[bins == number]
        count = int(np.ceil(share * len(blocks)))
        sure.append(blocks[np.argsort(doubt[blocks], kind="stable")[:count]])
    chosen = np.concatenate(sure)
    if not len(chosen):
        return None
    scale = np.ones(SIDE**2) if passed is None else 1 + passed[:, chosen].mean(axis=1)
    powers = [np.median(energy[:, chosen], axis=1) / scale, np.median(residual[:, chosen], axis=1)]
    least, mean = np.min(powers, axis=0), np.mean(powers, axis=0)
    power = np.where(least < CLEARLY_LESS * mean, least, mean) / NORMAL**2
    power = power.clip(max=most)
    # What a block differs by as a whole is a change of the light, more than noise.
    power[0] = min(power[0], max(power[1], power[SIDE]))
    power = uniform_filter(power.reshape(SIDE, SIDE), 3, mode="nearest").ravel()
    levels = np.full(BINS, np.nan)
    overall = float(np.median(energy[np.ix_(HIGH, chosen)].mean(axis=0)))
    for number, blocks in enumerate(sure):
        if len(blocks) >= FEWEST and overall > 0:
            levels[number] = np.median(energy[np.ix_(HIGH, blocks)].mean(axis=0)) / overall
    return Noise(power, levels)


def _energy(plane: np.ndarray) -> np.ndarray:
    """(H, W) to the squares (SIDE * SIDE, blocks) of its blocks' coefficients."""
    return spectrum_of(plane[None])[0].flatten(1).square_().numpy()


def _detail(light: np.ndarray) -> np.ndarray:
    """(blocks,) how much there is to see in each."""
    return _energy(light)[1:].sum(axis=0)


def static_under_noise(frames: np.ndarray) -> bool:
    """Whether most of (T, H, W, 3) uint8 frames is the same LAG frames later, but for strong noise.
    Then frames further away than the nearest say what a frame shows as well. False where there are
    few frames."""
    if len(frames) < LEAST_FRAMES or min(frames.shape[1:3]) < SIDE:
        return False
    shares = []
    for t in np.unique(np.linspace(0, len(frames) - 1 - LAG, SAMPLED).astype(int)):
        before, after = (frames[u].mean(axis=2, dtype=np.float32) for u in (t, t + LAG))
        deviation = float(np.sqrt(white_variance(before)))
        if deviation < STRONG:
            return False
        difference = F.avg_pool2d(torch.from_numpy(before - after)[None], SIDE).abs()
        shares.append(float((difference < 3 * deviation * 2**0.5 / SIDE).float().mean()))
    return float(np.mean(shares)) > STATIC


def white_variance(plane: np.ndarray) -> float:
    """The variance of white noise in an (H, W) plane: from its second differences across both axes
    (Immerkaer, 1996), by the median absolute value, which detail hardly reaches (Donoho and
    Johnstone, 1994). 0 where a side is under three samples."""
    if min(plane.shape) < 3:
        return 0.0
    fine = plane[1:-1] - (plane[:-2] + plane[2:]) / 2
    fine = fine[:, 1:-1] - (fine[:, :-2] + fine[:, 2:]) / 2
    return float(np.median(np.abs(fine)) / NORMAL / 1.5) ** 2


def typical(noises: Sequence[Noise]) -> Noise:
    """The median of what several pairs of planes say: a cut or a repeated frame does not count."""
    if not noises:
        return Noise.none()
    power = np.median([noise.power for noise in noises], axis=0)
    measured = np.array([noise.levels for noise in noises])
    known = np.flatnonzero(~np.isnan(measured).all(axis=0))
    levels = np.ones(BINS, np.float32)
    if len(known):
        levels = np.interp(CENTRES, CENTRES[known], np.nanmedian(measured[:, known], axis=0))
    return Noise(power.astype(np.float32), levels.astype(np.float32))

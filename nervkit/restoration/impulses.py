"""Single pixels that have nothing to do with what is around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import median_filter, uniform_filter

# Impulses, in mean deviations from the median around:
FEW = 6.0  # is beyond what detail does, but for little
MANY = 5.0  # tells impulses where they are many,
CLEAR = 3.0  # if what is beyond this is left out of the mean,
CROWDED = 0.04  # and many are more than this share of a frame
QUIETEST = 2.0  # 8-bit steps: no mean deviation is taken to be less
AROUND = 7  # pixels: the side of the window that a mean deviation is taken in
ROUNDS = 20  # at most, of leaving out
ALIKE = 0.25  # of a deviation: pixels that differ by less are alike
LINE = 3  # pixels alike around one, in its frame and those beside it, make a line or an edge;
SHAPE = 5  # so many do where some are alike by chance
SIDE_BY_SIDE = 2.0  # times what chance makes of them: how often many impulses are neighbours
RETURNS = 0.5  # of how far a pixel stands out: it is seen again where it differs by less
LOOKED_AT = 8  # frames, for how many impulses there are
BY_CHANCE = 0.05  # share of many impulses that have one alike just before and after them


def screened(
    noisy: np.ndarray, on_search: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """(T, H, W, 3) uint8 frames with the median around in place of what looks like an impulse.
    `on_search` is called after each frame, with how many are done and how many there are."""
    made = noisy.copy()
    for t, frame in enumerate(made):
        hit, around = outliers(frame.astype(np.float32), noisy, t)
        frame[hit] = around[hit]
        on_search(t + 1, len(made))
    return made


def impulse_share(noisy: np.ndarray) -> float:
    """About how many of the pixels of (T, H, W, 3) uint8 frames look like impulses, from some."""
    places = np.unique(np.linspace(0, len(noisy) - 1, LOOKED_AT).astype(int))
    return float(np.mean([outliers(noisy[t].astype(np.float32), noisy, t)[0] for t in places]))


def outliers(values: np.ndarray, noisy: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of (H, W, 3) values that differ from the 3x3 median around by many times the mean
    deviation there, and that are no part of something: (H, W) bool, and the medians (H, W, 3).

    What has pixels alike around it is a line or a corner, and what is the same before and after is
    there to stay. Where impulses are many, they hide each other and have pixels alike around by
    chance: those that are found are left out of the mean deviations and of the medians.

    Args:
        values: of frame t, the frame itself or what a fit leaves of it.
        noisy: (T, H, W, 3) uint8, the frames.
        t: which one.
    """
    nearest = sorted(range(max(0, t - 2), min(len(noisy), t + 3)), key=lambda u: abs(u - t))
    beside = [noisy[u] for u in nearest[1:3]]
    around, deviation = _medians(values, values)
    hit = deviation > MANY * _mean_deviation(deviation, CLEAR)
    alike, stays = _alike(noisy[t], beside, deviation, hit)
    if not _scattered(hit & ~stays & (alike < SHAPE)):
        hit = deviation > FEW * _mean_deviation(deviation, FEW)
        alike, stays = _alike(noisy[t], beside, deviation, hit)
        return hit & ~stays & (alike < LINE), around
    found = _leaving(hit, stays)
    around, deviation = _medians(np.where(found[..., None], around, values), values)
    hit = deviation > MANY * _mean_deviation(deviation, CLEAR)
    return _leaving(hit, _alike(noisy[t], beside, deviation, hit)[1]), around


def seen_again(
    frame: np.ndarray,
    hit: np.ndarray,
    around: np.ndarray,
    beside: list[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """The pixels among those hit that are in other frames too, along the motion: fine detail, and
    no impulses. Where impulses are many, they are there by chance, and none is returned.

    Args:
        frame: (H, W, 3) uint8.
        hit: (H, W) bool, what `outliers` found in it.
        around: (H, W, 3) what it would be replaced by.
        beside: two frames (H, W, 3) uint8, and the flow (2, H, W) to each. Both must have a pixel,
            or one right beside it.

    Returns:
        (H, W) bool.
    """
    again = np.zeros_like(hit)
    if len(beside) < 2 or hit.mean() > CROWDED:
        return again
    rows, columns = np.nonzero(hit)
    values = frame[rows, columns].astype(np.int16)
    limit = RETURNS * np.abs(values - around[rows, columns]).max(axis=1)
    found = np.ones(len(rows), bool)
    for other, flow in beside:
        padded = np.pad(other, ((1, 1), (1, 1), (0, 0)), "edge").astype(np.int16)
        there = np.stack([rows, columns]) + flow[:, rows, columns].round().astype(int)
        down, right = there.clip(0, np.array([[side - 1] for side in hit.shape])) + 1
        near = [
            np.abs(padded[down + y, right + x] - values).max(axis=1) < limit
            for y, x in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        found &= np.any(near, axis=0)
    again[rows[found], columns[found]] = True
    return again


def _leaving(hit: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """What is hit and does not stay, where more stays than does by chance."""
    return hit & ~stays if stays.sum() > BY_CHANCE * hit.sum() else hit


def _scattered(hit: np.ndarray) -> bool:
    """Whether the True in (H, W) are many, and neighbours no more often than by chance: text and
    other fine detail are."""
    share = hit.mean()
    rows, columns = hit[1:] & hit[:-1], hit[:, 1:] & hit[:, :-1]
    falling, rising = hit[1:, 1:] & hit[:-1, :-1], hit[1:, :-1] & hit[:-1, 1:]
    pairs = [pair.mean() for pair in (rows, columns, falling, rising) if pair.size]
    return bool(share > CROWDED and np.mean(pairs or [1]) < SIDE_BY_SIDE * share**2)


def _alike(
    frame: np.ndarray, beside: list[np.ndarray], deviation: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the 3x3 pixels around each in an (H, W, 3) frame and in those beside it, how many differ
    from it by less than ALIKE of `deviation` (H, W), and whether the pixels at its place do, in
    both frames beside: (H, W) int16 and bool. 0 and False elsewhere than `where`."""
    rows, columns = np.nonzero(where)
    values = frame[rows, columns].astype(np.int16)
    limit = ALIKE * deviation[rows, columns]
    alike = np.full(len(rows), -1, np.int16)  # the pixel itself is counted
    stays = np.full(len(rows), len(beside) == 2)
    for other in (frame, *beside):
        padded = np.pad(other, ((1, 1), (1, 1), (0, 0)), "reflect").astype(np.int16)
        for down, right in np.ndindex(3, 3):
            near = np.abs(padded[rows + down, columns + right] - values).max(axis=1) < limit
            alike += near
            if (down, right) == (1, 1):
                stays &= near
    counts, same = np.zeros(where.shape, np.int16), np.zeros(where.shape, bool)
    counts[rows, columns], same[rows, columns] = alike, stays
    return counts, same


def _medians(calm: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 3x3 medians of `calm` (H, W, 3), and how far `values` are from them (H, W)."""
    around = median_filter(calm, (3, 3, 1))
    return around, np.abs(values - around).max(axis=2)


def _mean_deviation(deviation: np.ndarray, limit: float) -> np.ndarray:
    """(H, W) mean of `deviation` around each pixel, over what is not above `limit` times it, as
    far as ROUNDS of leaving that out come; QUIETEST at least."""
    within = np.ones(deviation.shape, bool)
    for _ in range(ROUNDS):
        share = uniform_filter(within.astype(np.float32), AROUND).clip(min=0.5 / AROUND**2)
        mean = np.maximum(uniform_filter(np.where(within, deviation, 0), AROUND) / share, QUIETEST)
        before, within = within, deviation <= limit * mean
        if np.array_equal(within, before):
            break
    return mean

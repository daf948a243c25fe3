"""Impulse noise: detection and removal of single outlier pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import median_filter, uniform_filter

# Thresholds are multiples of the local mean deviation from the 3x3 median.
SPARSE_THRESHOLD = 6.0  # for few impulses: detail hardly ever exceeds it
DENSE_THRESHOLD = 5.0  # for many impulses, with
DENSE_LIMIT = 3.0  # deviations above this multiple left out of the mean
DENSE_SHARE = 0.04  # of a frame: more impulses than this are many
LEAST_DEVIATION = 2.0  # 8-bit steps: the lower bound of the mean deviation
WINDOW = 7  # pixels: side of the window for the mean deviation
MOST_ROUNDS = 20  # of leaving outliers out of the mean
SIMILAR = 0.25  # of a deviation: pixels that differ by less are similar
LINE = 3  # similar pixels around one, in its frame and the nearest two, form a line or an edge;
SHAPE = 5  # this many do where some are similar by chance
PAIR_EXCESS = 2.0  # factor on the chance rate: random impulses are neighbours less often than this
REAPPEARANCE = 0.5  # of an outlier's deviation: a pixel that differs by less is the same detail
SAMPLED_FRAMES = 8  # for the estimate of the share of impulses
STATIC_BY_CHANCE = 0.05  # share of dense impulses with a similar one in both frames beside


def without_impulses(
    noisy: np.ndarray, on_search: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Replace the impulses in (T, H, W, 3) uint8 frames by the local median. `on_search` is called
    with (done, total) after each frame."""
    result = noisy.copy()
    for t, frame in enumerate(result):
        hit, median = find_impulses(frame.astype(np.float32), noisy, t)
        frame[hit] = median[hit]
        on_search(t + 1, len(result))
    return result


def impulse_share(noisy: np.ndarray) -> float:
    """Estimate the share of impulses among the pixels of (T, H, W, 3) uint8 frames, from some."""
    sampled = np.unique(np.linspace(0, len(noisy) - 1, SAMPLED_FRAMES).astype(int)).tolist()
    return float(
        np.mean([find_impulses(noisy[t].astype(np.float32), noisy, t)[0] for t in sampled])
    )


def find_impulses(values: np.ndarray, noisy: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the pixels of a frame that differ from the local median by many times the local mean
    deviation.

    Pixels with similar ones around them are lines or corners, and pixels that are similar in both
    frames beside are static: neither are impulses. Dense impulses mask each other and have similar
    pixels around them by chance, so a second pass leaves the first pass's impulses out of the mean
    deviations and medians.

    Args:
        values: (H, W, 3) float32, frame t or its residual after a prediction.
        noisy: (T, H, W, 3) uint8, all frames.
        t: index of the frame.

    Returns:
        The impulses (H, W) bool, and the 3x3 medians (H, W, 3).
    """
    nearest = sorted(range(max(0, t - 2), min(len(noisy), t + 3)), key=lambda u: abs(u - t))
    beside = [noisy[u] for u in nearest[1:3]]
    median, deviation = _deviation(values, values)
    hit = deviation > DENSE_THRESHOLD * _mean_deviation(deviation, DENSE_LIMIT)
    similar, static = _similar(noisy[t], beside, deviation, hit)
    if not _is_dense_noise(hit & ~static & (similar < SHAPE)):
        hit = deviation > SPARSE_THRESHOLD * _mean_deviation(deviation, SPARSE_THRESHOLD)
        similar, static = _similar(noisy[t], beside, deviation, hit)
        return hit & ~static & (similar < LINE), median
    found = _without_static(hit, static)
    median, deviation = _deviation(np.where(found[..., None], median, values), values)
    hit = deviation > DENSE_THRESHOLD * _mean_deviation(deviation, DENSE_LIMIT)
    return _without_static(hit, _similar(noisy[t], beside, deviation, hit)[1]), median


def reappearing(
    frame: np.ndarray,
    hit: np.ndarray,
    replacement: np.ndarray,
    beside: list[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Find the impulses that other frames show too, along the motion: they are fine detail. Among
    dense impulses such matches happen by chance, so the result is then empty.

    Args:
        frame: (H, W, 3) uint8.
        hit: (H, W) bool, the impulses that `find_impulses` found in it.
        replacement: (H, W, 3), the values that would replace them.
        beside: two frames (H, W, 3) uint8, and the flow (2, H, W) to each. Both must show the
            pixel, within one pixel of its place.

    Returns:
        (H, W) bool.
    """
    again = np.zeros_like(hit)
    if len(beside) < 2 or hit.mean() > DENSE_SHARE:
        return again
    rows, columns = np.nonzero(hit)
    values = frame[rows, columns].astype(np.int16)
    limit = REAPPEARANCE * np.abs(values - replacement[rows, columns]).max(axis=1)
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


def _without_static(hit: np.ndarray, static: np.ndarray) -> np.ndarray:
    """Drop the static pixels of dense impulses if there are more of them than by chance."""
    return hit & ~static if static.sum() > STATIC_BY_CHANCE * hit.sum() else hit


def _is_dense_noise(hit: np.ndarray) -> bool:
    """Return whether the True pixels of (H, W) are many, and neighbours no more often than by
    chance. Those of text and other fine detail are neighbours more often."""
    share = hit.mean()
    rows, columns = hit[1:] & hit[:-1], hit[:, 1:] & hit[:, :-1]
    falling, rising = hit[1:, 1:] & hit[:-1, :-1], hit[1:, :-1] & hit[:-1, 1:]
    pairs = [pair.mean() for pair in (rows, columns, falling, rising) if pair.size]
    return bool(share > DENSE_SHARE and np.mean(pairs or [1]) < PAIR_EXCESS * share**2)


def _similar(
    frame: np.ndarray, beside: list[np.ndarray], deviation: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compare pixels with those around them. Two pixels are similar if they differ by less than
    SIMILAR times the `deviation` (H, W).

    Returns:
        The number of similar pixels in the 3x3 windows of `frame` (H, W, 3) and of the frames
        `beside`, (H, W) int16; and whether the pixels at the same place in both frames beside are
        similar, (H, W) bool. Outside `where` they are 0 and False.
    """
    rows, columns = np.nonzero(where)
    values = frame[rows, columns].astype(np.int16)
    limit = SIMILAR * deviation[rows, columns]
    similar = np.full(len(rows), -1, np.int16)  # the loop counts the pixel itself
    static = np.full(len(rows), len(beside) == 2)
    for other in (frame, *beside):
        padded = np.pad(other, ((1, 1), (1, 1), (0, 0)), "reflect").astype(np.int16)
        for down, right in np.ndindex(3, 3):
            near = np.abs(padded[rows + down, columns + right] - values).max(axis=1) < limit
            similar += near
            if (down, right) == (1, 1):
                static &= near
    counts, same = np.zeros(where.shape, np.int16), np.zeros(where.shape, bool)
    counts[rows, columns], same[rows, columns] = similar, static
    return counts, same


def _deviation(calm: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 3x3 medians of `calm` (H, W, 3), and how far `values` are from them (H, W)."""
    median = median_filter(calm, (3, 3, 1))
    return median, np.abs(values - median).max(axis=2)


def _mean_deviation(deviation: np.ndarray, limit: float) -> np.ndarray:
    """Return the local mean of `deviation` (H, W), LEAST_DEVIATION at least. Values above `limit`
    times the mean are left out, iteratively, for at most MOST_ROUNDS rounds."""
    within = np.ones(deviation.shape, bool)
    for _ in range(MOST_ROUNDS):
        share = uniform_filter(within.astype(np.float32), WINDOW).clip(min=0.5 / WINDOW**2)
        total = uniform_filter(np.where(within, deviation, 0), WINDOW)
        mean = np.maximum(total / share, LEAST_DEVIATION)
        before, within = within, deviation <= limit * mean
        if np.array_equal(within, before):
            break
    return mean

"""Single pixels that have nothing to do with what is around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import median_filter, uniform_filter

# Impulses, in mean deviations from the median around:
FEW = 6.0  # is beyond what detail does, but for little
MANY = 5.0  # tells impulses where they are many,
CLEAR = 3.0  # if what is beyond this is not counted among the deviations,
CROWDED = 0.04  # and many are more than this share of a frame
QUIETEST = 2.0  # 8-bit steps: no mean deviation is taken to be less
AROUND = 7  # pixels: the side of the window that a mean deviation is taken in
ROUNDS = 20  # at most, of leaving out what is not counted


def screened(
    noisy: np.ndarray, on_search: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """(T, H, W, 3) uint8 frames with the median around in place of what looks like an impulse.
    `on_search` is called after each frame, with how many are done and how many there are."""
    made = noisy.copy()
    for done, frame in enumerate(made, start=1):
        hit, around = outliers(frame.astype(np.float32))
        frame[hit] = around[hit]
        on_search(done, len(made))
    return made


def outliers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of (H, W, 3) values that stand out of the 3x3 median around more than is usual
    there: (H, W) bool, and the medians (H, W, 3).

    Few are taken for impulses only where they stand out far, as detail may too. Where they are
    many, they hide each other, and those that are found are left out of the medians.
    """
    around, apart = _medians(values, values)
    hit = apart > MANY * _usual(apart, CLEAR)
    if hit.mean() <= CROWDED:
        return apart > FEW * _usual(apart, FEW), around
    around, apart = _medians(np.where(hit[..., None], around, values), values)
    return apart > MANY * _usual(apart, CLEAR), around


def _medians(calm: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 3x3 medians of `calm` (H, W, 3), and how far `values` are from them (H, W)."""
    around = median_filter(calm, (3, 3, 1))
    return around, np.abs(values - around).max(axis=2)


def _usual(apart: np.ndarray, limit: float) -> np.ndarray:
    """(H, W) mean of `apart` around each pixel, over what is not above `limit` times it."""
    within = np.ones(apart.shape, bool)
    for _ in range(ROUNDS):
        share = uniform_filter(within.astype(np.float32), AROUND).clip(min=0.5 / AROUND**2)
        usual = np.maximum(uniform_filter(np.where(within, apart, 0), AROUND) / share, QUIETEST)
        before, within = within, apart <= limit * usual
        if np.array_equal(within, before):
            break
    return usual

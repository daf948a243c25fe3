"""Frames moved along optical flow."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from nervkit.models.flow import moved

DISAGREEMENT = 40.0


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The flow along one and then along another: (2, H, W) each."""
    return first + moved(second.transpose(1, 2, 0), first).transpose(2, 0, 1)


def carried(first: np.ndarray, second: np.ndarray, flow: np.ndarray, share: float) -> np.ndarray:
    """What lies between two (H, W, C) images, `share` of the way along the flow from the first to
    the second: both moved there, (H, W, C) float32."""
    here, there = _both_moved(first, second, flow, share)
    return here + np.float32(share) * (there - here)


def agreed(
    first: np.ndarray, second: np.ndarray, flow: np.ndarray, share: float, other: np.ndarray
) -> np.ndarray:
    """As `carried`, but `other` where the two differ: by DISAGREEMENT 8-bit steps, mean over
    5x5 pixels, it counts for 63%."""
    here, there = _both_moved(first, second, flow, share)
    differing = uniform_filter(np.abs(here - there).mean(axis=2), 5)
    trust = np.exp(-np.square(differing / DISAGREEMENT))[..., None]
    return other + trust * (here + np.float32(share) * (there - here) - other)


def disagreement(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> float:
    """How much two (H, W, C) images differ where both are moved half of the way, in 8-bit steps,
    mean over all values."""
    here, there = _both_moved(first, second, flow, 0.5)
    return float(np.abs(here - there).mean())


def _both_moved(
    first: np.ndarray, second: np.ndarray, flow: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    return moved(first, -share * flow), moved(second, (1 - share) * flow)

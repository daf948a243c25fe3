"""Warping frames along optical flow."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from nervkit.models.flow import warp

DISAGREEMENT = 40.0  # 8-bit steps: the scale of `blended`


def composed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the flow along `first` and then along `second`; each is (2, H, W)."""
    return first + warp(second.transpose(1, 2, 0), first).transpose(2, 0, 1)


def warped_between(
    first: np.ndarray, second: np.ndarray, flow: np.ndarray, share: float
) -> np.ndarray:
    """Return the image between two (H, W, C) images, at `share` of the flow from the first to the
    second: the weighted mean of both, warped to that time; (H, W, C) float32."""
    here, there = _warped(first, second, flow, share)
    return here + np.float32(share) * (there - here)


def blended(
    first: np.ndarray, second: np.ndarray, flow: np.ndarray, share: float, other: np.ndarray
) -> np.ndarray:
    """Return the image between two images as `warped_between` does, but blend in `other` where the
    warped images differ. At DISAGREEMENT 8-bit steps, averaged over 5x5 pixels, `other` weighs
    63%."""
    here, there = _warped(first, second, flow, share)
    difference = uniform_filter(np.abs(here - there).mean(axis=2), 5)
    weight = np.exp(-np.square(difference / DISAGREEMENT))[..., None]
    return other + weight * (here + np.float32(share) * (there - here) - other)


def disagreement(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> float:
    """Return the mean absolute difference, in 8-bit steps, of two (H, W, C) images that are both
    warped half of the way."""
    here, there = _warped(first, second, flow, 0.5)
    return float(np.abs(here - there).mean())


def _warped(
    first: np.ndarray, second: np.ndarray, flow: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    return warp(first, -share * flow), warp(second, (1 - share) * flow)

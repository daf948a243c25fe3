"""The papers' damages, made on purpose: noise and masks for evaluation."""

from __future__ import annotations

import numpy as np

from nervkit.errors import UsageError

IMPULSES = ("white", "black", "salt-pepper", "random")
NOISES = ("gaussian", *IMPULSES)


def add_noise(frames: np.ndarray, kind: str, amount: float, seed: int = 0) -> np.ndarray:
    """Noisy frames.

    Args:
        frames: (T, H, W, 3) uint8.
        kind: "gaussian": `amount` is its standard deviation in 8-bit steps, for each sample by
            itself; or impulses, of which `amount` is the share of pixels: "white", "black",
            "salt-pepper" (half of each), "random" (uniform colours). NeRV (2110.13903)
            has these, and does not state its density.
        seed: of the noise.

    Returns:
        (T, H, W, 3) uint8, rounded and clipped.
    """
    rng = np.random.default_rng(seed)
    if kind == "gaussian":
        if amount < 0:
            raise UsageError(f"sigma must not be negative, not {amount}")
        noisy = np.empty_like(frames)
        for frame, clean in zip(noisy, frames, strict=True):
            noise = rng.standard_normal(clean.shape, np.float32) * np.float32(amount)
            frame[:] = (clean + noise).round().clip(0, 255)
        return noisy
    if kind not in IMPULSES:
        raise UsageError(f"unknown noise {kind!r}; choose from: {', '.join(NOISES)}")
    if not 0 <= amount <= 1:
        raise UsageError(f"the density must lie in 0 to 1, not {amount}")
    noisy = frames.copy()
    for frame in noisy:
        hit = rng.random(frame.shape[:2]) < amount
        count = int(hit.sum())
        if kind == "random":
            frame[hit] = rng.integers(0, 256, (count, 3), np.uint8)
        elif kind == "salt-pepper":
            frame[hit] = rng.integers(0, 2, (count, 1), np.uint8) * 255
        else:
            frame[hit] = 255 if kind == "white" else 0
    return noisy


def five_boxes(height: int, width: int, side: int = 50) -> np.ndarray:
    """(H, W) bool: boxes around the centre and the four quarter points, as in HNeRV
    (2304.02633)."""
    mask = np.zeros((height, width), bool)
    for row, column in ((1, 1), (1, 3), (2, 2), (3, 1), (3, 3)):
        top = max(0, row * height // 4 - side // 2)
        left = max(0, column * width // 4 - side // 2)
        mask[top : top + side, left : left + side] = True
    return mask


def centre_box(height: int, width: int) -> np.ndarray:
    """(H, W) bool: one box of H/4 x W/4 (Boosting NeRV, 2402.18152)."""
    mask = np.zeros((height, width), bool)
    top, left = (height - height // 4) // 2, (width - width // 4) // 2
    mask[top : top + height // 4, left : left + width // 4] = True
    return mask

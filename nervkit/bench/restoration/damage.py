"""Synthetic damage for evaluation: the papers' noise and masks, and noise of cameras and codecs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nervkit.bench.restoration.ffmpeg import run_ffmpeg
from nervkit.errors import UsageError
from nervkit.video.colour import Colour
from nervkit.video.planes import Planes

IMPULSES = ("white", "black", "salt-pepper", "random")
NOISES = ("gaussian", "poisson", *IMPULSES)
IN_FILES = ("planes", "codec")  # noise on 4:2:0 planes, which exist in a file only


def add_noise(frames: np.ndarray, kind: str, amount: float, seed: int = 0) -> np.ndarray:
    """Return frames with noise.

    Args:
        frames: (T, H, W, 3) uint8.
        kind: "gaussian": independent for each sample, with standard deviation `amount` in 8-bit
            steps; "poisson": variance proportional to the sample, with standard deviation
            `amount` at white; or impulses in a share `amount` of the pixels: "white", "black",
            "salt-pepper" (half each), "random" (uniform colours). The impulses are those of NeRV
            (2110.13903), which does not state its density.
        seed: of the noise.

    Returns:
        (T, H, W, 3) uint8, rounded and clipped.

    Raises:
        UsageError: an unknown kind, or an amount out of range.
    """
    rng = np.random.default_rng(seed)
    if kind in ("gaussian", "poisson"):
        if amount < 0:
            raise UsageError(f"sigma must not be negative, not {amount}")
        noisy = np.empty_like(frames)
        for frame, clean in zip(noisy, frames, strict=True):
            noise = rng.standard_normal(clean.shape, np.float32) * np.float32(amount)
            if kind == "poisson":
                noise *= np.sqrt(clean / np.float32(255))
            frame[:] = (clean + noise).round().clip(0, 255)
        return noisy
    if kind not in IMPULSES:
        raise UsageError(f"unknown noise {kind!r}; choose from: {', '.join(NOISES)}")
    if not 0 <= amount <= 1:
        raise UsageError(f"density must lie in 0 to 1, not {amount}")
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


def noisy_file(
    frames: np.ndarray, kind: str, amount: float, folder: Path, seed: int = 0
) -> tuple[Path, np.ndarray]:
    """Write a noisy movie. Return its path and its frames without the noise.

    Args:
        frames: (T, H, W, 3) uint8, clean; an odd last row or column is cropped.
        kind: "planes": Gaussian noise of standard deviation `amount` in 8-bit steps on the Y, U and
            V samples of 4:2:0, stored losslessly; "codec": ffmpeg's noise filter of strength
            `amount`, new in every frame, then x264 at CRF 1.
        folder: where the movie is written.
        seed: of the noise.

    Raises:
        UsageError: an amount out of range.
    """
    if not 0 <= amount <= 100:
        raise UsageError(f"noise of {kind} must lie in 0 to 100, not {amount:g}")
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    colour = Colour()
    clean = [Planes.from_rgb(frame[:height, :width], colour) for frame in frames]
    raw = np.stack([planes.samples() for planes in clean])
    given = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", "25"]
    if kind == "planes":
        path, how = folder / "noisy.mkv", ["-c:v", "ffv1"]
        noise = np.random.default_rng(seed).standard_normal(raw.shape, np.float32)
        raw = (raw + np.float32(amount) * noise).round().clip(0, 255).astype(np.uint8)
    else:
        path = folder / "noisy.mp4"
        chain = f"noise=alls={amount:g}:allf=t:all_seed={seed}"
        how = ["-vf", chain, "-c:v", "libx264", "-crf", "1"]
    run_ffmpeg([*given, "-i", "-", *how, str(path)], raw.tobytes())
    return path, np.stack([planes.rgb(colour, width, height) for planes in clean])


def five_boxes(height: int, width: int, side: int = 50) -> np.ndarray:
    """Return an (H, W) bool mask of boxes around the centre and the four quarter points (HNeRV,
    2304.02633)."""
    mask = np.zeros((height, width), bool)
    for row, column in ((1, 1), (1, 3), (2, 2), (3, 1), (3, 3)):
        top = max(0, row * height // 4 - side // 2)
        left = max(0, column * width // 4 - side // 2)
        mask[top : top + side, left : left + side] = True
    return mask


def centre_box(height: int, width: int) -> np.ndarray:
    """Return an (H, W) bool mask of one centred box of H/4 x W/4 (Boosting NeRV, 2402.18152)."""
    mask = np.zeros((height, width), bool)
    top, left = (height - height // 4) // 2, (width - width // 4) // 2
    mask[top : top + height // 4, left : left + width // 4] = True
    return mask

"""Restore frames in memory: remove noise, fill a hole, double the frame rate.

python examples/restore.py
"""

from pathlib import Path

import numpy as np

import nervkit
from nervkit.bench.restoration.damage import add_noise
from nervkit.metrics import psnr

bunny = Path(__file__).parent / "bunny.mp4"
clean = nervkit.read_clip(bunny, frames="0:25", resize="160x90").frames


def compare(task: str, before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> None:
    """Print the PSNR before and after the restoration."""
    first, second = (
        np.mean([psnr(a, b) for a, b in zip(truth, x, strict=True)]) for x in (before, after)
    )
    print(f"{task}: {first:.2f} -> {second:.2f} dB")


noisy = add_noise(clean, "gaussian", 25)
compare("denoise", noisy, nervkit.denoise(noisy), clean)

hole = np.zeros(clean.shape[1:3], bool)
hole[30:50, 60:90] = True
masked = np.where(hole[:, :, None], np.uint8(0), clean)
compare("inpaint", masked, nervkit.inpaint(masked, hole, steps=300), clean)

even, odd = clean[::2], clean[1::2]
between = nervkit.interpolate(even, factor=2)[1:-1:2]  # 13 frames become 26
compare("interpolate (before: the previous frame)", even[:-1], between, odd)

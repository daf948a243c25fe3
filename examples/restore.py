"""Repair frames that are in memory: noise, a hole, a low frame rate.

python examples/restore.py
"""

from pathlib import Path

import numpy as np

import nervkit
from nervkit.bench.restoration.damage import add_noise
from nervkit.metrics import psnr

bunny = Path(__file__).parent / "bunny.mp4"
clean = nervkit.read_clip(bunny, frames="0:25", resize="160x90").frames


def tell(what: str, before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> None:
    first, second = (
        np.mean([psnr(a, b) for a, b in zip(truth, x, strict=True)]) for x in (before, after)
    )
    print(f"{what}: {first:.2f} -> {second:.2f} dB")


noisy = add_noise(clean, "gaussian", 25)
tell("denoise", noisy, nervkit.denoise(noisy), clean)

hole = np.zeros(clean.shape[1:3], bool)
hole[30:50, 60:90] = True
masked = np.where(hole[:, :, None], np.uint8(0), clean)
tell("inpaint", masked, nervkit.inpaint(masked, hole, steps=300), clean)

even, odd = clean[::2], clean[1::2]
between = nervkit.interpolate(even, factor=2)[1:-1:2]
tell("interpolate, from a repeated frame", even[:-1], between, odd)

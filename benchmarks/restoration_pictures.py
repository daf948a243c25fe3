"""Draw before, after and difference, from Bunny's frames stored by benchmarks/restoration.py.

    python benchmarks/restoration_pictures.py

Writes docs/restoration_*.png.
"""

import imageio.v3 as iio
import matplotlib.pyplot as plt
import numpy as np
from common import ROOT
from restoration import OUT

ROWS = {
    "denoise": ("bunny-gaussian-25", {"damaged": "noisy", "nervkit": "nervkit"}),
    "inpaint": ("bunny-boxes-50", {"damaged": "masked", "nervkit": "nervkit"}),
    "interpolate": ("bunny-odd-even", {"average": "average of neighbours", "nervkit": "nervkit"}),
}
BESIDE = {"denoise": "gaussian 3d", "inpaint": "biharmonic", "interpolate": "minterpolate"}
GAIN = 4  # of the differences

for task, (folder, methods) in ROWS.items():
    shown = methods | {BESIDE[task]: BESIDE[task], "clean": "ground truth"}
    frames = {m: iio.imread(OUT / f"{folder}-{m.replace(' ', '-')}.png") for m in shown}
    figure, axes = plt.subplots(2, 4, figsize=(13, 4.1))
    for column, (method, title) in enumerate(shown.items()):
        difference = np.abs(frames[method].astype(float) - frames["clean"]).mean(axis=2)
        axes[0, column].imshow(frames[method], interpolation="nearest")
        axes[0, column].set_title(title, fontsize=10)
        axes[1, column].imshow(GAIN * difference, cmap="gray", vmin=0, vmax=255)
    axes[1, 0].set_ylabel(f"difference x {GAIN}", fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.subplots_adjust(0.02, 0.01, 0.999, 0.94, 0.02, 0.02)
    figure.savefig(ROOT / "docs" / f"restoration_{task}.png", dpi=100)
    plt.close(figure)

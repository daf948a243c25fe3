"""Ablation of GridNeRV in a rate-distortion fit: variants at one target size.

    python benchmarks/coded_curves.py --save-frames frames.npz
    python benchmarks/coded_ablation.py frames.npz rows.json [--steps 3000]

Like fits_at_once.py, it needs only torch and scikit-image, and fits all variants of a clip
concurrently on a GPU. results/coded_ablation.json has the measured rows.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fits_at_once import build, built, fit_all, frames_of

from nervkit.bench.records import write_record
from nervkit.compression.coded import compress_coded
from nervkit.models.gridnerv import GridNeRVConfig

SIZE = 50_000
#: the configuration with a motion-compensated grid, which the variants change
MOVED: dict[str, Any] = {
    "widths": (36, 36),
    "grid_rates": (2, 4, 24, 24, 0),
    "grid_scales": (4, 2, 1, 0, 1),
    "grid_channels": (2, 2, 4, 1, 4),
    "moved_rate": 24,
}
FEWER = {"grid_scales": (4, 2, 1, 1), "grid_channels": (2, 2, 4, 4)}
KNOTS_12 = {"grid_rates": (2, 4, 12, 12, 0), "moved_rate": 12, "widths": (48, 48)}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no detail grid": {**FEWER, "grid_rates": (2, 4, 24, 0)},
    "width 28": {"widths": (28, 28)},
    "8 channels in the moved grid": {"grid_channels": (2, 2, 8, 1, 4)},
    "width 48, knots in 12 frames": KNOTS_12,
    "... and no motion, no detail": {
        **KNOTS_12,
        **FEWER,
        "grid_rates": (2, 4, 12, 0),
        "moved_rate": 0,
    },
    "... and no detail": {**KNOTS_12, **FEWER, "grid_rates": (2, 4, 12, 0)},
    "... and motion of every cell": {**KNOTS_12, "motion_scale": 1},
}
RECIPES: dict[str, dict[str, Any]] = {
    "Muon 0.025": {"matrix_lr": 0.025},
    "noise from 0.3": {"least_noise": 0.3},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--clips", default="basketballpass,bunny")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    archive, device = np.load(chosen.frames), torch.device(chosen.device)
    rows = []
    for clip in chosen.clips.split(","):
        frames = frames_of(archive, clip, device)
        wanted = [(name, change, {}) for name, change in VARIANTS.items()]
        wanted += [(name, {}, change) for name, change in RECIPES.items()]
        makers = [
            partial(build, frames, SIZE, 0, GridNeRVConfig(**{**MOVED, **change}), **recipe)
            for _, change, recipe in wanted
        ]
        steppers, streams = built(makers, device)
        fit_all(steppers, streams, chosen.steps, float("inf"))
        for (name, _, _), stepper in zip(wanted, steppers, strict=True):
            size = len(compress_coded(stepper.codec.data(stepper.model.eval())))
            row = {"clip": clip, "variant": name, "tensor_bytes": size, "psnr": stepper.probe()}
            rows.append(row)
            print(row, flush=True)
    write_record(chosen.rows, {"steps": chosen.steps, "rows": rows})


if __name__ == "__main__":
    main()

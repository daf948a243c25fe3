"""Fitting time of each preset at sizes from a thumbnail to 1080p: the number of steps times the
measured seconds per step.

    python benchmarks/presets.py

Bunny, 132 frames, upscaled for 1080p, with the default model and size.
"""

import numpy as np
import torch
from common import ROOT, measure_step, report

import nervkit
from nervkit.fitting.budget import PRESETS, Budget
from nervkit.fitting.loop import Stepper
from nervkit.fitting.options import FitOptions
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape

SIZES = ("320x180", "1280x720", "1920x1080")
SECONDS = 15.0  # of measurement per size
KEPT = 8  # frames in memory for the measurement; a step takes two

rows = []
for size in SIZES:
    options = FitOptions()
    clip = nervkit.read_clip(ROOT / "examples" / "bunny.mp4", resize=size, frames=f":{KEPT}")
    shape = VideoShape(132, *clip.shape[1:3])
    network = options.model_type(options.configure(shape), shape)
    frames = torch.from_numpy(np.ascontiguousarray(clip.frames)).permute(0, 3, 1, 2)
    stepper = Stepper(network, frames, options.model_type.recipes["native"])
    seconds = measure_step(stepper, SECONDS)
    row = {"size": size, "parameters": count_stored(network), "step_milliseconds": 1000 * seconds}
    for preset in PRESETS:
        epoch = -(-shape.frames // stepper.batch)
        steps = Budget(preset).total_steps(epoch, stepper.pixels_per_step)
        row |= {f"{preset}_steps": steps, f"{preset}_minutes": steps * seconds / 60}
    rows.append(row)
    report("presets", rows)

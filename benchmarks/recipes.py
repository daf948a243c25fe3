"""The native recipes against the published ones: the same model, clip and wall time."""

import torch
from common import fitted, quality, report, small_bunny

from nervkit.fitting.loop import Stepper, measure_step
from nervkit.models.config import VideoShape
from nervkit.models.registry import load_model

SECONDS = 60
SIZES = {"hnerv": 180_000, "nerv": 350_000}

if __name__ == "__main__":
    clip = small_bunny()
    shape = VideoShape(*clip.shape[:3])
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    rows = []
    for model, params in SIZES.items():
        model_type = load_model(model)
        for name in ("paper", "native"):
            recipe = model_type.recipes[name]
            trial = model_type(model_type.configure(shape, params), shape)
            steps = int(SECONDS / measure_step(Stepper(trial, frames, recipe), 4.0))
            network, seconds = fitted(clip, model, params, recipe, steps)
            rows.append(
                {
                    "model": model,
                    "params": params,
                    "recipe": name,
                    "steps": steps,
                    "seconds": seconds,
                    "psnr": quality(network, clip),
                }
            )
    report("recipes", rows)

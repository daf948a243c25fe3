"""PSNR over fitting time: GridNeRV against HNeRV's published recipe, on one machine in one run.

    python benchmarks/fit_speed.py [CLIP ...]

Every point is a fit of its own, with its schedule laid over that time. The rows so far are written
after each fit; 40 minutes a clip. Clips: bunny, basketballpass, blackswan; all by default.
"""

from __future__ import annotations

import sys

import torch
from common import ROOT, fitted, quality, report, small_bunny

import nervkit
from nervkit.fitting.loop import Stepper, measure_step
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.recipe import Recipe
from nervkit.models.registry import load_model
from nervkit.video.clip import Clip

SHARED = ROOT.parent / "shared" / "clips"
CLIPS = {
    "bunny": small_bunny,
    "basketballpass": lambda: nervkit.read_clip(SHARED / "basketballpass", fps=50),
    "blackswan": lambda: nervkit.read_clip(
        SHARED / "davis" / "blackswan" / "frames", fps=25, resize="427x240"
    ),
}
PARAMS = 180_000
FITS = (  # the long one first: what the others are held against
    ("hnerv", "paper", (1500, 300, 60)),
    ("gridnerv", "native", (15, 30, 60, 120)),
)


def steps_within(clip: Clip, model: str, recipe: Recipe, seconds: float) -> int:
    """How many steps take `seconds` here and now."""
    model_type, shape = load_model(model), VideoShape(*clip.shape[:3])
    network = model_type(model_type.configure(shape, PARAMS), shape)
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    return round(seconds / measure_step(Stepper(network, frames, recipe), 4.0))


if __name__ == "__main__":
    rows = []
    for name in sys.argv[1:] or CLIPS:
        clip = CLIPS[name]()
        for model, recipe_name, budgets in FITS:
            recipe = load_model(model).recipes[recipe_name]
            for budget in budgets:
                steps = steps_within(clip, model, recipe, budget)
                network, seconds = fitted(clip, model, PARAMS, recipe, steps)
                rows.append(
                    {
                        "clip": name,
                        "model": model,
                        "recipe": recipe_name,
                        "parameters": count_stored(network),
                        "budget": budget,
                        "steps": steps,
                        "seconds": seconds,
                        "psnr": quality(network, clip),
                    }
                )
                report("fit_speed", rows)

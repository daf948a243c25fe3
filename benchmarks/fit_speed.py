"""PSNR over fitting time: GridNeRV against HNeRV's published recipe, on one machine in one run.

    python benchmarks/fit_speed.py [CLIP ...]

Every point is a fit of its own, with its schedule laid over that time. The rows so far are written
after each fit; 40 minutes a clip. Clips: bunny, basketballpass, blackswan; all by default.
Stopped early, it has what matters most: the long fit, and those that are held against it.
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
PARAMS = 180_000  # of HNeRV; GridNeRV gets no more than what that comes to
FITS = (
    ("hnerv", "paper", (1500,)),
    ("gridnerv", "native", (60, 30, 15, 120)),
    ("hnerv", "paper", (60, 300)),
)


def size(clip: Clip) -> int:
    """The stored values of HNeRV at `PARAMS`."""
    model_type, shape = load_model("hnerv"), VideoShape(*clip.shape[:3])
    return count_stored(model_type.skeleton(model_type.configure(shape, PARAMS), shape))


def steps_within(clip: Clip, model: str, params: int, recipe: Recipe, seconds: float) -> int:
    """How many steps take `seconds` here and now."""
    model_type, shape = load_model(model), VideoShape(*clip.shape[:3])
    network = model_type(model_type.configure(shape, params), shape)
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    return round(seconds / measure_step(Stepper(network, frames, recipe), 4.0))


if __name__ == "__main__":
    rows = []
    for name in sys.argv[1:] or CLIPS:
        clip = CLIPS[name]()
        for model, recipe_name, budgets in FITS:
            recipe = load_model(model).recipes[recipe_name]
            params = PARAMS if model == "hnerv" else size(clip)
            for budget in budgets:
                steps = steps_within(clip, model, params, recipe, budget)
                network, seconds = fitted(clip, model, params, recipe, steps)
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

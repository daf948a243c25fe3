"""PSNR over fitting time: GridNeRV against HNeRV's published recipe, on one machine in one run.

    python benchmarks/fit_speed.py [CLIP ...]

Every point is a fit of its own, with its schedule laid over that time. The rows so far are written
after each fit; 40 minutes a clip. Clips: bunny, basketballpass, blackswan; all by default.
Stopped early, it has what matters most: the long fit, and those that are held against it.
"""

from __future__ import annotations

import itertools
import sys

from common import CLIPS, fitted, quality, report, steps_within

from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.registry import load_model
from nervkit.video.clip import Clip

PARAMS = 180_000  # of HNeRV; GridNeRV gets no more than what that comes to
FITS = (
    ("hnerv", "paper", (1500,)),
    ("gridnerv", "native", (60, 30, 15, 120)),
)
MORE_FITS = (("hnerv", "paper", (60, 300)),)  # the rest of its curve, after all clips' targets


def size(clip: Clip) -> int:
    """The stored values of HNeRV at `PARAMS`."""
    model_type, shape = load_model("hnerv"), VideoShape(*clip.shape[:3])
    return count_stored(model_type.skeleton(model_type.configure(shape, PARAMS), shape))


if __name__ == "__main__":
    rows = []
    names = sys.argv[1:] or list(CLIPS)
    clips = {name: CLIPS[name]() for name in names}
    for fits in (FITS, MORE_FITS):
        for name, (model, recipe_name, budgets) in itertools.product(names, fits):
            clip, recipe = clips[name], load_model(model).recipes[recipe_name]
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

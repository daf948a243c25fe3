"""PSNR by fitting time: GridNeRV against HNeRV's published recipe, on one machine in one run.

    python benchmarks/fit_speed.py [CLIP ...]

Every point is a separate fit whose schedule spans its time budget. Rows are written after each fit;
a clip takes 40 minutes. Clips: bunny, basketballpass, blackswan; the default is all. Rows of clips
that are not named are kept. Each row has its date of measurement. The long fit and the fits
compared with it come first, so that an interrupted run has the main result. Also draws
results/fit_speed.svg.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

from common import CLIPS, RESULTS, earlier_rows, fitted, quality, report, steps_within
from matplotlib.figure import Figure

from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.registry import load_model
from nervkit.video.clip import Clip

PARAMS = 180_000  # requested of HNeRV; GridNeRV gets at most HNeRV's actual count
FITS = (
    ("hnerv", "paper", (1500,)),
    ("gridnerv", "native", (60, 30, 15, 120)),
)
MORE_FITS = (("hnerv", "paper", (60, 300)),)  # the rest of the curve, after all main results
STYLES = {
    "hnerv": {"color": "#d55e00", "marker": "s"},
    "gridnerv": {"color": "#0072b2", "marker": "o"},
}
TICKS = (15, 60, 300, 1500)


def size(clip: Clip) -> int:
    """Return the number of stored values of HNeRV at PARAMS."""
    model_type, shape = load_model("hnerv"), VideoShape(*clip.shape[:3])
    return count_stored(model_type.skeleton(model_type.configure(shape, PARAMS), shape))


def draw(rows: list[dict[str, Any]]) -> None:
    """Plot PSNR over seconds, one panel per clip; the dashed line is HNeRV's longest fit."""
    names = list(dict.fromkeys(row["clip"] for row in rows))
    figure = Figure(figsize=(3.2 * len(names), 2.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for model, style in STYLES.items():
            mine = [row for row in rows if row["clip"] == name and row["model"] == model]
            points = sorted((row["seconds"], row["psnr"]) for row in mine)
            axes.plot(*zip(*points, strict=True), label=f"{model}, {mine[0]['recipe']}", **style)
            if model == "hnerv":
                axes.axhline(points[-1][1], color=style["color"], linestyle="--", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("seconds of fitting", fontsize=8)
        axes.set_ylabel("PSNR [dB]", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(True, which="major", color="0.9", linewidth=0.6)
        axes.legend(fontsize=7, frameon=False, loc="lower right")
    figure.savefig(RESULTS / "fit_speed.svg")


if __name__ == "__main__":
    names = sys.argv[1:] or list(CLIPS)
    rows = earlier_rows("fit_speed", names)
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
                        "date": time.strftime("%Y-%m-%d"),
                    }
                )
                report("fit_speed", rows)
    draw(rows)

"""Shared parts of the benchmarks: the clips, the fits, and the records in results/."""

from __future__ import annotations

import copy
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

import nervkit
from nervkit.bench.machine import commit, cpu_name
from nervkit.bench.records import read_record, write_record
from nervkit.fitting.graphed import EAGER_CALLS
from nervkit.fitting.loop import Stepper, fit
from nervkit.fitting.threads import fit_threads
from nervkit.metrics import psnr
from nervkit.models.base import Representation
from nervkit.models.config import VideoShape
from nervkit.models.recipe import Recipe
from nervkit.models.registry import load_model
from nervkit.networks import render
from nervkit.video.clip import Clip

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHARED = ROOT.parent / "shared" / "clips"


def small_bunny() -> Clip:
    """Return the literature's 640x1280 centre crop of Bunny, 132 frames, area-averaged to
    160x320."""
    return nervkit.read_clip(ROOT / "examples" / "bunny.mp4", crop="1280x640", resize="320x160")


CLIPS = {
    "bunny": small_bunny,
    "basketballpass": lambda: nervkit.read_clip(SHARED / "basketballpass", fps=50),
    "blackswan": lambda: nervkit.read_clip(
        SHARED / "davis" / "blackswan" / "frames", fps=25, resize="427x240"
    ),
}


def fitted(
    clip: Clip,
    model: str,
    params: int,
    recipe: Recipe,
    steps: int,
    seed: int = 0,
    start: bool = True,
    **options: Any,
) -> tuple[Representation, float]:
    """Fit a model to the clip. Return it and the seconds of the fit.

    Args:
        start: whether the clip initialises the model (`start_fit`).
        options: of the model's `configure`.
    """
    torch.manual_seed(seed)
    network, frames = _unfitted(clip, model, params, **options)
    began = time.perf_counter()
    if start:
        network.start_fit(frames)
    fit(Stepper(network, frames, recipe, seed=seed), steps)
    return network, time.perf_counter() - began


def steps_within(clip: Clip, model: str, params: int, recipe: Recipe, seconds: float) -> int:
    """Return how many steps take `seconds` on this machine."""
    network, frames = _unfitted(clip, model, params)
    return int(seconds / measure_step(Stepper(network, frames, recipe), 4.0))


def measure_step(stepper: Stepper, seconds: float) -> float:
    """Measure the seconds per step of a fit with a step budget, for about `seconds`, on a copy of
    the model."""
    trial = Stepper(copy.deepcopy(stepper.model), stepper.frames, stepper.recipe, seed=stepper.seed)
    with fit_threads(trial.device, trial.pixels_per_step, timed=False):
        for k in range(EAGER_CALLS + 1):  # warm-up: chooses kernels and records a graph
            float(trial.step(k, 0.0))
        start, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - start < seconds:
            float(trial.step(done, 0.0))  # waits for the device
            done += 1
        return (time.perf_counter() - start) / done


def _unfitted(
    clip: Clip, model: str, params: int, **options: Any
) -> tuple[Representation, torch.Tensor]:
    """Return a new model for the clip, and the clip's frames as (T, 3, H, W) uint8."""
    model_type, shape = load_model(model), VideoShape(*clip.shape[:3])
    network = model_type(model_type.configure(shape, params, **options), shape)
    return network, torch.from_numpy(clip.frames).permute(0, 3, 1, 2)


def quality(network: Representation, clip: Clip) -> float:
    """Return the mean PSNR in dB over 8-bit RGB frames of the reference decoder."""
    pairs = enumerate(clip.frames)
    return sum(psnr(frame, render(network, [t])[0]) for t, frame in pairs) / len(clip.frames)


def environment() -> dict[str, Any]:
    """Return the machine, the versions and the date."""
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "nervkit": nervkit.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def report(name: str, rows: list[dict[str, Any]], **notes: Any) -> None:
    """Print the rows as a table and write them, with the environment, to results/<name>.json."""
    columns = list(rows[0])
    cells = [columns] + [[_text(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    arguments = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]
    command = " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *arguments])
    record = {"command": command, "environment": environment(), **notes, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    write_record(RESULTS / f"{name}.json", record)


def earlier_rows(name: str, clips: list[str]) -> list[dict[str, Any]]:
    """Return the rows of results/<name>.json, without those of `clips`, which are measured
    again."""
    return [row for row in recorded_rows(name) if row["clip"] not in clips]


def recorded_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of results/<name>.json; none if there is no such record."""
    record = read_record(RESULTS / f"{name}.json")
    return [] if record is None else record["rows"]


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)

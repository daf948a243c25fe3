"""All models at equal stored values, with the papers' recipes and compression and with nervkit's.

    python benchmarks/model_family.py [MODEL ...]

Bunny and basketballpass at reduced size, about 0.2 and 0.5 million stored values. Each model has
three fits: "paper", STEPS steps of the published recipe and compression (or 8 bits); "native", as
many steps of nervkit's recipe through the quantizer to BITS bits per value; and "time", the same
for SECONDS. `bytes` is the size of a written and decoded file without sound. Rows of
results/model_family.json are kept; named models are measured again. Takes about an hour and a half
on two cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import SHARED, recorded_rows, report

import nervkit
from nervkit.models.complexity import blueprint
from nervkit.models.config import VideoShape
from nervkit.models.recipe import PAPER
from nervkit.models.registry import BUILT_IN, load_model
from nervkit.video.clip import Clip

NAME = "model_family"
STEPS, SECONDS, BITS = 200, 30, 3
SIZES = (200_000, 500_000)
CLIPS = {
    "bunny": lambda: nervkit.read_clip("examples/bunny.mp4", crop="1280x640", resize="160x80"),
    "basketballpass": lambda: nervkit.read_clip(
        SHARED / "basketballpass", fps=50, resize="208x120"
    ),
}


def how(model: str, kind: str, params: int) -> dict[str, Any]:
    """Return the options of a fit."""
    if kind == "paper":
        published = load_model(model).recipes[PAPER].compression
        return {"recipe": "paper", "steps": STEPS, "compression": published and "paper"}
    length = {"steps": STEPS} if kind == "native" else {"time": SECONDS}
    return {"target_size": params * BITS // 8, **length}


def measure(name: str, clip: Clip, model: str, kind: str, params: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nerv"
        options = how(model, kind, params)
        made = nervkit.encode(clip, path, model=model, params=params, device="cpu", **options)
        with nervkit.open(path) as video:
            video[0]
            began = time.perf_counter()
            count = sum(1 for _ in video)
            seconds = time.perf_counter() - began
    shape = VideoShape(*clip.shape[:3])
    model_type = load_model(model)
    plan = blueprint(model_type, model_type.config_type.from_dict(made.config), shape)
    return {
        "clip": name,
        "params": params,
        "model": model,
        "fit": kind,
        "values": made.parameters,
        "steps": made.steps,
        "psnr": made.psnr,
        "bytes": made.bytes,
        "bpp": made.bpp,
        "paper_bpp": made.published_bpp,
        "steps_per_second": made.steps / made.fit_seconds,
        "macs_per_pixel": plan.macs / (shape.height * shape.width),
        "decoded_per_second": count / seconds,
    }


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["clip"], row["params"], row["model"], row["fit"]


if __name__ == "__main__":
    asked = sys.argv[1:]
    rows = [row for row in recorded_rows(NAME) if row["model"] not in asked]
    done = {key(row) for row in rows}
    clips = {name: replace(read(), tracks=[]) for name, read in CLIPS.items()}
    for params in SIZES:
        for name, clip in clips.items():
            for model in BUILT_IN:
                kinds = ["native", "time"] + ["paper"] * (PAPER in load_model(model).recipes)
                for kind in kinds:
                    if (name, params, model, kind) in done:
                        continue
                    rows.append(measure(name, clip, model, kind, params))
                    order = list(BUILT_IN)
                    rows.sort(key=lambda r: (*key(r)[:2], order.index(r["model"]), r["fit"]))
                    report(NAME, rows, steps=STEPS, seconds=SECONDS, bits=BITS)

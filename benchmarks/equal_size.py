"""Quality at equal size and time: GridNeRV with a preset against HNeRV's published recipe; then
both after an equal number of steps of two frames each.

    python benchmarks/equal_size.py [--preset medium] [CLIP ...]

Both have an equal number of 8-bit values, whose entropy differs slightly. Sizes are complete files
without sound; PSNR is that of the decoded file. Medium takes twenty minutes per clip. Rows of clips
that are not named are kept.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import CLIPS, earlier_rows, report

import nervkit

PARAMS = 180_000
STEPS = 300
NATIVE = {"model": "gridnerv"}
PUBLISHED = {"model": "hnerv", "recipe": "paper"}


def encoded(clip: nervkit.Clip, **options: Any) -> nervkit.EncodeReport:
    with tempfile.TemporaryDirectory() as folder:
        return nervkit.encode(clip, Path(folder) / "a.nerv", **options)


def size(done: nervkit.EncodeReport) -> int:
    """Return the bytes of the file without sound."""
    return done.bytes - done.bytes_by_part["tracks"]


def row(clip: str, budget: str, done: nervkit.EncodeReport) -> dict[str, Any]:
    return {
        "clip": clip,
        "budget": budget,
        "model": done.model,
        "parameters": done.parameters,
        "steps": done.steps,
        "seconds": done.fit_seconds,
        "bytes": size(done),
        "psnr": done.psnr,
        "ssim": done.ssim,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="medium")
    parser.add_argument("clips", nargs="*", default=list(CLIPS))
    asked = parser.parse_args()
    results = f"equal_size_{asked.preset}"
    rows = earlier_rows(results, asked.clips)
    for name in asked.clips:
        clip = CLIPS[name]()
        native = encoded(clip, params=PARAMS, preset=asked.preset, **NATIVE)
        published = encoded(clip, params=PARAMS, time=native.fit_seconds, **PUBLISHED)
        rows += [row(name, asked.preset, native), row(name, "the same time", published)]
        for model in (NATIVE, PUBLISHED):
            rows.append(row(name, "steps", encoded(clip, params=PARAMS, steps=STEPS, **model)))
        report(results, rows)

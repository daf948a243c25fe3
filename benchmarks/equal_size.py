"""Quality at an equal size: GridNeRV with `--preset medium`, and HNeRV's published recipe given the
same time; then both after as many steps, of two frames each.

    python benchmarks/equal_size.py [CLIP ...]

Sizes are those of whole files without sound; HNeRV gets as many parameters as make its file no
smaller. PSNR is that of the file, decoded. A quarter of an hour a clip.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from common import CLIPS, report

import nervkit

PARAMS = 180_000
STEPS = 300
NATIVE = {"model": "gridnerv"}
PUBLISHED = {"model": "hnerv", "recipe": "paper"}
TRIAL_STEPS = 100  # of a fit that tells how many bytes a value takes
MARGIN = 1.03  # in case it takes fewer at the end


def encoded(clip: nervkit.Clip, **options: Any) -> nervkit.EncodeReport:
    with tempfile.TemporaryDirectory() as folder:
        return nervkit.encode(clip, Path(folder) / "a.nerv", **options)


def size(done: nervkit.EncodeReport) -> int:
    """Bytes of the file, without sound."""
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
    rows = []
    for name in sys.argv[1:] or CLIPS:
        clip = CLIPS[name]()
        native = encoded(clip, params=PARAMS, preset="medium", **NATIVE)
        trial = encoded(clip, params=PARAMS, steps=TRIAL_STEPS, **PUBLISHED)
        params = MARGIN * PARAMS * size(native) / size(trial)
        published = encoded(clip, params=params, time=native.fit_seconds, **PUBLISHED)
        rows += [row(name, "medium", native), row(name, "the same time", published)]
        for options in ({"params": PARAMS} | NATIVE, {"params": params} | PUBLISHED):
            rows.append(row(name, "steps", encoded(clip, steps=STEPS, **options)))
        report("equal_size", rows)

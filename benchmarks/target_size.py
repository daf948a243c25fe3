"""Files of equal size by two methods: a rate-distortion fit to that size, and quantization to 8
bits after a fit of as many steps.

    python benchmarks/target_size.py [CLIP ...] [--steps 1000]

Takes 5 to 10 minutes for each of three files per clip on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import CLIPS, report

import nervkit

SIZES = ("48k", "178k")  # stored values of the fits without a target; the first file sets the size


def row(clip: str, way: str, steps: int, **options: Any) -> dict[str, Any]:
    """Encode a clip without its tracks."""
    source = replace(CLIPS[clip](), tracks=())
    with tempfile.TemporaryDirectory() as folder:
        made = nervkit.encode(
            source, Path(folder) / "a.nerv", steps=steps, device="cpu", on_note=print, **options
        )
    return {
        "clip": clip,
        "fit": way,
        "steps": steps,
        "parameters": made.parameters,
        "bytes": made.bytes,
        "bits_per_parameter": round(made.bits_per_parameter, 3),
        "psnr": round(made.psnr, 3),
        "fit_seconds": round(made.fit_seconds, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", default=["bunny", "basketballpass"])
    parser.add_argument("--steps", type=int, default=1000)
    chosen = parser.parse_args()
    rows = []
    for clip in chosen.clips:
        first = row(clip, "8 bits after the fit", chosen.steps, params=SIZES[0])
        rows.append(first)
        target = first["bytes"]
        rows.append(row(clip, "rate and distortion", chosen.steps, target_size=target))
        rows.append(row(clip, "8 bits after the fit", chosen.steps, params=SIZES[1]))
        report("target_size", rows)

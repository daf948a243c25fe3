"""Gain of a fit for 4:2:0 planes over one for RGB, by model, with and without the loss term for
colours within 2x2 pixels.

    python benchmarks/metric.py [CLIP ...] [--steps 300]

Takes about 8 minutes per clip on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import CLIPS, report

import nervkit
from nervkit.fitting import metric
from nervkit.metrics import psnr_planes, psnr_yuv
from nervkit.video.planes import Planes


def row(clip: str, model: str, how: str, detail: float, steps: int) -> dict[str, Any]:
    """Encode a clip without its tracks, and measure the decoded planes."""
    source = replace(CLIPS[clip](), tracks=())
    metric.DETAIL = detail
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nerv"
        made = nervkit.encode(
            source, path, model=model, metric=how, steps=steps, device="cpu", on_note=print
        )
        planes = np.mean(
            [
                psnr_planes(*(Planes.from_rgb(f, source.colour) for f in two), *source.shape[1:3])
                for two in zip(source.frames, nervkit.open(path), strict=True)
            ],
            axis=0,
        )
    return {
        "clip": clip,
        "model": model,
        "metric": how,
        "detail": detail if how == "yuv" else None,
        "steps": steps,
        "parameters": made.parameters,
        "bytes": made.bytes,
        "psnr_yuv": round(psnr_yuv(*planes), 3),
        **{f"psnr_{name}": round(value, 3) for name, value in zip("yuv", planes, strict=True)},
        "psnr_rgb": round(made.psnr, 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", default=["bunny"])
    parser.add_argument("--steps", type=int, default=300)
    chosen = parser.parse_args()
    usual, rows = metric.DETAIL, []
    for clip in chosen.clips:
        for model in ("gridnerv", "hnerv"):
            for how, detail in (("rgb", usual), ("yuv", usual), ("yuv", 0.0)):
                rows.append(row(clip, model, how, detail, chosen.steps))
                report("metric", rows)

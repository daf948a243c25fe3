"""Decoding speed in frames per second, from a file to 8-bit frames in memory: GridNeRV, HNeRV, and
H.264 and HEVC of equal quality through ffmpeg on the same cores.

    python benchmarks/decode_speed.py [DEVICE]

Best of three on an otherwise idle machine. nervkit decodes in this process to RGB on DEVICE (cpu),
with reading and entropy decoding; ffmpeg decodes in its own process, through a pipe, to 4:2:0.
HNeRV has a short fit, on which its speed does not depend.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, report

import nervkit
from nervkit.bench.anchors import FFmpeg
from nervkit.bench.codecs import AnchorCodec
from nervkit.bench.datasets import ClipSpec
from nervkit.bench.process import Runner
from nervkit.bench.reference import Reference, prepare
from nervkit.metrics import psnr

SIZES = ("320x160", "1280x640")
MODELS = {"gridnerv": 2_000, "hnerv": 20}  # steps
REPEATS = 3


def best(seconds: Callable[..., float], *arguments: Any) -> float:
    """Return the shortest of REPEATS times."""
    return min(seconds(*arguments) for _ in range(REPEATS))


def neural_seconds(path: Path, device: str) -> float:
    began = time.perf_counter()
    with nervkit.open(path, device=device) as video:
        frames = video[:]
    assert len(frames) == len(video)
    return time.perf_counter() - began


def anchor_seconds(codec: AnchorCodec, reference: Reference, path: Path) -> float:
    return codec.decode(reference, path)[0]["decode_seconds"]


def quality(codec: AnchorCodec, reference: Reference, path: Path) -> float:
    """Return the mean RGB PSNR in dB of the decoded frames."""
    _, decoded = codec.decode(reference, path)
    pairs = zip(reference.clip.frames, decoded, strict=True)
    return float(np.mean([psnr(frame, shown) for frame, (shown, _) in pairs]))


def matched(
    codec: AnchorCodec, reference: Reference, wanted: float, path: Path
) -> tuple[int, float]:
    """Encode to `path` at the CRF whose quality is nearest to `wanted` dB. Return it and its
    quality."""
    low, high = codec.anchor.limits
    tried: dict[int, float] = {}
    while low <= high:
        middle = (low + high) // 2
        codec.encode(reference, middle, path, resume=False)
        tried[middle] = quality(codec, reference, path)
        if tried[middle] > wanted:
            low = middle + 1
        else:
            high = middle - 1
    crf = min(tried, key=lambda value: abs(tried[value] - wanted))
    codec.encode(reference, crf, path, resume=False)
    return crf, tried[crf]


def row(
    size: str, what: str, path: Path, shown: float, frames: int, seconds: float
) -> dict[str, Any]:
    return {
        "size": size,
        "what": what,
        "bytes": path.stat().st_size,
        "psnr": shown,
        "seconds": seconds,
        "frames_per_second": frames / seconds,
    }


if __name__ == "__main__":
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    rows = []
    ffmpeg, runner = FFmpeg(), Runner()
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            options = {"crop": "1280x640", "resize": size}
            spec = ClipSpec("bunny", ROOT / "examples" / "bunny.mp4", options=options)
            reference = prepare(spec, folder, viewer_frames=0)
            frames = len(reference.clip.frames)
            wanted = 0.0
            for model, steps in MODELS.items():
                path = folder / f"{model}.nerv"
                done = nervkit.encode(reference.clip, path, model=model, steps=steps)
                wanted = wanted or done.psnr
                seconds = best(neural_seconds, path, device)
                what = f"{model}, {done.parameters:,} parameters, {device}"
                rows.append(row(size, what, path, done.psnr, frames, seconds))
            for anchor in ("x264", "x265"):
                codec = AnchorCodec(anchor, "strong", None, ffmpeg, runner)
                path = folder / f"anchor{codec.suffix}"
                crf, shown = matched(codec, reference, wanted, path)
                seconds = best(anchor_seconds, codec, reference, path)
                rows.append(row(size, f"{anchor} crf {crf}", path, shown, frames, seconds))
            report("decode_speed", rows)

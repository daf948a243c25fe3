"""Rate-distortion curves of GridNeRV's codec on four clips, from fits to target sizes: files
decoded on this machine, against the anchors in results/rate_distortion.

    python benchmarks/coded_curves.py --save-frames frames.npz

saves the frames for fits_at_once.py, and

    python benchmarks/coded_curves.py --fits fits.npz

writes the files, prints a table, and writes results/coded_curves.json and .svg.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import CLIPS, RESULTS, SHARED, report

import nervkit
from nervkit.assembly import new_header
from nervkit.bench.records import read_record
from nervkit.compression.coded import decompress_coded
from nervkit.container.file import pack_file
from nervkit.container.header import Segment
from nervkit.container.segment import CONTEXTS, SegmentData
from nervkit.framechecks import DecodedFrames
from nervkit.metrics import quality_of
from nervkit.metrics.bd import NoOverlapError, bd_rate
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.gridnerv import GridNeRV, GridNeRVConfig
from nervkit.video.clip import Clip

ANCHORS = ("x264", "x265", "svt-av1", "vvenc")


def city() -> Clip:
    return nervkit.read_clip(SHARED / "vid4_city", resize="352x288", fps=30)


FOUR = {**CLIPS, "vid4_city": city}


def file_of(clip: Clip, row: dict[str, Any], payload: bytes, steps: int) -> dict[str, Any]:
    """Write a file of the fit without tracks, decode it, and return its row."""
    shape = VideoShape(*clip.shape[:3])
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in row["config"].items()}
    model = GridNeRV.for_decoding(GridNeRVConfig(**config), shape)
    names = {name: tuple(tensor.shape) for name, tensor in model.stored().items()}
    tensors = decompress_coded(payload, names)
    model.load_stored({name: torch.from_numpy(array) for name, array in tensors.items()})
    segment = Segment(shape.frames, "gridnerv", row["config"], count_stored(model))
    header = new_header(shape.width, shape.height, clip, f"{steps} steps").of_segments([segment])
    data, decoded = SegmentData.of((CONTEXTS, len(names), payload)), DecodedFrames()
    with nervkit.open(pack_file(header, clip.timing, [data])) as video:
        for reference, frame in zip(clip.frames, video, strict=True):
            decoded.add(frame, quality_of(reference, frame, clip.colour))
    quality = decoded.quality
    checks = decoded.checks(quality.psnr, quality.ssim)
    size = len(pack_file(header, clip.timing, [data], checks=checks))
    return {
        "clip": row["clip"],
        "target": row["target"],
        "bytes": size,
        "bpp": round(8 * size / shape.pixels, 5),
        "parameters": segment.values,
        "psnr": round(quality.psnr, 3),
        "psnr_yuv": round(quality.psnr_yuv, 3),
    }


def anchor_points(clip: str, codec: str, measure: str) -> list[tuple[float, float]]:
    """Return the Pareto-optimal (bytes, quality) points of an anchor."""
    paths = (RESULTS / "rate_distortion" / clip).glob(f"{codec}-*.json")
    records = filter(None, map(read_record, paths))
    points = sorted((record["bytes"], record["measures"][measure]) for record in records)
    # x265's highest rate factors can give larger files of lower quality.
    return [(b, q) for b, q in points if not any(b2 <= b and q2 > q for b2, q2 in points)]


def bd_rates(rows: list[dict[str, Any]], column: str, measure: str) -> dict[str, dict[str, Any]]:
    """Return BD-rate in percent and the overlap of the curves, by clip and anchor."""
    rates: dict[str, dict[str, Any]] = {}
    for clip in dict.fromkeys(row["clip"] for row in rows):
        curve = [(row["bytes"], row[column]) for row in rows if row["clip"] == clip]
        rates[clip] = {}
        for codec in ANCHORS:
            try:
                found = bd_rate(anchor_points(clip, codec, measure), curve)
            except NoOverlapError as error:
                print(f"{clip}, {codec}: {error}")
                continue
            rates[clip][codec] = {
                "percent": round(found.value, 1),
                "overlap": round(found.overlap, 3),
            }
    return rates


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot PSNR over bits per pixel for every clip, with the anchors."""
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    figure, axes = plt.subplots(1, len(clips), figsize=(4 * len(clips), 3.4), layout="constrained")
    for axis, clip in zip(axes, clips, strict=True):
        own = [row for row in rows if row["clip"] == clip]
        pixels = own[0]["bytes"] * 8 / own[0]["bpp"]
        for codec in ANCHORS:
            rates, qualities = zip(*anchor_points(clip, codec, "psnr_rgb"), strict=True)
            axis.plot([8 * b / pixels for b in rates], qualities, ".-", label=codec, linewidth=1)
        axis.plot([r["bpp"] for r in own], [r["psnr"] for r in own], "ko-", label="GridNeRV")
        axis.set_xscale("log")
        axis.set_title(clip, fontsize=10)
        axis.set_xlabel("bits per pixel")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("PSNR RGB, dB")
    axes[0].legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save-frames", type=Path)
    parser.add_argument("--fits", type=Path)
    parser.add_argument("--name", default="coded_curves", help="name of the record in results/")
    chosen = parser.parse_args()
    clips = {name: read() for name, read in FOUR.items()}
    if chosen.save_frames is not None:
        np.savez_compressed(chosen.save_frames, **{k: clip.frames for k, clip in clips.items()})
        return
    archive = np.load(chosen.fits)
    facts = json.loads(archive["facts"].tobytes())
    rows = []
    for index, row in enumerate(facts.pop("rows")):
        clip = clips[row["clip"]]
        clip = Clip(clip.frames, clip.timing, colour=clip.colour)
        rows.append(file_of(clip, row, archive[str(index)].tobytes(), facts["steps"]))
    rows.sort(key=lambda row: (row["clip"], row["target"]))
    rates = {
        "psnr_rgb": bd_rates(rows, "psnr", "psnr_rgb"),
        "psnr_yuv": bd_rates(rows, "psnr_yuv", "psnr_yuv"),
    }
    report(chosen.name, rows, fits=facts, bd_rate=rates)
    plot(rows, RESULTS / f"{chosen.name}.svg")
    for measure, by_clip in rates.items():
        print(measure)
        for clip, by_codec in by_clip.items():
            cells = [f"{c} {r['percent']:+.1f}% ({r['overlap']:.2f})" for c, r in by_codec.items()]
            print(" ", clip, ", ".join(cells))
        for codec in ANCHORS:
            found = [
                by_codec[codec]["percent"] for by_codec in by_clip.values() if codec in by_codec
            ]
            if found:
                print(
                    f"  mean of {len(found)} clips, {codec}: {math.fsum(found) / len(found):+.1f}%"
                )


if __name__ == "__main__":
    main()

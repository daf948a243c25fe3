"""Long videos: the cost of segments and the gain of workers.

    python benchmarks/long_video.py [workers] [memory] [cuts] [film]

workers: wall time of an encode with one worker of two threads, and with two of one thread.
memory: peak memory of an encode of 3,000 and of 30,000 frames.
cuts: bytes and PSNR of Bunny at 320x160 as one network, and cut in 2 and in 4, at equal total bytes
and steps.
film: 5,000 frames of 320x180 with cuts, cross-fades and sound (see film.py), from the clips of
../shared/clips: which cuts are found, the file's size and the times of reading it.

Takes about an hour on two otherwise idle cores. Each part writes its own file.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from common import ROOT, report, small_bunny
from film import make_film

import nervkit
import nervkit.metrics


def encode(
    source: str, *options: str, threads: int | None = None, output: Path | None = None
) -> dict[str, Any]:
    """Encode in a separate process. Return its report with its wall time and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        output = output or Path(folder) / "a.nerv"
        command = [sys.executable, "-m", "nervkit", "encode", source, "-o", str(output), "--json"]
        environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, env=environment, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"an encode failed: {' '.join(command)}")
        made = json.loads(printed)
        made |= {"wall_seconds": time.perf_counter() - began, "most_kilobytes": usage.ru_maxrss}
    return made


def synthetic(folder: str, frames: int, size: str) -> str:
    """Write a film of test pictures with a cut every 200 frames."""
    path = Path(folder) / f"{frames}.mp4"
    source = f"testsrc=s={size}:r=25,hue=h=60*floor(n/200)"
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source]
    subprocess.run([*ffmpeg, "-frames:v", str(frames), "-y", str(path)], check=True)
    return str(path)


def workers() -> list[dict[str, Any]]:
    options = ["--resize", "320x160", "--segments", "33", "--steps", "150", "--device", "cpu"]
    rows = []
    for count, threads in ((1, 2), (2, 1)):
        made = encode("examples/bunny.mp4", *options, "--workers", str(count), threads=2)
        rows.append(
            {
                "workers": count,
                "threads_each": threads,
                "segments": len(made["segments"]),
                "wall_seconds": made["wall_seconds"],
                "fit_seconds": made["fit_seconds"],
                "psnr": made["psnr"],
            }
        )
    return rows


def memory() -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in (3_000, 30_000):
            source = synthetic(folder, frames, "64x48")
            made = encode(source, "--steps", "1", "--params", "5000", "--device", "cpu")
            rows.append(
                {
                    "frames": made["frames"],
                    "segments": len(made["segments"]),
                    "most_megabytes": made["most_kilobytes"] / 1000,
                    "wall_seconds": made["wall_seconds"],
                }
            )
    return rows


def cuts() -> list[dict[str, Any]]:
    rows, clip = [], small_bunny()
    with tempfile.TemporaryDirectory() as folder:
        for parts in (1, 2, 4):
            output = Path(folder) / f"{parts}.nerv"
            options = ["--crop", "1280x640", "--resize", "320x160", "--target-bpp", "0.06"]
            options += ["--segments", "off" if parts == 1 else str(132 // parts)]
            options += ["--steps", str(1200 // parts), "--device", "cpu"]
            made = encode("examples/bunny.mp4", *options, output=output)
            borders = [segment["first"] for segment in made["segments"][1:]]
            with nervkit.open(output) as video:
                shown = np.stack(list(video))
            rows.append(
                {
                    "segments": parts,
                    "steps_each": 1200 // parts,
                    "bytes": made["bytes"] - made["bytes_by_part"]["tracks"],
                    "psnr": made["psnr"],
                    **seams(clip.frames, shown, borders),
                    "fit_seconds": made["fit_seconds"],
                }
            )
    return rows


def seams(source: np.ndarray, shown: np.ndarray, borders: list[int]) -> dict[str, float | None]:
    """Compare frames beside segment borders with the others: their PSNR, and the error's change
    from frame to frame (MSE in dB below 255). None without borders."""
    quality = np.array([nervkit.metrics.psnr(a, b) for a, b in zip(source, shown, strict=True)])
    error = shown.astype(np.int16) - source
    jumps = np.square(np.diff(error, axis=0), dtype=np.float64).mean(axis=(1, 2, 3))
    beside = sorted({place for border in borders for place in (border - 1, border)})
    at = [border - 1 for border in borders]

    def decibels(values: np.ndarray) -> float | None:
        return float(10 * np.log10(255**2 / values.mean())) if len(values) else None

    return {
        "psnr_beside_borders": float(quality[beside].mean()) if beside else None,
        "psnr_elsewhere": float(np.delete(quality, beside).mean()),
        "change_at_borders": decibels(jumps[at]),
        "change_elsewhere": decibels(np.delete(jumps, at)),
    }


def film() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "film.mp4", Path(folder) / "film.nerv"
        made_of = make_film(source)
        made = encode(str(source), "--preset", "draft", "--workers", "2", output=output)
        first = [segment["first"] for segment in made["segments"]]
        with nervkit.open(output) as video:
            opened = [_seconds(lambda p=place: video[p]) for place in (0, 4321, 1234, 2500)]
    found = sum(any(abs(place - cut) <= 1 for place in first) for cut in made_of.cuts)
    return [
        {
            "frames": made["frames"],
            "cuts": len(made_of.cuts),
            "cuts_found": found,
            "cross_fades": len(made_of.fades),
            "segments": len(first),
            "source_bytes": made_of.bytes,
            "bytes": made["bytes"],
            "sound_bytes": made["bytes_by_part"]["tracks"],
            "psnr": made["psnr"],
            "most_megabytes": made["most_kilobytes"] / 1000,
            "wall_seconds": made["wall_seconds"],
            "first_frame_seconds": opened[0],
            "other_frame_seconds": statistics.median(opened[1:]),
        }
    ]


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    measures = {"workers": workers, "memory": memory, "cuts": cuts, "film": film}
    for part in sys.argv[1:] or measures:
        report(f"long_{part}", measures[part]())

"""imageio-ffmpeg's binary, for degradations and baselines."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nervkit.errors import NervError


def run_ffmpeg(arguments: Sequence[str], stdin: bytes = b"") -> bytes:
    """Run ffmpeg and return its standard output. Raises NervError if it fails."""
    import imageio_ffmpeg  # type: ignore[import-untyped]

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise NervError(f"ffmpeg failed: {reason[-1]}")
    return done.stdout


def filtered(frames: np.ndarray, filter: str, path: Path | None = None) -> np.ndarray:
    """Apply an ffmpeg filter to (T, H, W, 3) uint8 frames. If `path` is a movie of these frames,
    the filter works on the movie's own planes."""
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    given = ["-i", str(path)] if path else [*raw, "-s", f"{width}x{height}", "-r", "25", "-i", "-"]
    made = run_ffmpeg([*given, "-vf", filter, *raw, "-"], b"" if path else frames.tobytes())
    values = np.frombuffer(made, np.uint8)
    if len(values) % frames[0].size:
        raise NervError(f"ffmpeg's {filter} returned frames of another size")
    return values.reshape(-1, height, width, 3)

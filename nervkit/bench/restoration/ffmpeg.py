"""The ffmpeg that imageio-ffmpeg brings, for damages and for methods to stand beside."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nervkit.errors import NervError


def run_ffmpeg(arguments: Sequence[str], stdin: bytes = b"") -> bytes:
    """Its stdout. Raises NervError where it fails."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise NervError(f"ffmpeg failed: {reason[-1]}")
    return done.stdout


def filtered(frames: np.ndarray, filter: str, path: Path | None = None) -> np.ndarray:
    """What one of its filters makes of (T, H, W, 3) uint8 frames, or of the movie at `path` that
    shows them, on the planes that the movie has."""
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    given = ["-i", str(path)] if path else [*raw, "-s", f"{width}x{height}", "-r", "25", "-i", "-"]
    made = run_ffmpeg([*given, "-vf", filter, *raw, "-"], b"" if path else frames.tobytes())
    values = np.frombuffer(made, np.uint8)
    if len(values) % frames[0].size:
        raise NervError(f"ffmpeg's {filter} made frames of another size")
    return values.reshape(-1, height, width, 3)

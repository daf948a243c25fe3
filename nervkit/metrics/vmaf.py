"""VMAF, measured by libvmaf in an ffmpeg binary."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from nervkit.errors import MissingDependencyError, NervError, UsageError

#: Netflix's default model for 1080p at three picture heights; built into libvmaf
VMAF_MODEL = "vmaf_v0.6.1"
#: VMAF halves the frame four times; libvmaf crashes at 16 pixels
LEAST_SIDE = 32
LOG = "vmaf.json"


def vmaf(
    reference: Path, distorted: Path, width: int, height: int, ffmpeg: str
) -> list[float | None]:
    """Return the VMAF of every frame, 0 to 100; None for each if a side is under 32 pixels.

    Args:
        reference, distorted: raw 8-bit yuv420p files with the same number of frames.
        width, height: in pixels, even.
        ffmpeg: name or path of the binary.

    Raises:
        UsageError: the files do not hold the same number of complete frames of that size.
        MissingDependencyError: there is no such ffmpeg, or it was built without libvmaf.
        NervError: ffmpeg failed.
    """
    frames = _frames(reference, distorted, width, height)
    if min(width, height) < LEAST_SIDE:
        return [None] * frames
    if "libvmaf" not in _run(ffmpeg, "-filters").stdout.split():
        raise MissingDependencyError(f"{ffmpeg} has no libvmaf: VMAF needs an ffmpeg built with it")
    planes = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", "25", "-i"]
    start = "setpts=PTS-STARTPTS"
    # The log is in the working folder, as a path inside a filter needs escaping twice.
    measure = f"libvmaf=model=version={VMAF_MODEL}:log_fmt=json:log_path={LOG}"
    with TemporaryDirectory() as folder:
        result = _run(
            ffmpeg,
            *(*planes, str(distorted.resolve()), *planes, str(reference.resolve())),
            *("-lavfi", f"[0:v]{start}[d];[1:v]{start}[r];[d][r]{measure}", "-f", "null", "-"),
            folder=folder,
        )
        if result.returncode:
            reason = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
            raise NervError(f"cannot measure VMAF: {ffmpeg} reports: {reason[-1]}")
        log = json.loads(Path(folder, LOG).read_bytes())
    scores: list[float | None] = [float(frame["metrics"]["vmaf"]) for frame in log["frames"]]
    if len(scores) != frames:
        raise NervError(f"cannot measure VMAF: {len(scores)} scores for {frames} frames")
    return scores


def _frames(reference: Path, distorted: Path, width: int, height: int) -> int:
    """Return the number of frames of both files. libvmaf itself would repeat the last frame of the
    shorter one. Raises UsageError."""
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise UsageError(f"VMAF needs an even width and height, not {width}x{height}")
    size = width * height * 3 // 2
    for path in (reference, distorted):
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        if path.stat().st_size % size or not path.stat().st_size:
            raise UsageError(f"{path}: does not hold complete {width}x{height} yuv420p frames")
    counts = reference.stat().st_size // size, distorted.stat().st_size // size
    if counts[0] != counts[1]:
        raise UsageError(f"{reference} holds {counts[0]} frames, {distorted} {counts[1]}")
    return counts[0]


def _run(
    ffmpeg: str, *arguments: str, folder: str | None = None
) -> subprocess.CompletedProcess[str]:
    binary = shutil.which(ffmpeg)
    if binary is None:
        raise MissingDependencyError(f"{ffmpeg}: no such program; VMAF needs ffmpeg with libvmaf")
    return subprocess.run(
        [Path(binary).absolute(), "-v", "error", "-nostdin", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )

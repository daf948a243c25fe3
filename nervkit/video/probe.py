"""Estimates the bytes that a clip needs at a quality, by encoding it with H.264."""

from __future__ import annotations

import io
import math

import av
import numpy as np

from nervkit.metrics import psnr

BEST, WORST = 4.0, 51.0  # range of x264's CRF
MOST_TRIALS = 6
TOLERANCE = 0.2  # tolerance in dB
DB_PER_DOUBLING = 2.4  # approximate gain in dB for twice the bytes
MOST_PIXELS = 1 << 26  # pixels to encode per trial


CONTENT_FACTOR = 32.0  # CRF at which contents are compared
CONTENT_FRAMES = 32  # frames to encode, in CONTENT_RUNS runs so that motion counts
CONTENT_RUNS = 4


def content_bytes(frames: np.ndarray) -> float:
    """Estimate the complexity of `frames` (T, H, W, 3) uint8 as the bytes per frame that x264 needs
    at a fixed CRF. A long clip is sampled in a few runs."""
    length = CONTENT_FRAMES // CONTENT_RUNS
    if len(frames) <= CONTENT_FRAMES:
        return max(1.0, _encoded(frames, CONTENT_FACTOR)[0] / len(frames))
    starts = np.linspace(0, len(frames) - length, CONTENT_RUNS).astype(int)
    sizes = [_encoded(frames[start : start + length], CONTENT_FACTOR)[0] for start in starts]
    return max(1.0, sum(sizes) / (CONTENT_RUNS * length))


def h264_bytes(frames: np.ndarray, quality: float) -> int:
    """Estimate the bytes that x264 needs for `frames` (T, H, W, 3) uint8 at a `quality` in dB, the
    mean over frames of PSNR in 8-bit RGB. Encodes 4:4:4, so that chroma subsampling does not limit
    the quality. Extrapolates from the middle of a long clip."""
    count = max(1, min(len(frames), MOST_PIXELS // (frames.shape[1] * frames.shape[2])))
    start = (len(frames) - count) // 2
    part = frames[start : start + count]
    best, worst = BEST, WORST
    closest = (math.inf, 1)  # missing dB, bytes
    for _ in range(MOST_TRIALS):
        factor = (best + worst) / 2
        size, reached = _encoded(part, factor)
        closest = min(closest, (quality - reached, size), key=lambda trial: abs(trial[0]))
        if abs(closest[0]) < TOLERANCE:
            break
        best, worst = (factor, worst) if reached > quality else (best, factor)
    missing, size = closest
    return max(1, round(size * 2 ** (missing / DB_PER_DOUBLING) * len(frames) / count))


def _encoded(frames: np.ndarray, factor: float) -> tuple[int, float]:
    """Return bytes and PSNR of the H.264 stream at a CRF."""
    _, height, width, _ = frames.shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        # On AVX-512 CPUs, x264's macroblock tree is not deterministic.
        stream.options = {"preset": "veryfast", "tune": "psnr", "mbtree": "0"}
        stream.options |= {"crf": f"{factor:g}"}
        size = 0
        for frame in [*frames, None]:
            picture = None if frame is None else av.VideoFrame.from_ndarray(frame, format="rgb24")
            for packet in stream.encode(picture):
                size += packet.size
                container.mux(packet)
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        pictures = container.decode(video=0)
        shown = [picture.to_ndarray(format="rgb24", threads=1) for picture in pictures]
    pairs = zip(frames, shown, strict=True)
    return size, float(np.mean([psnr(frame, decoded) for frame, decoded in pairs]))

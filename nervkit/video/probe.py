"""How many bytes a clip takes at a quality, about: what H.264 takes there."""

from __future__ import annotations

import io
import math

import av
import numpy as np

from nervkit.metrics import psnr

BEST, WORST = 4.0, 51.0  # of x264's constant rate factors
TRIALS = 6
CLOSE = 0.2  # dB
OCTAVE = 2.4  # dB for twice the bytes, about
MOST_PIXELS = 1 << 26  # of the frames that are tried


CONTENT_FACTOR = 32.0  # the constant rate factor by which contents are compared
CONTENT_FRAMES = 32  # that are looked at, in runs that show motion
CONTENT_RUNS = 4


def content_bytes(frames: np.ndarray) -> float:
    """The bytes that x264 takes at one constant rate factor for each of `frames` (T, H, W, 3)
    uint8, about: how much there is to see. Of many, a few runs are tried."""
    length = CONTENT_FRAMES // CONTENT_RUNS
    if len(frames) <= CONTENT_FRAMES:
        return max(1.0, _encoded(frames, CONTENT_FACTOR)[0] / len(frames))
    starts = np.linspace(0, len(frames) - length, CONTENT_RUNS).astype(int)
    sizes = [_encoded(frames[start : start + length], CONTENT_FACTOR)[0] for start in starts]
    return max(1.0, sum(sizes) / (CONTENT_RUNS * length))


def h264_bytes(frames: np.ndarray, quality: float) -> int:
    """The bytes that x264 takes for `frames` (T, H, W, 3) uint8 at a `quality` in dB, the mean over
    frames of PSNR in 8-bit RGB. 4:4:4, so that chroma sets no limit. Of a long clip, the middle is
    tried, and the rest is taken to be like it."""
    count = max(1, min(len(frames), MOST_PIXELS // (frames.shape[1] * frames.shape[2])))
    start = (len(frames) - count) // 2
    part = frames[start : start + count]
    best, worst = BEST, WORST
    closest = (math.inf, 1)  # dB from the quality, bytes
    for _ in range(TRIALS):
        factor = (best + worst) / 2
        size, reached = _encoded(part, factor)
        closest = min(closest, (quality - reached, size), key=lambda trial: abs(trial[0]))
        if abs(closest[0]) < CLOSE:
            break
        best, worst = (factor, worst) if reached > quality else (best, factor)
    missing, size = closest
    return max(1, round(size * 2 ** (missing / OCTAVE) * len(frames) / count))


def _encoded(frames: np.ndarray, factor: float) -> tuple[int, float]:
    """The bytes of the stream at a constant rate factor, and its PSNR."""
    _, height, width, _ = frames.shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        # Where a CPU has AVX-512, x264's macroblock tree gives other bytes from time to time.
        stream.options = {"preset": "veryfast", "tune": "psnr", "mbtree": "0"}
        stream.options |= {"crf": f"{factor:g}"}
        size = 0
        for frame in [*frames, None]:
            picture = None if frame is None else av.VideoFrame.from_ndarray(frame, format="rgb24")
            for packet in stream.encode(picture):
                size += packet.size
                container.mux(packet)
    buffer.seek(0)
    with av.open(buffer) as container:
        shown = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
    pairs = zip(frames, shown, strict=True)
    return size, float(np.mean([psnr(frame, decoded) for frame, decoded in pairs]))

"""The payload of the TIME chunk: frame timestamps."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

import numpy as np

from nervkit.container.chunks import inflate
from nervkit.container.limits import MOST_FRAMES
from nervkit.errors import FormatError
from nervkit.media.timing import Timing

HEAD = struct.Struct("<IIqIB")  # time base numerator, denominator, first pts, duration, mode
CONSTANT, VARIABLE, WIDE = 0, 1, 2
UINT32 = (1 << 32) - 1


def pack_timing(timing: Timing) -> bytes:
    """Return the payload of the TIME chunk."""
    steps = np.append(np.diff(timing.pts), timing.duration)
    mode = CONSTANT if timing.constant else VARIABLE
    if steps.max() > UINT32:
        mode = WIDE
    rows = {CONSTANT: b"", VARIABLE: steps[:-1].astype("<u4"), WIDE: steps.astype("<u8")}[mode]
    duration = 0 if mode == WIDE else timing.duration
    numerator, denominator = timing.time_base.numerator, timing.time_base.denominator
    head = HEAD.pack(numerator, denominator, int(timing.pts[0]), duration, mode)
    return head + (zlib.compress(bytes(rows), 9) if len(rows) else b"")


def unpack_timing(payload: bytes, frames: int, first: bool = False) -> Timing:
    """Parse the timing of `frames` frames; with `first`, the first `frames` of possibly more.
    Raises FormatError."""
    if len(payload) < HEAD.size:
        raise FormatError("the timing is too short")
    numerator, denominator, start, duration, mode = HEAD.unpack_from(payload)
    rest = payload[HEAD.size :]
    if not denominator or abs(start) >= 1 << 62:
        raise FormatError("the timing has a zero or out-of-range field")
    if mode == CONSTANT and not rest:
        # At most MOST_FRAMES durations of 32 bits: the sum fits into 64 bits.
        steps = np.full(frames, duration, np.int64)
    elif mode == VARIABLE:
        steps = np.append(_steps(rest, frames - 1, "<u4", first), np.int64(duration))
    elif mode == WIDE and duration == 0:
        steps = _steps(rest, frames, "<u8", first)
    else:
        raise FormatError("the timing has an unknown mode")
    if first:
        steps = steps[:frames]
    if steps.min() <= 0 or float(steps.sum(dtype=np.float64)) >= 1 << 62:
        raise FormatError("the timing runs backwards, or too far")
    pts = start + np.concatenate(([0], np.cumsum(steps[:-1])))
    return Timing(pts.astype(np.int64), Fraction(numerator, denominator), int(steps[-1]))


def _steps(data: bytes, count: int, dtype: str, more: bool) -> np.ndarray:
    """Decompress `count` steps, or at least as many if `more`, to int64. A u64 that overflows
    becomes negative."""
    width = np.dtype(dtype).itemsize
    most = MOST_FRAMES * width if more else count * width
    raw = inflate(data, most, "the timing") if data or count else b""
    if len(raw) % width or len(raw) < count * width:
        raise FormatError("the timing does not cover all frames")
    return np.frombuffer(raw, dtype).astype(np.int64)

"""When frames are shown, exactly: integers in a time base."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nervkit.container.chunks import inflate
from nervkit.container.fields import check_time_base
from nervkit.container.limits import MOST_FRAMES
from nervkit.errors import FormatError, UsageError

HEAD = struct.Struct("<IIqIB")  # time base numerator, denominator, first pts, duration, mode
CONSTANT, VARIABLE, WIDE = 0, 1, 2
UINT32 = (1 << 32) - 1
MOST_SECONDS = 1 << 31  # from 0, either way: what libav's clocks can hold in any unit


@dataclass(frozen=True)
class Timing:
    """When frames are shown: frame i from pts[i] * time_base on, the last for `duration` units.

    Raises FormatError where times do not increase, or do not fit into 68 years around 0 in units
    of 31 bits.
    """

    pts: np.ndarray  # (T,) int64, increasing
    time_base: Fraction  # seconds
    duration: int  # of the last frame, in time_base units

    def __post_init__(self) -> None:
        check_time_base(self.time_base, "a time base")
        if len(self.pts) == 0 or self.duration <= 0:
            raise FormatError("a frame must be shown for some time")
        if len(self.pts) > 1 and not (self.pts[1:] > self.pts[:-1]).all():
            raise FormatError("timestamps must increase")
        if max(abs(second) for second in self.seconds) > MOST_SECONDS:
            raise FormatError("times lie further than 68 years from 0")

    def __len__(self) -> int:
        return len(self.pts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timing):
            return NotImplemented
        mine, theirs = ((t.time_base, t.duration, len(t)) for t in (self, other))
        return mine == theirs and bool((self.pts == other.pts).all())

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, span: slice) -> Timing:
        """The timing of a run of frames. The last frame keeps its own duration."""
        start, stop, _ = span.indices(len(self))
        ends = np.append(self.pts[1:], self.pts[-1] + self.duration)
        return Timing(
            self.pts[start:stop], self.time_base, int(ends[stop - 1] - self.pts[stop - 1])
        )

    @property
    def seconds(self) -> tuple[Fraction, Fraction]:
        """When the first frame begins and the last one ends."""
        end = int(self.pts[-1]) + self.duration
        return int(self.pts[0]) * self.time_base, end * self.time_base

    def index_at(self, seconds: float) -> int:
        """Which frame is shown at a time: the last that begins no later. Raises IndexError before
        the first frame, and from the end of the last one on."""
        start, end = (float(bound) for bound in self.seconds)
        if not start <= seconds < end:
            raise IndexError(
                f"no frame is shown at {seconds} s: the video is {start:g} to {end:g} s"
            )
        return int(np.searchsorted(self._begins, seconds, side="right")) - 1

    def indices_in(self, start: float, stop: float) -> range:
        """Which frames are shown from `start` on and before `stop`, in seconds, for some time of
        it; none where both are one time. Raises UsageError where they are not times of the video,
        in order."""
        began, ended = (float(bound) for bound in self.seconds)
        if not began <= start <= stop <= ended:
            raise UsageError(
                f"{start} to {stop} s: a range begins and ends, in order, within the video, "
                f"{began:g} to {ended:g} s"
            )
        if start == stop:
            return range(0)
        return range(self.index_at(start), int(np.searchsorted(self._begins, stop)))

    @property
    def _begins(self) -> np.ndarray:
        """(T,) float64: when each frame begins, in seconds, as floats are that name these times."""
        counts = self.pts.astype(np.float64)
        return counts * self.time_base.numerator / self.time_base.denominator

    def end_of(self, frames: int) -> Fraction:
        """When the first `frames` frames are over, in seconds."""
        end = self.pts[frames] if frames < len(self) else self.pts[-1] + self.duration
        return int(end) * self.time_base

    @property
    def fps(self) -> Fraction:
        """The mean frame rate."""
        start, end = self.seconds
        return Fraction(len(self)) / (end - start)

    @property
    def constant(self) -> bool:
        """Whether all frames last equally long."""
        return bool((np.diff(self.pts) == self.duration).all())

    def pack(self) -> bytes:
        """The payload of the timing chunk."""
        steps = np.append(np.diff(self.pts), self.duration)
        mode = CONSTANT if self.constant else VARIABLE
        if steps.max() > UINT32:
            mode = WIDE
        rows = {CONSTANT: b"", VARIABLE: steps[:-1].astype("<u4"), WIDE: steps.astype("<u8")}[mode]
        duration = 0 if mode == WIDE else self.duration
        numerator, denominator = self.time_base.numerator, self.time_base.denominator
        head = HEAD.pack(numerator, denominator, int(self.pts[0]), duration, mode)
        return head + (zlib.compress(bytes(rows), 9) if len(rows) else b"")

    @classmethod
    def unpack(cls, payload: bytes, frames: int, first: bool = False) -> Timing:
        """The timing of `frames` frames; with `first`, of so many from the front on, of those that
        there are. Raises FormatError."""
        if len(payload) < HEAD.size:
            raise FormatError("the timing is too short")
        numerator, denominator, start, duration, mode = HEAD.unpack_from(payload)
        rest = payload[HEAD.size :]
        if not denominator or abs(start) >= 1 << 62:
            raise FormatError("the timing has a zero or impossible field")
        if mode == CONSTANT and not rest:
            # So many at most, each of 32 bits: no sum of them leaves 64 bits.
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
        return cls(pts.astype(np.int64), Fraction(numerator, denominator), int(steps[-1]))


def _steps(data: bytes, count: int, dtype: str, more: bool) -> np.ndarray:
    """`count` compressed steps, or `more`, as int64. One of 64 bits that overflows becomes
    negative."""
    width = np.dtype(dtype).itemsize
    most = MOST_FRAMES * width if more else count * width
    raw = inflate(data, most, "the timing") if data or count else b""
    if len(raw) % width or len(raw) < count * width:
        raise FormatError("the timing does not cover all frames")
    return np.frombuffer(raw, dtype).astype(np.int64)

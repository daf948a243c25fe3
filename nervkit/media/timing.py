"""Exact frame timestamps: integers in a time base."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nervkit.errors import FormatError, UsageError
from nervkit.media.checks import MOST_SECONDS, check_time_base


@dataclass(frozen=True)
class Timing:
    """Presentation timestamps: frame i starts at pts[i] * time_base; the last one lasts `duration`.

    Raises FormatError if timestamps do not increase, are more than 68 years from 0, or if the
    parts of the time base exceed 31 bits.
    """

    pts: np.ndarray  # (T,) int64, strictly increasing
    time_base: Fraction  # seconds per unit
    duration: int  # of the last frame, in units of time_base

    def __post_init__(self) -> None:
        check_time_base(self.time_base, "a time base")
        if len(self.pts) == 0 or self.duration <= 0:
            raise FormatError("a frame must have a positive duration")
        if len(self.pts) > 1 and not (self.pts[1:] > self.pts[:-1]).all():
            raise FormatError("timestamps must increase")
        if max(abs(second) for second in self.seconds) > MOST_SECONDS:
            raise FormatError("timestamps are more than 68 years from 0")

    def __len__(self) -> int:
        return len(self.pts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timing):
            return NotImplemented
        mine, theirs = ((t.time_base, t.duration, len(t)) for t in (self, other))
        return mine == theirs and bool((self.pts == other.pts).all())

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, span: slice) -> Timing:
        """Return the timing of a slice of frames. The last frame keeps its own duration."""
        start, stop, _ = span.indices(len(self))
        ends = np.append(self.pts[1:], self.pts[-1] + self.duration)
        return Timing(
            self.pts[start:stop], self.time_base, int(ends[stop - 1] - self.pts[stop - 1])
        )

    @property
    def seconds(self) -> tuple[Fraction, Fraction]:
        """Start of the first frame and end of the last one, in seconds."""
        end = int(self.pts[-1]) + self.duration
        return int(self.pts[0]) * self.time_base, end * self.time_base

    def index_at(self, seconds: float) -> int:
        """Return the index of the frame on screen at `seconds`: the last frame whose start time is
        not later. Raises IndexError before the first frame and at or after the end of the last."""
        start, end = (float(bound) for bound in self.seconds)
        if not start <= seconds < end:
            raise IndexError(f"no frame at {seconds} s: the video covers {start:g} to {end:g} s")
        return int(np.searchsorted(self._begins, seconds, side="right")) - 1

    def indices_in(self, start: float, stop: float) -> range:
        """Return the indices of the frames that are on screen within [start, stop) seconds, empty
        if both are equal. Raises UsageError unless begin <= start <= stop <= end of the video."""
        began, ended = (float(bound) for bound in self.seconds)
        if not began <= start <= stop <= ended:
            raise UsageError(
                f"{start} to {stop} s: a time range must be in order and within the video, "
                f"{began:g} to {ended:g} s"
            )
        if start == stop:
            return range(0)
        return range(self.index_at(start), int(np.searchsorted(self._begins, stop)))

    @property
    def _begins(self) -> np.ndarray:
        """(T,) float64: start time of each frame in seconds, rounded like pts * num / den."""
        counts = self.pts.astype(np.float64)
        return counts * self.time_base.numerator / self.time_base.denominator

    def end_of(self, frames: int) -> Fraction:
        """Return the time at which the first `frames` frames end, in seconds."""
        end = self.pts[frames] if frames < len(self) else self.pts[-1] + self.duration
        return int(end) * self.time_base

    @property
    def fps(self) -> Fraction:
        """The mean frame rate."""
        start, end = self.seconds
        return Fraction(len(self)) / (end - start)

    @property
    def constant(self) -> bool:
        """Whether all frames have the same duration."""
        return bool((np.diff(self.pts) == self.duration).all())

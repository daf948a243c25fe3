"""When frames are shown, exactly: integers in a time base."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nervkit.errors import FormatError, UsageError
from nervkit.media.checks import MOST_SECONDS, check_time_base


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

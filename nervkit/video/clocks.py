"""Times in units that a movie format can count in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

import numpy as np

from nervkit.errors import OutputError
from nervkit.media.timing import Timing

MILLISECOND = Fraction(1, 1000)
#: libavformat's int: MP4 and MOV have no more ticks a second, and less from sample to sample
LARGEST = (1 << 31) - 1


def mp4_clock(times: Iterable[int], time_base: Fraction) -> int | None:
    """Ticks a second by which MP4 holds `times` (increasing, in `time_base`) exactly: as many as
    the time base has, or where these are too many, as few as are enough. None where no clock
    does."""
    times = list(times)
    coarsest = math.gcd(*times) * time_base
    longest = max((after - before for before, after in pairwise(times)), default=0) * time_base
    for rate in (time_base.denominator, coarsest.denominator):
        if rate <= LARGEST and longest * rate < LARGEST:
            return rate
    return None


def movie_clock(rates: Iterable[int], first: int) -> int:
    """Ticks a second by which MP4 counts where each track begins, of tracks with clocks `rates`:
    exact for all where that is possible, else for the clock `first`, and as fine as may be."""
    common = math.lcm(first, *rates)
    return common if common <= LARGEST else LARGEST // first * first


def mp4_timing(timing: Timing, output: str) -> Timing:
    """The same times by a clock that MP4 and MOV can hold; the last frame's duration alone may be
    rounded. Raises OutputError where no clock holds the times."""
    pts = timing.pts.tolist()
    rate = mp4_clock([*pts, pts[-1] + timing.duration], timing.time_base)
    if rate is None and (coarse := mp4_clock(pts, timing.time_base)) is not None:
        longest = max(np.diff(pts).tolist(), default=1) * timing.time_base
        rate = min(LARGEST, int((LARGEST - 1) / longest)) // coarse * coarse
    if rate is None:
        raise OutputError(
            f"{output}: MP4 and MOV cannot hold such fine times together with such long steps; "
            "use .mkv, which rounds them to the millisecond"
        )
    ticks = timing.time_base * rate
    return Timing(
        np.array([int(time * ticks) for time in pts], np.int64),
        Fraction(1, rate),
        max(1, min(round(timing.duration * ticks), LARGEST - 1)),
    )


def matroska_timing(timing: Timing, output: str) -> Timing:
    """The times rounded to milliseconds, which is all that Matroska and WebM keep here. Raises
    OutputError where two frames would be shown at once."""
    scale = timing.time_base / MILLISECOND
    pts = timing.pts.tolist()
    *times, end = (
        math.floor(time * scale + Fraction(1, 2)) for time in [*pts, pts[-1] + timing.duration]
    )
    for frame, (before, after) in enumerate(pairwise(times)):
        if before == after:
            raise OutputError(
                f"{output}: Matroska keeps times to the millisecond, and frames {frame} and "
                f"{frame + 1} would be shown at once; use .mp4"
            )
    return Timing(np.array(times, np.int64), MILLISECOND, max(1, end - times[-1]))


def plain_ratio(ratio: Fraction) -> Fraction:
    """A frame rate or an aspect, or where its numbers are too large for a file, one next to it."""
    if ratio < 1:
        return 1 / plain_ratio(1 / ratio)
    ratio = min(ratio, Fraction(LARGEST))
    return ratio.limit_denominator(LARGEST // math.ceil(ratio))

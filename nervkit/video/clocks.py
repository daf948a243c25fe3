"""Timestamps in time bases that a movie format can represent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

import numpy as np

from nervkit.errors import OutputError
from nervkit.media.timing import Timing

MILLISECOND = Fraction(1, 1000)
#: largest int in libavformat: the limit of an MP4 or MOV timescale and, less one, of a sample delta
LARGEST = (1 << 31) - 1


def mp4_clock(times: Iterable[int], time_base: Fraction) -> int | None:
    """Return an MP4 timescale (ticks per second) that represents `times` (increasing, in
    `time_base`) exactly: that of the time base or, if that is too fine, the coarsest exact one.
    None if there is no such timescale."""
    times = list(times)
    coarsest = math.gcd(*times) * time_base
    longest = max((after - before for before, after in pairwise(times)), default=0) * time_base
    for rate in (time_base.denominator, coarsest.denominator):
        if rate <= LARGEST and longest * rate < LARGEST:
            return rate
    return None


def movie_clock(rates: Iterable[int], first: int) -> int:
    """Return the timescale by which MP4 stores where each track begins. It is exact for all track
    timescales `rates` and `first` if possible, else the finest one that is exact for `first`."""
    common = math.lcm(first, *rates)
    return common if common <= LARGEST else LARGEST // first * first


def mp4_timing(timing: Timing, output: str) -> Timing:
    """Return the timing in a time base that MP4 and MOV can hold; only the last frame's duration
    may be rounded. Raises OutputError if there is no such time base."""
    pts = timing.pts.tolist()
    rate = mp4_clock([*pts, pts[-1] + timing.duration], timing.time_base)
    if rate is None and (coarse := mp4_clock(pts, timing.time_base)) is not None:
        longest = max(np.diff(pts).tolist(), default=1) * timing.time_base
        rate = min(LARGEST, int((LARGEST - 1) / longest)) // coarse * coarse
    if rate is None:
        raise OutputError(
            f"{output}: MP4 and MOV cannot hold timestamps this fine with frames this long; "
            "use .mkv, which rounds them to milliseconds"
        )
    ticks = timing.time_base * rate
    return Timing(
        np.array([int(time * ticks) for time in pts], np.int64),
        Fraction(1, rate),
        max(1, min(round(timing.duration * ticks), LARGEST - 1)),
    )


def matroska_timing(timing: Timing, output: str) -> Timing:
    """Return the timing rounded to milliseconds, the resolution of Matroska and WebM here. Raises
    OutputError if two frames would have the same timestamp."""
    scale = timing.time_base / MILLISECOND
    pts = timing.pts.tolist()
    *times, end = (
        math.floor(time * scale + Fraction(1, 2)) for time in [*pts, pts[-1] + timing.duration]
    )
    for frame, (before, after) in enumerate(pairwise(times)):
        if before == after:
            raise OutputError(
                f"{output}: Matroska rounds timestamps to milliseconds, which makes those of "
                f"frames {frame} and {frame + 1} equal; use .mp4"
            )
    return Timing(np.array(times, np.int64), MILLISECOND, max(1, end - times[-1]))


def plain_ratio(ratio: Fraction) -> Fraction:
    """Return a frame rate or aspect ratio, rounded if its terms are too large for a file."""
    if ratio < 1:
        return 1 / plain_ratio(1 / ratio)
    ratio = min(ratio, Fraction(LARGEST))
    return ratio.limit_denominator(LARGEST // math.ceil(ratio))

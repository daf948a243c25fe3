"""Bjøntegaard deltas between two rate-quality curves, by the library `bjontegaard`.

The method is that of VCEG-M33 (2001), with piecewise interpolation instead of one cubic polynomial;
the library's authors compare both in arXiv 2202.12565.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

import numpy as np

from nervkit.errors import MissingDependencyError, NervError, UsageError

#: minimum number of points of a curve. Akima's rule needs two slopes: with two points the library
#: would silently interpolate linearly
LEAST_POINTS = {"pchip": 2, "akima": 3}


class NoOverlapError(NervError, ValueError):
    """Two curves have no Bjøntegaard delta: they share no interval, or one is not increasing."""


@dataclass(frozen=True)
class BD:
    """A Bjøntegaard delta, and the interval that it covers."""

    #: percent of rate (negative: the test curve saves bits), or dB (positive: it is better)
    value: float
    #: the shared interval as a share of the curves' union, above 0 to 1
    overlap: float
    #: the shared interval: of quality for BD-rate, of rate for BD-PSNR
    interval: tuple[float, float]


def bd_rate(
    anchor: Sequence[tuple[float, float]],
    test: Sequence[tuple[float, float]],
    method: str = "pchip",
) -> BD:
    """Return the mean difference of rate at equal quality, in percent of the anchor's rate.

    Args:
        anchor, test: (rate, quality) points in any order and number.
        method: "pchip" or "akima", of log10 rate over quality.

    Raises:
        NoOverlapError: too few points, quality does not rise with rate, or no shared quality.
        UsageError: an unknown method, or a point that is not a positive rate and a quality.
        MissingDependencyError: the library is not installed.
    """
    rates, qualities = _curves(anchor, test, method)
    interval = _shared(qualities, "quality")
    points = rates[0], qualities[0], rates[1], qualities[1]
    value = library().bd_rate(*points, method, require_matching_points=False, min_overlap=0)
    return BD(float(value), _overlap(qualities), interval)


def bd_psnr(
    anchor: Sequence[tuple[float, float]],
    test: Sequence[tuple[float, float]],
    method: str = "pchip",
) -> BD:
    """Return the mean difference of quality at equal rate, in dB. See `bd_rate`; here quality is
    interpolated over log10 rate, and `overlap` is a share of log10 rate."""
    rates, qualities = _curves(anchor, test, method)
    interval = _shared(rates, "rate")
    points = rates[0], qualities[0], rates[1], qualities[1]
    value = library().bd_psnr(*points, method, require_matching_points=False, min_overlap=0)
    return BD(float(value), _overlap([np.log10(rate) for rate in rates]), interval)


def _curves(
    anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]], method: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return both curves' rates, and both curves' qualities, each increasing."""
    if method not in LEAST_POINTS:
        raise UsageError(f"method must be one of {', '.join(LEAST_POINTS)}, not {method!r}")
    curves = [
        _curve("anchor", anchor, LEAST_POINTS[method]),
        _curve("test", test, LEAST_POINTS[method]),
    ]
    return [rate for rate, _ in curves], [quality for _, quality in curves]


def _curve(name: str, points: Sequence[tuple[float, float]], least: int) -> np.ndarray:
    """Return rates and qualities, (2, N), both strictly increasing."""
    if len(points) < least:
        raise NoOverlapError(
            f"the {name} curve has {len(points)} points; it needs at least {least}"
        )
    curve = np.array(points, float)
    curve = curve[np.argsort(curve[:, 0], kind="stable")]
    if not np.isfinite(curve).all() or curve[0, 0] <= 0:
        raise UsageError(f"the {name} curve has a point without a positive rate and a quality")
    for (rate, quality), (next_rate, next_quality) in pairwise(curve):
        if next_rate <= rate or next_quality <= quality:
            raise NoOverlapError(
                f"the {name} curve does not rise: {quality:g} at rate {rate:g}, "
                f"{next_quality:g} at rate {next_rate:g}"
            )
    return curve.T


def _shared(ranges: list[np.ndarray], what: str) -> tuple[float, float]:
    """Return the interval that two increasing sequences share."""
    low, high = max(r[0] for r in ranges), min(r[-1] for r in ranges)
    if low >= high:
        anchor, test = (f"{r[0]:g} to {r[-1]:g}" for r in ranges)
        raise NoOverlapError(
            f"the curves share no {what}: the anchor's is {anchor}, the test's {test}"
        )
    return float(low), float(high)


def _overlap(ranges: list[np.ndarray]) -> float:
    """Return the shared interval as a share of the union, of two increasing sequences."""
    shared = min(r[-1] for r in ranges) - max(r[0] for r in ranges)
    return float(shared / (max(r[-1] for r in ranges) - min(r[0] for r in ranges)))


def library() -> ModuleType:
    """Import the library. Raises MissingDependencyError if it is not installed."""
    # Imported here: it imports matplotlib, and decoding does not need it.
    try:
        import bjontegaard
    except ImportError as error:
        raise MissingDependencyError(
            "Bjøntegaard deltas need the library bjontegaard: pip install nervkit[bench]"
        ) from error
    return bjontegaard

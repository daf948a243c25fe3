"""Shot boundaries, frame by frame: detected by ffmpeg's scdet filter or listed by the user."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Rational, Real
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

from nervkit.errors import SourceError, UsageError
from nervkit.keywords import option
from nervkit.units import parse_seconds

THRESHOLD = 10.0  # scdet's default, on a scale of 0 to 100
SAMPLE_SIDE = 160  # sampled pixels along the longer side
MIN_COLUMNS = 64  # with fewer, ffmpeg's sum of absolute differences is wrong on AVX-512 CPUs


class Cuts(ABC):
    """Determines which frames begin a shot, as frames arrive.

    Attributes:
        found: sorted indices of frames that begin a shot; the consumer removes those it has used.
        settled: number of leading frames for which the decision is final.
    """

    def __init__(self) -> None:
        self.found: deque[int] = deque()
        self.settled = 0

    @abstractmethod
    def add(self, frame: np.ndarray, seconds: Fraction) -> None:
        """Process the next (H, W, 3) uint8 frame, presented at `seconds`."""

    @abstractmethod
    def finish(self) -> list[str]:
        """Settle all frames after the last one. Return notes for the user."""


@dataclass(frozen=True)
class _FrameStats:
    """Measurements of a frame: sampled grey pixels, (H, W) uint8; their mean absolute difference to
    the previous frame (scdet's MAFD, 0 to 100); and whether scdet reports a cut."""

    pixels: np.ndarray
    change: float
    cut: bool


@dataclass(frozen=True)
class _Candidate:
    """A frame that scdet reports as the first of a shot, with its index and the frame before."""

    index: int
    stats: _FrameStats
    before: _FrameStats

    def was_flash(self, now: _FrameStats) -> bool:
        """Whether a later frame returns to the earlier shot: it is nearer to that shot's last frame
        than to the candidate, and scdet would report no cut if the frames between were missing."""
        back = _difference(self.before.pixels, now.pixels)
        score = min(back, abs(back - self.before.change))
        return score < THRESHOLD and back < _difference(self.stats.pixels, now.pixels)


class DetectedCuts(Cuts):
    """Cuts detected by scdet on a subsampled frame; its measure is a mean over pixels, which a
    sample estimates.

    If the earlier shot returns within `least` frames, the change was a flash, not a cut. A cut that
    would leave fewer than `least` frames before it or at the end is dropped.
    """

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least
        self._graph: av.filter.Graph | None = None
        self._count = self._begin = 0
        self._candidates: deque[_Candidate] = deque()
        self._previous: _FrameStats | None = None

    def add(self, frame: np.ndarray, seconds: Fraction) -> None:
        stats = self._measure(_sampled(frame))
        # scdet also reports the end of a change, such as the frame after a flash.
        if stats.cut and self._previous is not None and stats.change > self._previous.change:
            self._candidates.append(_Candidate(self._count, stats, self._previous))
        self._drop_flash(stats)
        self._previous = stats
        self._count += 1
        self._settle()

    def finish(self) -> list[str]:
        self._candidates.clear()  # too close to the end
        self.settled = self._count
        return []

    def _measure(self, sample: np.ndarray) -> _FrameStats:
        if self._graph is None:
            self._graph = _scdet(*sample.shape[1::-1])
        picture = av.VideoFrame.from_ndarray(sample, format="rgb24")
        picture.pts = self._count
        self._graph.push(picture)
        measured = self._graph.vpull()
        tags = measured.metadata
        return _FrameStats(
            measured.to_ndarray(), float(tags["lavfi.scd.mafd"]), "lavfi.scd.time" in tags
        )

    def _drop_flash(self, now: _FrameStats) -> None:
        """Drop the candidates that frame `now` shows to be flashes."""
        for place, candidate in enumerate(self._candidates):
            if candidate.was_flash(now):
                while len(self._candidates) > place:
                    self._candidates.pop()
                return

    def _settle(self) -> None:
        self.settled = max(0, self._count - self._least + 1)
        while self._candidates and self._candidates[0].index < self.settled:
            index = self._candidates.popleft().index
            if index - self._begin >= self._least:
                self.found.append(index)
                self._begin = index


def _sampled(frame: np.ndarray) -> np.ndarray:
    """Subsample an (H, W, 3) frame. A narrow sample is tiled, which keeps means over pixels."""
    step = -(-max(frame.shape) // SAMPLE_SIDE)
    sample = frame[::step, ::step]
    return np.ascontiguousarray(np.tile(sample, (1, -(-MIN_COLUMNS // sample.shape[1]), 1)))


def _scdet(width: int, height: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1  # too few pixels for a second thread
    format = av.VideoFormat("rgb24", width, height)
    last = graph.add_buffer(width=width, height=height, format=format, time_base=Fraction(1, 25))
    for name, options in (("format", "gray"), ("scdet", f"threshold={THRESHOLD}")):
        following = graph.add(name, options)
        last.link_to(following)
        last = following
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean absolute difference of (H, W) uint8 pixels: scdet's MAFD, 0 to 100."""
    return float(np.abs(one.astype(np.int16) - other).mean()) * 100 / 256


@dataclass(frozen=True)
class CutList:
    """User-supplied cuts: frame indices and times in seconds, both on the Clip's timeline."""

    frames: tuple[int, ...] = ()
    times: tuple[Fraction, ...] = ()

    @classmethod
    def of(cls, cuts: str | os.PathLike[str] | Iterable[Any]) -> Self:
        """Parse a text file or a list. An integer is a frame index; a number with a decimal point,
        "90s" and "01:30" are times. A file has one cut per line; # begins a comment.

        Raises SourceError for an unreadable or invalid file, UsageError for an invalid list.
        """
        if isinstance(cuts, (str, os.PathLike)):
            parsed = _read(Path(cuts))
        elif isinstance(cuts, Iterable):
            values = list(cuts)
            parsed = [_parse(value) for value in values]
            for value, cut in zip(values, parsed, strict=True):
                if cut is None:
                    raise UsageError(f"cuts: {_not_understood(value)}")
        else:
            raise UsageError(f"{option('cuts')} must be a file or a list, not {cuts!r}")
        frames = sorted({cut for cut in parsed if isinstance(cut, int)})
        times = sorted({cut for cut in parsed if isinstance(cut, Fraction)})
        return cls(tuple(frames), tuple(times))


def _read(path: Path) -> list[int | Fraction | None]:
    parsed: list[int | Fraction | None] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                text = line.partition("#")[0].strip()
                if not text:
                    continue
                cut = _parse(text)
                if cut is None:
                    raise SourceError(f"{path}: line {number}: {_not_understood(text[:40])}")
                parsed.append(cut)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not a text file; write one cut per line") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error
    return parsed


def _parse(value: Any) -> int | Fraction | None:
    """Parse a frame index (int) or a time in seconds (Fraction); None if it is neither."""
    if isinstance(value, str):
        if value.strip().isdecimal():
            return int(value)
        try:
            return parse_seconds(value, "cut")
        except UsageError:
            return None
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if isinstance(value, Integral):
        return int(value) if int(value) >= 0 else None
    seconds = Fraction(value) if isinstance(value, Rational) else float(value)
    return Fraction(seconds) if 0 <= seconds < math.inf else None


def _not_understood(value: Any) -> str:
    return f"{value!r} is neither a frame index (120) nor a time (4.8 or 01:30)"


class GivenCuts(Cuts):
    """Cuts from a CutList. A cut given as a time is at the frame with the nearest timestamp."""

    def __init__(self, cuts: CutList) -> None:
        super().__init__()
        self._frames, self._times = deque(cuts.frames), deque(cuts.times)
        self._count = 0
        self._shown = self._step = Fraction(0)  # timestamp of the latest frame, and step to it

    def add(self, frame: np.ndarray, seconds: Fraction) -> None:
        index = self._count
        while self._times and self._times[0] <= seconds:
            time = self._times.popleft()
            self._found(index - (index > 0 and time - self._shown < seconds - time))
        if self._frames and self._frames[0] == index:
            self._found(self._frames.popleft())
        self._shown, self._step = seconds, seconds - self._shown
        self._count += 1
        self.settled = self._count - bool(self._times)  # a later cut may still select this frame

    def finish(self) -> list[str]:
        self.settled = self._count
        while self._times and self._times[0] - self._shown < self._step / 2:
            self._times.popleft()
            self._found(self._count - 1)
        beyond = len(self._frames) + len(self._times)
        return [f"{beyond} of the cuts are beyond the last frame"] if beyond else []

    def _found(self, index: int) -> None:
        if not self.found or index > self.found[-1]:
            self.found.append(index)

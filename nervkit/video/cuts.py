"""Where shots begin: found by ffmpeg's scdet filter, or given by the user; frame by frame."""

from __future__ import annotations

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
from nervkit.units import parse_seconds

THRESHOLD = 10.0  # scdet's own default, of 100
SAMPLED = 160  # pixels of the longer side that are looked at
NARROW = 64  # ffmpeg's sum of differences is wrong for fewer columns where a CPU has AVX-512


class Cuts(ABC):
    """Which frames begin a shot, learnt as the frames come.

    Attributes:
        found: the frames that begin a shot, in order, counted from 0; whoever uses one takes it
            off.
        settled: of the first so many frames it is known whether they do.
    """

    def __init__(self) -> None:
        self.found: deque[int] = deque()
        self.settled = 0

    @abstractmethod
    def add(self, frame: np.ndarray, seconds: Fraction) -> None:
        """The next (H, W, 3) uint8 frame, and when it is shown."""

    @abstractmethod
    def finish(self) -> list[str]:
        """There are no more frames: all are settled. Gives notes for the user."""


@dataclass(frozen=True)
class _Look:
    """What is seen of a frame: a sample of its pixels, grey (H, W) uint8; how far they are from
    those of the frame before (scdet's MAFD, from 0 to 100); and whether scdet finds a cut."""

    pixels: np.ndarray
    change: float
    cut: bool


@dataclass(frozen=True)
class _Candidate:
    """A frame, number `index`, that scdet takes for the first of a shot, and the one before."""

    index: int
    look: _Look
    before: _Look

    def was_flash(self, now: _Look) -> bool:
        """Whether a later frame shows what was there before: it is nearer to that than to the
        first of the new shot, and scdet, had it not been shown what lies between, would find no
        cut."""
        back = _difference(self.before.pixels, now.pixels)
        score = min(back, abs(back - self.before.change))
        return score < THRESHOLD and back < _difference(self.look.pixels, now.pixels)


class DetectedCuts(Cuts):
    """Cuts that scdet finds, in every so many rows and columns of each frame: its measure is a
    mean over pixels, which a sample of them estimates.

    Where the shot of before comes back within `least` frames, it was a flash, and no cut. A cut
    that would leave less than `least` frames, before it or at the end, is none.
    """

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least
        self._graph: av.filter.Graph | None = None
        self._count = self._begin = 0
        self._candidates: deque[_Candidate] = deque()
        self._before: _Look | None = None

    def add(self, frame: np.ndarray, seconds: Fraction) -> None:
        look = self._look(_sampled(frame))
        # scdet also reports where a change ends: the frame after a flash.
        if look.cut and self._before is not None and look.change > self._before.change:
            self._candidates.append(_Candidate(self._count, look, self._before))
        self._drop_flash(look)
        self._before = look
        self._count += 1
        self._settle()

    def finish(self) -> list[str]:
        self._candidates.clear()  # too near to the end
        self.settled = self._count
        return []

    def _look(self, sample: np.ndarray) -> _Look:
        if self._graph is None:
            self._graph = _scdet(*sample.shape[1::-1])
        picture = av.VideoFrame.from_ndarray(sample, format="rgb24")
        picture.pts = self._count
        self._graph.push(picture)
        measured = self._graph.pull()
        said = measured.metadata
        return _Look(measured.to_ndarray(), float(said["lavfi.scd.mafd"]), "lavfi.scd.time" in said)

    def _drop_flash(self, now: _Look) -> None:
        """Drop the cuts that what is seen now takes back."""
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
    """Every so many rows and columns of a frame (H, W, 3); where these are few columns, they are
    repeated, which leaves means over pixels as they are."""
    step = -(-max(frame.shape) // SAMPLED)
    sample = frame[::step, ::step]
    return np.ascontiguousarray(np.tile(sample, (1, -(-NARROW // sample.shape[1]), 1)))


def _scdet(width: int, height: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1  # so few pixels are not worth a second
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
    """How far (H, W) uint8 pixels differ in the mean: scdet's MAFD, from 0 to 100."""
    return float(np.abs(one.astype(np.int16) - other).mean()) * 100 / 256


@dataclass(frozen=True)
class CutList:
    """Cuts that a user gives: frames, counted from 0, and times in seconds, both as the Clip
    counts them."""

    frames: tuple[int, ...] = ()
    times: tuple[Fraction, ...] = ()

    @classmethod
    def of(cls, cuts: str | os.PathLike[str] | Iterable[Any]) -> Self:
        """From a text file, or a list. A whole number is a frame; a time is one with a point, or
        such as "90s" or "01:30". In a file each has a line, and # begins a comment.

        Raises SourceError where the file cannot be read or understood, UsageError for a list.
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
            raise UsageError(f"cuts must be a file or a list, not {cuts!r}")
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
        raise SourceError(f"{path}: is no text; a file of cuts has one on each line") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error
    return parsed


def _parse(value: Any) -> int | Fraction | None:
    """A frame, or a time in seconds; None where it is neither."""
    if isinstance(value, str):
        if value.strip().isdecimal():
            return int(value)
        try:
            return parse_seconds(value, "cut")
        except UsageError:
            return None
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < float("inf"):
        return None
    if isinstance(value, Integral):
        return int(value)
    return Fraction(value) if isinstance(value, Rational) else Fraction(float(value))


def _not_understood(value: Any) -> str:
    return f"{value!r} is neither a frame (120) nor a time (4.8 or 01:30)"


class GivenCuts(Cuts):
    """The cuts of a list. One at a time begins with the frame that is shown nearest to it."""

    def __init__(self, cuts: CutList) -> None:
        super().__init__()
        self._frames, self._times = deque(cuts.frames), deque(cuts.times)
        self._count = 0
        self._shown = self._step = Fraction(0)  # when the latest frame is, and after how long

    def add(self, frame: np.ndarray, seconds: Fraction) -> None:
        index = self._count
        while self._times and self._times[0] <= seconds:
            time = self._times.popleft()
            self._found(index - (index > 0 and time - self._shown < seconds - time))
        if self._frames and self._frames[0] == index:
            self._found(self._frames.popleft())
        self._shown, self._step = seconds, seconds - self._shown
        self._count += 1
        self.settled = self._count - bool(self._times)  # a time may be nearest to the latest frame

    def finish(self) -> list[str]:
        self.settled = self._count
        while self._times and self._times[0] - self._shown < self._step / 2:
            self._times.popleft()
            self._found(self._count - 1)
        beyond = len(self._frames) + len(self._times)
        return [f"{beyond} of the cuts lie beyond the last frame"] if beyond else []

    def _found(self, index: int) -> None:
        if not self.found or index > self.found[-1]:
            self.found.append(index)

"""Splits a source into segments in one pass, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np

from nervkit.errors import UsageError
from nervkit.keywords import option, setting
from nervkit.video.clip import Details
from nervkit.video.collector import Collector
from nervkit.video.cuts import CutList, Cuts, DetectedCuts, GivenCuts
from nervkit.video.ranges import Locator, Mark, frames_hash
from nervkit.video.reader import Reading, VideoSource
from nervkit.video.selection import Selection
from nervkit.video.spool import Spool

OFF: Final = "off"
AUTO: Final = "auto"
MOST_FRAMES = 250  # default maximum per segment: ten seconds at 25 fps
LEAST_FRAMES = 8  # between detected cuts: a network for fewer frames costs more than it gains
LONGEST = 1_000_000  # largest number of frames that an option accepts
OTHER_IN_EACH_PROCESS = ("/dev/", "/proc/")  # such as /dev/stdin


@dataclass(frozen=True)
class Splitting:
    """How to split a source.

    Attributes:
        kind: "off": one segment; "auto": at cuts; "every": after every `most` frames.
        most: maximum number of frames per segment, unless "off".
        cuts: user-supplied cuts; None: detect them.
    """

    kind: Literal["off", "auto", "every"] = OFF
    most: int = MOST_FRAMES
    cuts: CutList | None = None

    @classmethod
    def from_options(
        cls,
        segments: str | int | None = None,
        segment_frames: str | int | None = None,
        cuts: str | os.PathLike[str] | Iterable[Any] | None = None,
    ) -> Self:
        """Parse command-line options or their Python equivalents.

        Args:
            segments: "off", "auto", or the number of frames per segment; by default "auto" if
                another option is given, else "off".
            segment_frames: maximum number of frames per segment for "auto".
            cuts: a file or list of the frames or times at which segments begin; see `CutList`.

        Raises UsageError; SourceError if the cuts file is unreadable or invalid.
        """
        refining = {"segment_frames": segment_frames, "cuts": cuts}
        given = [name for name, value in refining.items() if value is not None]
        if segments is None:
            segments = AUTO if given else OFF
        if segments != AUTO and given:
            raise UsageError(
                f"{option(given[0])} needs {setting('segments', AUTO)}, not {segments!r}"
            )
        if segments == OFF:
            return cls()
        if segments != AUTO:
            known = "'off', 'auto' or a number of frames"
            return cls("every", _number(segments, f"{option('segments')} must be {known} ", 1))
        most = MOST_FRAMES
        if segment_frames is not None:
            most = _number(segment_frames, f"{option('segment_frames')} must be an integer ", 2)
        return cls(AUTO, most, None if cuts is None else CutList.of(cuts))

    @property
    def least(self) -> int:
        """Minimum number of frames between detected cuts."""
        return min(LEAST_FRAMES, self.most // 2)

    @property
    def ahead(self) -> int:
        """Number of lookahead frames beyond `most` before a long shot is divided."""
        return 0 if self.kind == "every" else self.most // 2

    def start(self) -> Cuts:
        """Return the cut detector for a new source."""
        if self.kind == AUTO and self.cuts is None:
            return DetectedCuts(self.least)
        return GivenCuts(self.cuts or CutList())

    def next_length(self, shot: int, ended: bool) -> int:
        """Return how many frames of a shot the next segment takes. `shot` frames remain or, unless
        the shot has `ended`, are known so far. 0: more frames must be known."""
        if not ended:
            return self.most if shot > self.most + self.ahead else 0
        if shot <= self.most:
            return shot
        return self.most if shot > self.most + self.ahead else (shot + 1) // 2


def _number(value: Any, must: str, least: int) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or not least <= int(text) <= LONGEST:
        raise UsageError(f"{must}from {least} to {LONGEST}, not {value!r}")
    return int(text)


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment of a source.

    Attributes:
        index: number of the segment, from 0.
        first: index of its first frame among the kept frames.
        frames: (n, H, W, 3) uint8 RGB.
        fingerprint: hash of the frames; see `frames_hash`.
    """

    index: int
    first: int
    frames: np.ndarray
    fingerprint: str


class Splitter:
    """An iterator over the segments of a source, which is read once.

    Frames of an unfinished segment wait on disk. Memory holds only the frames of the current
    segment, as long as the caller keeps them, and the packets of audio and subtitles.

    Args:
        source, reading: as for `read_clip`, with `Reading.from_options`.
        splitting: how to split.

    Raises SourceError, UsageError and ResourceError as `read_clip` does. Damage that `strict`
    refuses or that leaves no frame is reported after the segments before it.

    Attributes:
        source: the open source; colour and description are final from the first segment on.
        size: width and height of the frames, from the first segment on.
    """

    def __init__(
        self, source: VideoSource, splitting: Splitting, reading: Reading | None = None
    ) -> None:
        self.splitting, self._reading = splitting, reading or Reading()
        self.source = self._reading.open(source)
        self._selection = Selection(self.source, self._reading.edit)
        self._path = _path_for_others(source) if self.source.rereadable else None
        self._cuts = splitting.start()
        self._begun = False
        self._given = self._first = 0  # number of finished segments, and of frames in them
        self._marks: list[Mark] = []
        # Timestamps of the waiting frames; None if seeking cannot find the frame.
        self._times: deque[int | None] = deque()
        self._latest: int | None = None  # largest timestamp so far
        self._details: Details | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self._selection.size

    @cached_property
    def expected_frames(self) -> int | None:
        """Approximate number of frames, None if only reading can tell. Access it before the first
        segment."""
        edit = self._reading.edit
        if edit.to is not None:
            return None
        total = self.source.count()
        wanted = None if edit.stop is None else edit.stop - edit.first
        return total if wanted is None or total is None else min(total, wanted)

    @property
    def locator(self) -> Locator | None:
        """Locates the frames of all segments so far for `read_range`; None if the source cannot be
        reread, such as a pipe or an array."""
        if self._path is None:
            return None
        # Fix the size of the first frame, because later frames may differ.
        reading = replace(self._reading, edit=self._selection.edit)
        return Locator(self._path, reading, tuple(self._marks))

    @property
    def details(self) -> Details:
        """All fields of a Clip except its frames, available after the last segment."""
        if self._details is None:
            raise RuntimeError("the details of a source are available after its last segment")
        return self._details

    def __iter__(self) -> Iterator[Segment]:
        if self._begun:
            raise RuntimeError("a Splitter can be iterated once; create another one")
        self._begun = True
        selection, splitting, strict = self._selection, self.splitting, self._reading.strict
        if splitting.kind == OFF:
            frames = Collector(selection).gather()
            self._details = selection.details(strict)
            yield Segment(0, 0, frames, frames_hash(frames))
            return
        # A cut is settled at most LEAST_FRAMES later.
        with Spool(splitting.most + splitting.ahead + LEAST_FRAMES) as spool:
            for picture in selection.pictures():
                frame = selection.frame(picture)
                spool.append(frame)
                self._times.append(self._sought_at(picture.pts))
                self._cuts.add(frame, selection.seconds)
                yield from self._segments(spool, ended=False)
            for note in self._cuts.finish():
                self.source.note(note)
            yield from self._segments(spool, ended=True)
        self._details = selection.details(strict)

    def _segments(self, spool: Spool, ended: bool) -> Iterator[Segment]:
        """Yield the segments whose end is known; `ended` tells whether the source has ended."""
        while count := self._next_length(len(spool), ended):
            yield self._take(spool, count)  # only the caller holds a reference

    def _take(self, spool: Spool, count: int) -> Segment:
        if self._times[0] is not None:
            self._marks.append(Mark(self._first, self._times[0]))
        for _ in range(count):
            self._times.popleft()
        frames = spool.take(count)
        segment = Segment(self._given, self._first, frames, frames_hash(frames))
        self._given += 1
        self._first += count
        return segment

    def _next_length(self, waiting: int, ended: bool) -> int:
        found = self._cuts.found
        while found and found[0] <= self._first:
            found.popleft()
        if found:
            return self.splitting.next_length(found[0] - self._first, ended=True)
        shot = waiting if ended else self._cuts.settled - self._first
        return self.splitting.next_length(shot, ended)

    def _sought_at(self, pts: int | None) -> int | None:
        """Return the timestamp by which seeking can find a picture, or None."""
        if pts is None or (self._latest is not None and pts <= self._latest):
            return None
        self._latest = pts
        return pts if self.source.seekable else None


def _path_for_others(source: VideoSource) -> str | None:
    """Return the absolute path of a source for other processes, or None if it has none."""
    if not isinstance(source, (str, os.PathLike)) or os.fspath(source) == "-":
        return None
    path = str(Path(source).absolute())
    return None if path.startswith(OTHER_IN_EACH_PROCESS) else path

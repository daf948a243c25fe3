"""A long source in segments, one after another, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from nervkit.errors import UsageError
from nervkit.video.clip import Details
from nervkit.video.collector import Collector
from nervkit.video.cuts import CutList, Cuts, DetectedCuts, GivenCuts
from nervkit.video.ranges import Locator, Mark, fingerprint_of
from nervkit.video.reader import Reading, VideoSource
from nervkit.video.selection import Selection
from nervkit.video.spool import Spool

OFF, AUTO = "off", "auto"
MOST_FRAMES = 250  # of a segment by default: ten seconds at 25 fps
LEAST_FRAMES = 8  # between cuts that are found: a network for less costs more than it gains
LONGEST = 1_000_000  # frames that may be asked for
OTHER_IN_EACH_PROCESS = ("/dev/", "/proc/")  # such as /dev/stdin


@dataclass(frozen=True)
class Splitting:
    """Where segments begin.

    Attributes:
        kind: "off": one segment; "auto": at cuts; "every": after each `most` frames.
        most: of a segment's frames, but for "off".
        cuts: those that a user gives; None: they are found.
    """

    kind: str = OFF
    most: int = MOST_FRAMES
    cuts: CutList | None = None

    @classmethod
    def from_options(
        cls,
        segments: str | int | None = None,
        segment_frames: str | int | None = None,
        cuts: str | os.PathLike[str] | Iterable[Any] | None = None,
    ) -> Self:
        """From the options of the command line, or their Python equivalents.

        Args:
            segments: "off", "auto", or how many frames each has; by default "auto" where another
                option needs it, and otherwise "off".
            segment_frames: the most that a segment of "auto" has.
            cuts: a file or a list of the frames or times at which segments begin; see `CutList`.

        Raises UsageError; SourceError where the file of cuts cannot be read or understood.
        """
        refining = {"segment frames": segment_frames, "cuts": cuts}
        given = [name for name, value in refining.items() if value is not None]
        if segments is None:
            segments = AUTO if given else OFF
        if segments != AUTO and given:
            raise UsageError(f"{given[0]} are for segments 'auto', not {segments!r}")
        if segments == OFF:
            return cls()
        if segments != AUTO:
            known = "'off', 'auto' or a number of frames"
            return cls("every", _number(segments, f"segments must be {known} ", 1))
        most = MOST_FRAMES
        if segment_frames is not None:
            most = _number(segment_frames, "segment frames must be a whole number ", 2)
        return cls(AUTO, most, None if cuts is None else CutList.of(cuts))

    @property
    def least(self) -> int:
        """The fewest frames between cuts that are found."""
        return min(LEAST_FRAMES, self.most // 2)

    @property
    def ahead(self) -> int:
        """How many frames beyond `most` are looked at before a shot is divided."""
        return 0 if self.kind == "every" else self.most // 2

    def start(self) -> Cuts:
        """The cuts of a source that is about to be read."""
        if self.kind == AUTO and self.cuts is None:
            return DetectedCuts(self.least)
        return GivenCuts(self.cuts or CutList())

    def next_length(self, shot: int, ended: bool) -> int:
        """How many frames of a shot the next segment takes, where `shot` frames of it are left,
        or are known so far unless it `ended`; 0 where more must be known."""
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
    """A run of a source's frames.

    Attributes:
        index: which one, counted from 0.
        first: its first frame, counted from the first that is kept.
        frames: (n, H, W, 3) uint8 RGB.
        fingerprint: of the frames; see `fingerprint_of`.
    """

    index: int
    first: int
    frames: np.ndarray
    fingerprint: str


class Splitter:
    """Reads a source once, and gives its segments: iterate over it, once.

    The frames that wait for a segment's end are on disk; in memory are those of the segment that
    is given, for as long as the caller has it. Packets of sound and subtitles stay in memory.

    Args:
        source, reading: as `read_clip` takes them, with `Reading.from_options`.
        splitting: where segments begin.

    Raises SourceError, UsageError and ResourceError as `read_clip` does; what is damaged beyond
    use, or not `strict` enough, after the segments before.

    Attributes:
        source: what is read: colour and description are final from the first segment on.
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
        self._given = self._first = 0  # segments, and frames in them
        self._marks: list[Mark] = []
        # When the frames that wait are shown, where they can be sought by that.
        self._times: deque[int | None] = deque()
        self._latest: int | None = None  # of all times so far
        self._details: Details | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self._selection.size

    @cached_property
    def expected_frames(self) -> int | None:
        """How many frames there are, about; None where only reading can tell. To be asked before
        the first segment is."""
        edit = self._reading.edit
        if edit.to is not None:
            return None
        total = self.source.count()
        wanted = None if edit.stop is None else edit.stop - edit.first
        return total if wanted is None or total is None else min(total, wanted)

    @property
    def locator(self) -> Locator | None:
        """Where the frames of all segments so far are read again, with `read_range`; None where
        the source cannot be, such as a pipe or an array."""
        if self._path is None:
            return None
        # With the size that the first frame got: others may have had another.
        reading = replace(self._reading, edit=self._selection.edit)
        return Locator(self._path, reading, tuple(self._marks))

    @property
    def details(self) -> Details:
        """All that a Clip has besides its frames, once the last segment was given."""
        if self._details is None:
            raise RuntimeError("the details of a source are known after its last segment")
        return self._details

    def __iter__(self) -> Iterator[Segment]:
        if self._begun:
            raise RuntimeError("a source is split once; make another Splitter")
        self._begun = True
        selection, splitting, strict = self._selection, self.splitting, self._reading.strict
        if splitting.kind == OFF:
            frames = Collector(selection).gather()
            self._details = selection.details(strict)
            yield Segment(0, 0, frames, fingerprint_of(frames))
            return
        # Of a cut it is known LEAST_FRAMES later, if not before.
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
        """The segments whose end is known; `ended` says whether the source has."""
        while count := self._next_length(len(spool), ended):
            yield self._take(spool, count)  # held by the caller alone

    def _take(self, spool: Spool, count: int) -> Segment:
        if self._times[0] is not None:
            self._marks.append(Mark(self._first, self._times[0]))
        for _ in range(count):
            self._times.popleft()
        frames = spool.take(count)
        segment = Segment(self._given, self._first, frames, fingerprint_of(frames))
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
        """The time by which a picture is found again; None where it cannot be."""
        if pts is None or (self._latest is not None and pts <= self._latest):
            return None
        self._latest = pts
        return pts if self.source.seekable else None


def _path_for_others(source: VideoSource) -> str | None:
    """A source's path as another process may use it; None where it has none."""
    if not isinstance(source, (str, os.PathLike)) or os.fspath(source) == "-":
        return None
    path = str(Path(source).absolute())
    return None if path.startswith(OTHER_IN_EACH_PROCESS) else path

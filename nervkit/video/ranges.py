"""Rereading a range of frames from a source, possibly in another process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nervkit.errors import SourceError
from nervkit.video.reader import Reading
from nervkit.video.selection import Selection
from nervkit.video.source import Picture


@dataclass(frozen=True)
class Mark:
    """Kept frame number `frame` is the source's picture at `pts`, and all earlier pictures have
    smaller timestamps."""

    frame: int
    pts: int


@dataclass(frozen=True)
class Locator:
    """The location of frames: small, picklable, valid in any process of this machine.

    Attributes:
        source: path of the source.
        reading: reading options.
        marks: seek points, sorted.
    """

    source: str
    reading: Reading
    marks: tuple[Mark, ...] = ()

    def before(self, frame: int) -> Mark | None:
        """Return the last mark at or before a frame, or None."""
        return max((m for m in self.marks if m.frame <= frame), key=lambda m: m.frame, default=None)


def read_range(
    locator: Locator, first: int, count: int, fingerprint: str | None = None
) -> np.ndarray:
    """Read the kept frames [first, first + count) as (count, H, W, 3) uint8.

    With the expected `fingerprint`, decoding starts at the keyframe before them if the source can
    seek. Without it, or if the sought frames differ, decoding starts at the beginning.

    Raises SourceError if the source has too few frames, or if the frames do not match
    `fingerprint`: the source has changed.
    """
    name = f"frames {first} to {first + count - 1}"
    sought = fingerprint is not None and locator.before(first) is not None
    complete = False
    for pictures_of in (_sought, _from_beginning) if sought else (_from_beginning,):
        frames = None  # free the memory of a failed attempt
        selection = Selection(locator.reading.open(locator.source), locator.reading.edit)
        frames = _gathered(selection, pictures_of(selection, locator, first), count)
        if frames is None:
            continue
        if fingerprint in (None, frames_hash(frames)):
            return frames
        complete = True
    if not complete:
        raise SourceError(f"{locator.source}: it has no {name}; has the source changed?")
    raise SourceError(
        f"{locator.source}: {name} have changed since the source was first read; "
        "encode the video again"
    )


def frames_hash(frames: np.ndarray) -> str:
    """Return the first 16 hex digits of the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()[:16]


def _sought(selection: Selection, locator: Locator, first: int) -> Iterator[Picture]:
    """Yield pictures from frame `first` on by seeking to the mark before it; nothing if that
    fails."""
    mark = locator.before(first)
    if mark is None or not selection.source.seek(mark.pts):
        return
    frame = -1
    for picture in selection.source.pictures():
        if frame >= 0:
            frame += 1
        elif picture.pts == mark.pts:
            frame = mark.frame
        elif picture.pts is None or picture.pts > mark.pts:
            return
        if frame >= first:
            yield picture


def _from_beginning(selection: Selection, locator: Locator, first: int) -> Iterator[Picture]:
    """Return the pictures from frame `first` on, after reading all before it."""
    return islice(selection.pictures(), first, None)


def _gathered(selection: Selection, pictures: Iterator[Picture], count: int) -> np.ndarray | None:
    """Return the first `count` frames, or None if there are fewer."""
    frames, complete = np.empty((0, 0, 0, 3), np.uint8), False
    for index, picture in enumerate(islice(pictures, count)):
        frame = selection.frame(picture)
        if index == 0:
            frames = np.empty((count, *frame.shape), np.uint8)
        frames[index] = frame
        complete = index == count - 1
    return frames if complete else None

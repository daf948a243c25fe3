"""A run of frames of a source, read once more, by whoever is told where they are."""

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
    """The frame number `frame` (of those that are kept) is the picture at `pts` of the source, and
    no earlier one is shown at that time, or later."""

    frame: int
    pts: int


@dataclass(frozen=True)
class Locator:
    """Where frames come from: small, and good for another process of the same machine.

    Attributes:
        source: the path of what is read.
        reading: how.
        marks: frames that can be sought, in order.
    """

    source: str
    reading: Reading
    marks: tuple[Mark, ...] = ()

    def before(self, frame: int) -> Mark | None:
        """The last mark that is no later than a frame."""
        return max((m for m in self.marks if m.frame <= frame), key=lambda m: m.frame, default=None)


def read_range(
    locator: Locator, first: int, count: int, fingerprint: str | None = None
) -> np.ndarray:
    """(count, H, W, 3) uint8: the frames [first, first + count) of those that are kept.

    With the `fingerprint` that the frames must have, the source is decoded from the key frame
    before them, where it can be sought. Without one, and where what was sought differs, it is
    decoded from its beginning.

    Raises SourceError where there are not so many frames, or where they differ from the
    `fingerprint`: the source has changed.
    """
    name = f"frames {first} to {first + count - 1}"
    sought = fingerprint is not None and locator.before(first) is not None
    complete = False
    for pictures_of in (_sought, _from_beginning) if sought else (_from_beginning,):
        frames = None  # what was sought in vain takes no memory any more
        selection = Selection(locator.reading.open(locator.source), locator.reading.edit)
        frames = _gathered(selection, pictures_of(selection, locator, first), count)
        if frames is None:
            continue
        if fingerprint in (None, fingerprint_of(frames)):
            return frames
        complete = True
    if not complete:
        raise SourceError(f"{locator.source}: there are no {name} in it; has the source changed?")
    raise SourceError(
        f"{locator.source}: {name} are not what they were: "
        "the source has changed since it was read first; encode it anew"
    )


def fingerprint_of(frames: np.ndarray) -> str:
    """Identifies an array: 16 digits of its bytes' SHA-256."""
    return hashlib.sha256(np.ascontiguousarray(frames)).hexdigest()[:16]


def _sought(selection: Selection, locator: Locator, first: int) -> Iterator[Picture]:
    """The pictures from frame `first` on, by the mark before it; none where that is not found."""
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
    """The pictures from frame `first` on, by taking all before it."""
    return islice(selection.pictures(), first, None)


def _gathered(selection: Selection, pictures: Iterator[Picture], count: int) -> np.ndarray | None:
    """The first `count` frames; None where there are less."""
    frames, complete = np.empty((0, 0, 0, 3), np.uint8), False
    for index, picture in enumerate(islice(pictures, count)):
        frame = selection.frame(picture)
        if index == 0:
            frames = np.empty((count, *frame.shape), np.uint8)
        frames[index] = frame
        complete = index == count - 1
    return frames if complete else None

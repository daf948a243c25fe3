"""Tracks whose parts lie among the segments: the index that finds the parts of a time, and the
tracks that are made of parts. docs/format.md has the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from nervkit.container.columns import pack_columns, unpack_columns
from nervkit.container.fields import whole
from nervkit.container.track import unpack_part
from nervkit.errors import FormatError
from nervkit.media.checks import MOST_SECONDS
from nervkit.media.track import Track

WHAT = "the index of tracks"
MOST = 2000 * MOST_SECONDS  # milliseconds: a time and a duration


@dataclass(frozen=True)
class TrackIndex:
    """What the track chunks of a file are.

    Attributes:
        rows: for each track chunk, in order: which of them is its track's first part, and its
            `Track.span`.
    """

    rows: tuple[tuple[int, int, int], ...]

    def pack(self) -> bytes:
        """The payload of the index's chunk."""
        return pack_columns(np.array(self.rows, np.int64))

    @classmethod
    def unpack(cls, payload: bytes, count: int) -> TrackIndex:
        """The inverse, of a file that has `count` track chunks. Raises FormatError."""
        rows = unpack_columns(payload, count, 3, f"the rows of {WHAT}").tolist()
        latest: dict[int, int] = {}  # when the latest part of each track begins
        for place, (first, begin, end) in enumerate(rows):
            whole(first, f"{WHAT}: a part's track", 0, place)
            whole(end, f"{WHAT}: an end", -MOST, MOST)
            whole(begin, f"{WHAT}: a beginning", latest.get(first, -MOST), end)
            if first != place and first not in latest:
                raise FormatError(f"{WHAT} has a part of a track that does not begin")
            latest[first] = begin
        return cls(tuple(map(tuple, rows)))

    def within(self, window: tuple[Fraction, Fraction]) -> list[int]:
        """The places of the parts that have something in [a, b) seconds."""
        start, stop = (1000 * time for time in window)
        spans = enumerate(self.rows)
        return [place for place, (_, begin, end) in spans if begin < stop and end >= start]

    def covering(self, window: tuple[Fraction, Fraction]) -> list[int]:
        """The same, and of each track that has nothing there the first part, which says what the
        track is."""
        chosen = self.within(window)
        there = {self.rows[place][0] for place in chosen}
        return sorted({*chosen, *self.tracks} - (there - {*chosen}))

    @property
    def tracks(self) -> list[int]:
        """The place of each track's first part."""
        return [place for place, (first, *_) in enumerate(self.rows) if place == first]


def unpack_tracks(payloads: Mapping[int, bytes], index: TrackIndex | None = None) -> list[Track]:
    """Tracks, each with its later parts, from the payloads of track chunks by their places among
    all of them, in order. Without an index, all are needed. Raises FormatError."""
    tracks: dict[int, list[Track]] = {}
    for place, payload in payloads.items():
        part, continues = unpack_part(payload)
        first = place if continues is None else continues
        if index is not None and index.rows[place] != (first, *part.span):
            raise FormatError(f"{WHAT} tells otherwise than a part of a track")
        if continues is not None and (first == place or (index is None and first not in tracks)):
            raise FormatError("a part of a track continues none that stands before it")
        tracks.setdefault(first, []).append(part)
    found = (parts for _, parts in sorted(tracks.items()))
    return [replace(first, later=tuple(later)) for first, *later in found]

"""The track index, which finds track parts by time, and the assembly of tracks from their parts.
docs/format.md has the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from nervkit.container.columns import pack_columns, unpack_columns
from nervkit.container.fields import check_int
from nervkit.container.track import unpack_part
from nervkit.errors import FormatError
from nervkit.media.checks import MOST_SECONDS
from nervkit.media.track import Track

WHAT = "the index of tracks"
MOST = 2000 * MOST_SECONDS  # milliseconds: the largest timestamp plus the largest duration


@dataclass(frozen=True)
class TrackIndex:
    """The index of a file's track chunks.

    Attributes:
        rows: for each track chunk in order: the index of its track's first part, and both values of
            its `Track.span`.
    """

    rows: tuple[tuple[int, int, int], ...]

    def pack(self) -> bytes:
        """Return the payload of the tIDX chunk."""
        return pack_columns(np.array(self.rows, np.int64))

    @classmethod
    def unpack(cls, payload: bytes, count: int) -> TrackIndex:
        """Parse the tIDX chunk of a file with `count` track chunks. Raises FormatError."""
        rows = unpack_columns(payload, count, 3, f"the rows of {WHAT}").tolist()
        latest: dict[int, int] = {}  # start of the latest part of each track
        for place, (first, begin, end) in enumerate(rows):
            check_int(first, f"{WHAT}: a part's track", 0, place)
            check_int(end, f"{WHAT}: an end time", -MOST, MOST)
            check_int(begin, f"{WHAT}: a start time", latest.get(first, -MOST), end)
            if first != place and first not in latest:
                raise FormatError(f"{WHAT} has a later part of a track that has no first part")
            latest[first] = begin
        return cls(tuple(map(tuple, rows)))

    def within(self, window: tuple[Fraction, Fraction]) -> list[int]:
        """Return the indices of the parts that overlap [a, b) seconds."""
        start, stop = (1000 * time for time in window)
        spans = enumerate(self.rows)
        return [place for place, (_, begin, end) in spans if begin < stop and end >= start]

    def covering(self, window: tuple[Fraction, Fraction]) -> list[int]:
        """Return the indices of the parts that overlap `window`, and for each track without such a
        part its first part, which describes the track."""
        chosen = self.within(window)
        there = {self.rows[place][0] for place in chosen}
        return sorted({*chosen, *self.tracks} - (there - {*chosen}))

    @property
    def tracks(self) -> list[int]:
        """The index of each track's first part."""
        return [place for place, (first, *_) in enumerate(self.rows) if place == first]


def unpack_tracks(payloads: Mapping[int, bytes], index: TrackIndex | None = None) -> list[Track]:
    """Return the tracks, each with its later parts, from the payloads of track chunks, keyed by
    their index among all track chunks and in order. Without `index`, all chunks are required.
    Raises FormatError."""
    tracks: dict[int, list[Track]] = {}
    for place, payload in payloads.items():
        part, continues = unpack_part(payload)
        first = place if continues is None else continues
        if index is not None and index.rows[place] != (first, *part.span):
            raise FormatError(f"{WHAT} contradicts a part of a track")
        if continues is not None and (first == place or (index is None and first not in tracks)):
            raise FormatError("a part of a track continues a track that is not before it")
        tracks.setdefault(first, []).append(part)
    found = (parts for _, parts in sorted(tracks.items()))
    return [replace(first, later=tuple(later)) for first, *later in found]

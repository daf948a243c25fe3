"""Metadata of movie files: track titles and flags, tags, chapters, attachments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Disposition

from nervkit.media.extras import Attachment
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.video.clocks import LARGEST, MILLISECOND
from nervkit.video.extras import chapter_times
from nervkit.video.stream import Stream

NANOSECOND = Fraction(1, 10**9)
#: tags that the muxer writes itself
MUXER_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands")
#: tags that have a standard field in MP4 and MOV; others become free-form metadata keys
FIELDS = {
    ".mp4": (
        *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
        *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
        *("network", "keywords", "compilation", "creation_time", "location", "timecode"),
    ),
    ".mov": (
        *("title", "artist", "album", "date", "comment", "genre", "copyright"),
        *("make", "model", "creation_time", "location", "timecode"),
    ),
}


@dataclass(frozen=True)
class Labels:
    """The global metadata of a movie whose file name ends in `suffix`."""

    suffix: str
    tags: dict[str, str]
    chapters: tuple[tuple[Fraction, Fraction, str], ...]  # start and end in seconds, title
    attachments: tuple[Attachment, ...]

    @classmethod
    def of(cls, stream: Stream, suffix: str, end: Fraction) -> Self:
        """Return the metadata of a stream for a movie that ends at `end` seconds. Chapters are
        trimmed and shifted with the frames, and end with the movie."""
        first, last = stream.window or (Fraction(0), end)
        extras = stream.extras
        return cls(
            suffix,
            {k: v for k, v in extras.tags.items() if k.lower() not in MUXER_TAGS},
            tuple(
                (max(c.start, first) - first, min(c.end, last) - first, c.title)
                for c in extras.chapters
                if c.start < last and (c.end > first or c.start == first)
            ),
            extras.attachments,
        )

    def later(self, delay: Fraction) -> Self:
        """Return the labels with chapters `delay` seconds later, for a muxer that delays packets
        but not chapters."""
        chapters = tuple((start + delay, end + delay, name) for start, end, name in self.chapters)
        return replace(self, chapters=chapters)

    def as_mp4_counts(self, timing: Timing) -> tuple[Self, list[str]]:
        """Return the labels that MP4 and MOV can represent beside frames of this timing, and notes
        on the others. The timecode is one sample as long as the video, chapters are samples in
        milliseconds, and libavformat aborts the process if a duration exceeds 31 bits."""
        counted, notes = self, []
        ticks = timing.pts[-1] - timing.pts[0] + timing.duration
        if ticks > LARGEST and (names := [n for n in self.tags if n.lower() == "timecode"]):
            rest = {name: value for name, value in self.tags.items() if name not in names}
            counted = replace(counted, tags=rest)
            notes.append(f"{self.suffix} cannot hold a timecode for a video this long: left out")
        if self.chapters and max(end for _, end, _ in self.chapters) / MILLISECOND > LARGEST:
            counted = replace(counted, chapters=())
            notes.append(f"{self.suffix} cannot hold chapters after {LARGEST} ms: left out")
        return counted, notes

    @property
    def need_free_tags(self) -> bool:
        """Whether a tag has no standard field in MP4 or MOV. (More players read those fields.)"""
        kind = ".mp4" if self.suffix == ".m4a" else self.suffix
        return any(name not in FIELDS[kind] for name in self.tags)

    def add(self, container: OutputContainer) -> list[str]:
        """Add the metadata to a movie, before its packets. Return a note if the format cannot hold
        attachments."""
        container.metadata.update(self.tags)
        container.set_chapters(
            [
                {
                    "id": number,
                    "start": round(start / NANOSECOND),
                    "end": round(end / NANOSECOND),
                    "time_base": NANOSECOND,
                    "metadata": {"title": title} if title else {},
                }
                for number, (start, end, title) in enumerate(self.chapters, start=1)
            ]
        )
        if self.attachments and self.suffix not in (".mkv", ".mka"):
            names = ", ".join(attachment.name for attachment in self.attachments if attachment.name)
            return [f"{self.suffix} cannot hold attachments ({names or 'unnamed'}): use .mkv"]
        for attachment in self.attachments:
            container.add_attachment(
                attachment.name or "attachment",
                attachment.media_type or "application/octet-stream",
                attachment.data,
            )
        return []

    def lost(self, path: Path, tracks: Sequence[Track], first: int = 1) -> list[str]:
        """Return notes on the metadata that the movie at `path` lacks; `tracks` begin at its stream
        `first`. Muxers silently drop what their format cannot hold."""
        notes = []
        with av.open(f"file:{path}") as container:
            # In the order in which they were added; MP4 may have a chapter track after them.
            added = list(container.streams)[first : first + len(tracks)]
            found = {_plain(name) for s in (container, *container.streams) for name in s.metadata}
            chapters = [chapter_times(entry) for entry in container.chapters()]
            for number, (there, track) in enumerate(zip(added, tracks, strict=True), start=1):
                if lost := list(_lost_of_track(there, track)):
                    notes.append(
                        f"{self.suffix} cannot hold the {' and '.join(lost)} of track {number} "
                        f"({track.kind}): left out"
                    )
        if lost := [name for name in self.tags if _plain(name) not in found]:
            notes.append(f"{self.suffix} cannot hold the tags {', '.join(lost)}: left out")
        wanted = [times for *times, _ in self.chapters]
        if len(chapters) != len(wanted):
            notes.append(f"{self.suffix} holds {len(chapters)} of {len(wanted)} chapters")
        elif not np.allclose(np.array(chapters, float), np.array(wanted, float), 0, 0.002):
            notes.append(
                f"{self.suffix} needs contiguous chapters from 0 on: chapter times were changed"
            )
        return notes


def label_track(added: av.stream.Stream, track: Track) -> None:
    """Set the language, title and flags of an output stream to those of a track."""
    if track.language:
        added.metadata["language"] = track.language
    if track.title:
        added.metadata["title"] = track.title
    added.disposition = _disposition(track)


def _lost_of_track(added: av.stream.Stream, track: Track) -> Iterator[str]:
    if track.title and track.title not in added.metadata.values():
        yield "title"
    lost = _disposition(track) & ~added.disposition
    yield from (f"flag {flag!r}" for flag in track.flags if Disposition[flag] & lost)


def _disposition(track: Track) -> Disposition:
    flags = Disposition(0)
    for flag in track.flags:
        flags |= Disposition[flag]
    return flags


def _plain(name: str) -> str:
    """Return a normalized tag name: Matroska uses capitals and no spaces."""
    return name.lower().replace(" ", "_")

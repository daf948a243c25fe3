"""Reading and writing complete .nerv files."""

from __future__ import annotations

import io
import math
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain
from operator import itemgetter
from threading import RLock
from typing import Any, BinaryIO

import numpy as np

from nervkit.container import chunks, format1, format2
from nervkit.container.chunks import Chunk
from nervkit.container.contents import Contents, intact_segments
from nervkit.container.extras import pack_attachment, pack_description, unpack_extras
from nervkit.container.fields import check_int
from nervkit.container.header import Header, Segment
from nervkit.container.limits import Limits
from nervkit.container.segment import SegmentData
from nervkit.container.source import NervSource, SeekableFile
from nervkit.container.timing import pack_timing, unpack_timing
from nervkit.container.track import count_packets, pack_track
from nervkit.container.trackindex import TrackIndex, unpack_tracks
from nervkit.errors import ChecksumError, FormatError
from nervkit.forking import register_after_fork
from nervkit.keywords import setting
from nervkit.media.extras import Extras
from nervkit.media.timing import Timing
from nervkit.media.track import MOST_PACKETS, Track

CHECKS_HEAD = struct.Struct("<ff")
SALVAGED_FPS = 25  # assumed for a salvaged file without timestamps
SAMPLES = 4  # stored sample values per frame

PARTS = {
    chunks.HEADER: "header",
    chunks.TIMING: "header",
    chunks.MODEL: "header",
    chunks.TABLE: "header",
    format1.WEIGHTS: "weights",
    format1.EMBEDDINGS: "embeddings",
    format1.TENSORS: "tensors",
    chunks.SEGMENT: "tensors",
    chunks.CHECKS: "checks",
    chunks.SAMPLES: "checks",
    chunks.DESCRIPTION: "extras",
    chunks.ATTACHMENT: "extras",
    chunks.TRACK: "tracks",
    chunks.TRACK_INDEX: "tracks",
    chunks.END: "header",
}
ALWAYS = ("header", "tensors", "checks", "tracks")  # parts that are listed even if empty
#: notes on damaged parts of a salvaged file
LOST_PARTS = {
    "checks": "the encoder's checks of its frames are damaged: nervkit does not use them",
    "extras": "tags, chapters or an attachment are damaged: nervkit leaves them out",
    "tracks": "audio or subtitles are damaged: nervkit leaves out the damaged part",
}
NO_VIDEO = ("tracks", "extras")  # parts that bits per pixel exclude


@dataclass(frozen=True)
class Checks:
    """Quality and checksums of the reconstruction that the encoder decoded from its own file.

    Attributes:
        psnr: dB, mean over frames of 8-bit RGB, 0 to 100; None if unknown.
        ssim: mean over frames, -1 to 1; None if unknown (frames smaller than its window).
        crcs: (T,) uint32, CRC-32 of each frame's RGB bytes, rows from the top.
        samples: (T, SAMPLES) uint8, the values of each frame at `sample_indices`. They distinguish
            a frame with other rounding from a wrong one. None if the file has none.
    """

    psnr: float | None
    ssim: float | None
    crcs: np.ndarray
    samples: np.ndarray | None = None

    def pack(self) -> bytes:
        """Return the payload of the cHCK chunk. (That of cSMP is `samples.tobytes()`.)"""
        means = (math.nan if mean is None else mean for mean in (self.psnr, self.ssim))
        return CHECKS_HEAD.pack(*means) + self.crcs.astype("<u4").tobytes()

    @classmethod
    def unpack(cls, payload: bytes, samples: bytes | None, frames: int) -> Checks:
        """Parse the payloads of the cHCK and cSMP chunks. Raises FormatError."""
        if len(payload) != CHECKS_HEAD.size + 4 * frames:
            raise FormatError(f"the frame checks do not cover {frames} frames")
        if samples is not None and len(samples) != SAMPLES * frames:
            raise FormatError(f"the frame samples do not cover {frames} frames")
        psnr, ssim = (None if math.isnan(x) else x for x in CHECKS_HEAD.unpack_from(payload))
        if not (psnr is None or 0 <= psnr <= 100) or not (ssim is None or -1 <= ssim <= 1):
            raise FormatError("the frame checks have a quality that is out of range")
        crcs = np.frombuffer(payload, "<u4", offset=CHECKS_HEAD.size)
        kept = None if samples is None else np.frombuffer(samples, np.uint8).reshape(frames, -1)
        return cls(psnr, ssim, crcs, kept)


def sample_indices(frame: int, count: int) -> np.ndarray:
    """Return (SAMPLES,) pseudo-random indices into the `count` values of frame number `frame`, by
    the 32-bit integer hash in docs/format.md."""
    x = (frame * SAMPLES + np.arange(1, SAMPLES + 1, dtype=np.uint64)) * np.uint64(0x9E3779B1)
    x &= np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(0x85EBCA77)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(13)
    return ((x * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def write_file(
    file: BinaryIO,
    header: Header,
    timing: Timing,
    segments: Iterable[tuple[Segment, SegmentData]],
    tracks: Sequence[Track],
    checks: Callable[[], Checks | None],
    extras: Extras,
) -> None:
    """Write a complete .nerv file at the current position of `file`. `segments` is consumed one by
    one, so that they need not be in memory together; `checks` is called after the last. Track parts
    are interleaved with segments, so that a streaming reader has the sound of each segment. Raises
    FormatError if a decoder would refuse a part."""
    writer = format2.Writer(file, header)
    writer.part(chunks.TIMING, pack_timing(timing))
    sound = _TrackWriter(writer, tracks)
    frames = 0
    for segment, data in segments:
        frames += segment.frames
        sound.write_until(timing.end_of(frames))
        writer.segment(segment, data)
    sound.finish()
    if (found := checks()) is not None:
        writer.part(chunks.CHECKS, found.pack())
        if found.samples is not None:
            writer.part(chunks.SAMPLES, found.samples.tobytes())
    if description := pack_description(extras):
        writer.part(chunks.DESCRIPTION, description)
    for attachment in extras.attachments:
        writer.part(chunks.ATTACHMENT, pack_attachment(attachment))
    writer.finish()


class _TrackWriter:
    """Interleaves tracks with segments: writes the first part of every track at once, and a later
    part before the segment in whose time it begins."""

    def __init__(self, writer: format2.Writer, tracks: Sequence[Track]) -> None:
        self._writer = writer
        self._rows: list[tuple[int, int, int]] = []
        for number, track in enumerate(tracks):
            self._write(number, track)
        later = [(part.span[0], n, part) for n, track in enumerate(tracks) for part in track.later]
        self._later = deque(sorted(later, key=itemgetter(0)))

    def _write(self, track: int, part: Track) -> None:
        continues = track if len(self._rows) > track else None
        self._writer.part(chunks.TRACK, pack_track(part, continues))
        self._rows.append((track, *part.span))

    def write_until(self, end: Fraction) -> None:
        """Write the parts that begin before `end` seconds."""
        while self._later and self._later[0][0] < 1000 * end:
            _, track, part = self._later.popleft()
            self._write(track, part)

    def finish(self) -> None:
        """Write the remaining parts, and the index if a track has several."""
        for _, track, part in self._later:
            self._write(track, part)
        if len(self._rows) > len({track for track, *_ in self._rows}):
            self._writer.part(chunks.TRACK_INDEX, TrackIndex(tuple(self._rows)).pack())


def pack_file(
    header: Header,
    timing: Timing,
    segments: Sequence[SegmentData],
    tracks: Sequence[Track] = (),
    checks: Checks | None = None,
    extras: Extras | None = None,
) -> bytes:
    """Return the bytes of a complete file. Raises FormatError if a decoder would refuse a part."""
    file = io.BytesIO()
    pairs = zip(header.segments, segments, strict=True)
    write_file(file, header, timing, pairs, tracks, lambda: checks, extras or Extras())
    return file.getvalue()


class NervFile:
    """An open .nerv file. Opening reads the table and the header only, so its cost hardly depends
    on the number of segments. Every part is checked when it is read; `check_all` checks all parts.
    The object is thread-safe.

    Args:
        source: a path, the bytes of a file, or a seekable binary file object (such as fsspec's for
            an object store), which stays open.
        limits: resource limits for decoding.
        salvage: read the intact segments of a truncated or damaged file.

    Attributes:
        name: file name for messages.
        size: file size in bytes.
        notes: what a salvaged file lacks, one line each; empty for a complete file.

    Raises:
        SourceError: the file is missing or unreadable, or the object cannot seek.
        FormatError: this is not a valid .nerv file.
    """

    def __init__(
        self, source: NervSource, limits: Limits | None = None, *, salvage: bool = False
    ) -> None:
        self.limits, self._salvage = Limits.of(limits), salvage
        self._file = SeekableFile(source)
        self._lock = RLock()
        register_after_fork(self)
        self.name, self.size = self._file.name, self._file.size
        try:
            with self.naming():
                self._open(salvage)
        except BaseException:
            self.close()
            raise

    def _open(self, salvage: bool) -> None:
        self.version = chunks.read_version(self._file)
        self._format = format1 if self.version[0] == 1 else format2
        self._contents = self._read_contents(salvage)
        self.notes = self._losses()
        self.limits.check("pixels", self.header.pixels, self.size)
        self.limits.check("values", max(s.values or 0 for s in self.header.segments), self.size)

    def _read_contents(self, salvage: bool) -> Contents:
        """Read the contents, or raise a ChecksumError that advises to salvage if that helps."""
        try:
            return self._format.read_contents(self._file, self.size, salvage)
        except ChecksumError:
            if salvage:
                raise
            with self._advising(self._can_be_salvaged()):
                raise

    def _can_be_salvaged(self) -> bool:
        try:
            self._format.read_contents(self._file, self.size, salvage=True)
        except FormatError:
            return False
        return True

    def _losses(self) -> list[str]:
        """Return notes on what a salvaged file lacks."""
        contents, notes = self._contents, []
        if contents.damage is not None:
            kept, lost = len(self.header.segments), len(contents.lost)
            intact = intact_segments(kept, self.header.frames, kept + lost)
            rest = "the rest is lost: later frames, and possibly audio, subtitles and tags"
            if contents.ended:
                rest = "no other frame, track or tag is lost by this"
            notes.append(f"{contents.damage}; {intact} intact; {rest}")
        for segment in contents.lost:
            frames = f"nervkit leaves out frames {segment.first} to {segment.stop - 1}"
            cause = "uses a damaged model" if segment.model else "is damaged"
            notes.append(f"segment {segment.index} {cause}: {frames}")
        damaged = sorted({PARTS.get(chunk.type, "other") for chunk in contents.damaged})
        notes += [LOST_PARTS[part] for part in damaged if part in LOST_PARTS]
        if not self._timed:
            notes.append(f"the frame timestamps are lost; nervkit assumes {SALVAGED_FPS} fps")
        return notes

    @property
    def _timed(self) -> bool:
        return any(True for _ in self._intact_chunks(chunks.TIMING))

    @property
    def header(self) -> Header:
        """The file's header, segments included."""
        return self._contents.header

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks of the file, in order."""
        return self._contents.chunks

    @cached_property
    def timing(self) -> Timing:
        """The frame timing. Raises FormatError."""
        frames = self.header.frames
        if not self._timed:
            return Timing(np.arange(frames), Fraction(1, SALVAGED_FPS), 1)
        with self.naming():
            payload, kept = next(self._payloads(chunks.TIMING)), self._contents.kept
            if kept is None:
                return unpack_timing(payload, frames, first=self._contents.damage is not None)
            until_last = unpack_timing(payload, int(kept[-1]) + 1, first=True)
            return replace(until_last, pts=until_last.pts[kept])

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Prefix every FormatError raised inside with the file's name."""
        try:
            yield
        except FormatError as error:
            if str(error).startswith(self.name):
                raise
            raise type(error)(f"{self.name}: {error}") from error

    def _payload(self, chunk: Chunk) -> bytes:
        with self.naming(), self._lock, self._advising():
            return chunks.read_payload(self._file, chunk)

    @contextmanager
    def _advising(self, useful: bool = True) -> Iterator[None]:
        """Advise to salvage the file in every ChecksumError raised inside, if `useful`."""
        try:
            yield
        except ChecksumError as error:
            if self._salvage or not useful:
                raise
            advice = f"use {setting('salvage', True)} to decode what is intact"
            raise ChecksumError(f"{error}; {advice}") from error

    def segment(self, index: int) -> SegmentData:
        """Return the coded tensors of a segment. Raises FormatError."""
        with self.naming(), self._lock, self._advising(len(self.header.segments) > 1):
            return self._format.read_segment(self._file, self._contents, index)

    def _payloads(self, type: bytes) -> Iterator[bytes]:
        """Iterate over the payloads of all intact chunks of one type, in file order."""
        return map(self._payload, self._intact_chunks(type))

    def _intact_chunks(self, type: bytes) -> Iterator[Chunk]:
        damaged = self._contents.damaged
        return (c for c in self.chunks if c.type == type and c not in damaged)

    def tracks(self, window: tuple[Fraction, Fraction] | None = None) -> list[Track]:
        """Return all audio and subtitle tracks. With `window` ([a, b) seconds) and a track index,
        reads of each track only the parts that overlap it, or else its first part."""
        with self.naming():
            listed = self._track_chunks
            index = self._track_index
            if index is None or window is None:
                return self._parts(range(len(listed)))
            return self._parts(index.covering(window))

    def track_parts(
        self, number: int, window: tuple[Fraction, Fraction] | None = None
    ) -> Iterator[Track]:
        """Yield the parts of track `number` that overlap `window`; each is read on demand. Without
        a track index, yields the whole track. Raises IndexError."""
        with self.naming():
            index = self._track_index
            tracks = self.tracks() if index is None else []
            numbers = range(len(tracks)) if index is None else self._intact(index.tracks)
            if not 0 <= number < len(numbers):
                raise IndexError(f"track {number} of {len(numbers)}")
            if index is None:
                yield tracks[number]
                return
            for place in range(len(index.rows)) if window is None else index.within(window):
                if index.rows[place][0] == numbers[number]:
                    yield from self._parts([place])

    def _parts(self, places: Iterable[int]) -> list[Track]:
        """Return the tracks made of the track chunks with these indices."""
        listed = self._track_chunks
        payloads = {place: self._payload(listed[place]) for place in self._intact(places)}
        packets = sum(map(count_packets, payloads.values()))
        check_int(packets, "the number of packets in all tracks", 0, MOST_PACKETS)
        return unpack_tracks(payloads, self._track_index)

    def _intact(self, places: Iterable[int]) -> list[int]:
        return [place for place in places if place not in self._lost_tracks]

    @cached_property
    def _lost_tracks(self) -> set[int]:
        """The track chunks of a salvaged file that are damaged, or continue a track whose first
        part is damaged."""
        damaged, index = self._contents.damaged, self._track_index
        lost = {place for place, chunk in enumerate(self._track_chunks) if chunk in damaged}
        rows = () if index is None else enumerate(index.rows)
        return lost | {place for place, (first, *_) in rows if first in lost}

    @cached_property
    def _track_chunks(self) -> list[Chunk]:
        return [chunk for chunk in self.chunks if chunk.type == chunks.TRACK]

    @cached_property
    def _track_index(self) -> TrackIndex | None:
        """None if the file has no index: every track has one part, or the file is truncated."""
        payload = next(self._payloads(chunks.TRACK_INDEX), None)
        return None if payload is None else TrackIndex.unpack(payload, len(self._track_chunks))

    def extras(self) -> Extras:
        """Return tags, chapters and attachments. Raises FormatError."""
        with self.naming():
            description = next(self._payloads(chunks.DESCRIPTION), None)
            return unpack_extras(description, list(self._payloads(chunks.ATTACHMENT)))

    def checks(self) -> Checks | None:
        """Return the encoder's checks, or None if the file has none. Raises FormatError."""
        with self.naming():
            payload = next(self._payloads(chunks.CHECKS), None)
            samples = next(self._payloads(chunks.SAMPLES), None)
            if payload is None or self.notes:  # the stored quality is that of the complete file
                return None
            return Checks.unpack(payload, samples, self.header.frames)

    def check_all(self) -> None:
        """Verify the checksum of every chunk. Raises ChecksumError."""
        self._check(self.chunks)

    def check_segments(self, first: int, stop: int) -> None:
        """Verify the checksums of the segments [first, stop). Raises ChecksumError."""
        with self._advising(len(self.header.segments) > 1):
            self._check(chain(*self._contents.segments[first:stop]))

    def _check(self, listed: Iterable[Chunk]) -> None:
        with self.naming():
            for chunk in listed:
                with self._lock:
                    chunks.check(self._file, chunk)

    def segment_bytes(self, index: int) -> int:
        """Return the bytes on disk of a segment, framing included."""
        return sum(chunk.size for chunk in self._contents.segments[index])

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes on disk by part, framing included; the sum is `size`."""
        parts = dict.fromkeys([*PARTS.values(), "other"], 0)
        parts["header"] += chunks.PREAMBLE.size
        for chunk in self.chunks:
            parts[PARTS.get(chunk.type, "other")] += chunk.size
        parts["other"] += self.size - sum(parts.values())  # not 0 for a truncated file
        return {name: size for name, size in parts.items() if size or name in ALWAYS}

    @property
    def bpp(self) -> float:
        """Bits per pixel of the video: all bytes except those of tracks and extras."""
        parts = self.bytes_by_part
        return 8 * (self.size - sum(parts.get(name, 0) for name in NO_VIDEO)) / self.header.pixels

    @property
    def elsewhere(self) -> NervSource:
        """The source by which another process opens the file. Raises UsageError if it cannot."""
        return self._file.elsewhere

    def after_fork(self) -> None:
        """Renew the lock in a forked process, where no thread holds it."""
        self._lock = RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.elsewhere, self.limits, self._salvage)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> NervFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reopened(source: NervSource, limits: Limits, salvage: bool) -> NervFile:
    """Reopen a pickled file."""
    return NervFile(source, limits, salvage=salvage)

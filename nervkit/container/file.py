"""A .nerv file as a whole: its parts in order, written and read."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nervkit.container import chunks, format1, format2
from nervkit.container.chunks import Chunk
from nervkit.container.extras import Extras
from nervkit.container.fields import whole
from nervkit.container.header import Header, Segment
from nervkit.container.limits import MOST_PACKETS, Limits
from nervkit.container.segment import SegmentData
from nervkit.container.timing import Timing
from nervkit.container.track import Track, count_packets
from nervkit.errors import FormatError, SourceError

CHECKS_HEAD = struct.Struct("<ff")
SAMPLES = 4  # values of each frame that are kept

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
    chunks.END: "header",
}
ALWAYS = ("header", "tensors", "checks", "tracks")  # parts that are listed where they are empty
NO_VIDEO = ("tracks", "extras")  # parts that bits per pixel leave out


@dataclass(frozen=True)
class Checks:
    """What the encoder saw when it decoded its own file.

    Attributes:
        psnr: dB, mean over frames of 8-bit RGB, 0 to 100; None where unknown.
        ssim: mean over frames, -1 to 1; None where unknown (frames too small for its window).
        crcs: (T,) uint32, CRC-32 of each frame's RGB bytes, rows from the top.
        samples: (T, SAMPLES) uint8, the values of each frame at `sample_places`, which tell a
            frame that is rounded otherwise from a wrong one; None where the file has none.
    """

    psnr: float | None
    ssim: float | None
    crcs: np.ndarray
    samples: np.ndarray | None = None

    def pack(self) -> bytes:
        """The payload of the chunk of checks; that of `samples` is their bytes."""
        means = (math.nan if mean is None else mean for mean in (self.psnr, self.ssim))
        return CHECKS_HEAD.pack(*means) + self.crcs.astype("<u4").tobytes()

    @classmethod
    def unpack(cls, payload: bytes, samples: bytes | None, frames: int) -> Checks:
        """The inverse. Raises FormatError."""
        if len(payload) != CHECKS_HEAD.size + 4 * frames:
            raise FormatError(f"the frame checks do not cover {frames} frames")
        if samples is not None and len(samples) != SAMPLES * frames:
            raise FormatError(f"the frame samples do not cover {frames} frames")
        psnr, ssim = (None if math.isnan(x) else x for x in CHECKS_HEAD.unpack_from(payload))
        if not (psnr is None or 0 <= psnr <= 100) or not (ssim is None or -1 <= ssim <= 1):
            raise FormatError("the frame checks hold an impossible quality")
        crcs = np.frombuffer(payload, "<u4", offset=CHECKS_HEAD.size)
        kept = None if samples is None else np.frombuffer(samples, np.uint8).reshape(frames, -1)
        return cls(psnr, ssim, crcs, kept)


def sample_places(frame: int, count: int) -> np.ndarray:
    """(SAMPLES,) places among the `count` values of a frame, others in each frame: 32-bit integer
    arithmetic only, as docs/format.md specifies it."""
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
    """Write a whole file from its present position on. Segments are taken one by one, so that they
    need not be in memory at once; `checks` is called once all are written. Raises FormatError where
    a decoder would refuse a part."""
    writer = format2.Writer(file, header)
    writer.part(chunks.TIMING, timing.pack())
    for segment, data in segments:
        writer.segment(segment, data)
    if (found := checks()) is not None:
        writer.part(chunks.CHECKS, found.pack())
        if found.samples is not None:
            writer.part(chunks.SAMPLES, found.samples.tobytes())
    if description := extras.pack_description():
        writer.part(chunks.DESCRIPTION, description)
    for attachment in extras.attachments:
        writer.part(chunks.ATTACHMENT, attachment.pack())
    place = 0
    for track in tracks:
        writer.part(chunks.TRACK, track.pack())
        for part in track.later:
            writer.part(chunks.TRACK, part.pack(continues=place))
        place += len(track.parts)
    writer.finish()


def pack_file(
    header: Header,
    timing: Timing,
    segments: Sequence[SegmentData],
    tracks: Sequence[Track] = (),
    checks: Checks | None = None,
    extras: Extras | None = None,
) -> bytes:
    """The bytes of a whole file. Raises FormatError where a decoder would refuse a part."""
    file = io.BytesIO()
    pairs = zip(header.segments, segments, strict=True)
    write_file(file, header, timing, pairs, tracks, lambda: checks, extras or Extras())
    return file.getvalue()


class NervFile:
    """An open .nerv file. Opening reads what it declares, and no more: many segments take no
    longer than a few. Each part is checked when it is read; `check_all` checks all.

    Args:
        source: a path, or the bytes of a file.
        limits: what may be declared.

    Raises:
        SourceError: no such file, or not readable.
        FormatError: not a valid .nerv file.
    """

    def __init__(self, source: str | Path | bytes, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.name = "these bytes" if isinstance(source, bytes) else str(source)
        self._file: BinaryIO
        if isinstance(source, bytes):
            self._file, self.size = io.BytesIO(source), len(source)
        else:
            self._file, self.size = _opened(Path(source))
        try:
            with self.naming():
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self.version = chunks.read_version(self._file)
        self._format = format1 if self.version[0] == 1 else format2
        self._contents = self._format.read_contents(self._file, self.size)
        self.limits.check("pixels", self.header.pixels, self.size)
        self.limits.check("values", max(s.values for s in self.header.segments), self.size)

    @property
    def header(self) -> Header:
        """All that the file says of itself but its timing."""
        return self._contents.header

    @property
    def chunks(self) -> list[Chunk]:
        """Where all parts of the file are."""
        return self._contents.chunks

    @cached_property
    def timing(self) -> Timing:
        """When frames are shown. Raises FormatError."""
        with self.naming():
            return Timing.unpack(next(self._payloads(chunks.TIMING)), self.header.frames)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Names this file in every FormatError raised inside."""
        try:
            yield
        except FormatError as error:
            if str(error).startswith(self.name):
                raise
            raise type(error)(f"{self.name}: {error}") from error

    def _payload(self, chunk: Chunk) -> bytes:
        with self.naming():
            return chunks.read_payload(self._file, chunk)

    def segment(self, index: int) -> SegmentData:
        """The coded tensors of a segment."""
        with self.naming():
            return self._format.read_segment(self._file, self._contents, index)

    def _payloads(self, type: bytes) -> Iterator[bytes]:
        """Those of all chunks of a type, in order."""
        return (self._payload(chunk) for chunk in self.chunks if chunk.type == type)

    def tracks(self) -> list[Track]:
        """All audio and subtitle tracks."""
        with self.naming():
            payloads = list(self._payloads(chunks.TRACK))
            packets = sum(map(count_packets, payloads))
            whole(packets, "the number of packets in all tracks", 0, MOST_PACKETS)
            return Track.unpack_all(payloads)

    def extras(self) -> Extras:
        """Tags, chapters and attached files."""
        with self.naming():
            description = next(self._payloads(chunks.DESCRIPTION), None)
            return Extras.unpack(description, list(self._payloads(chunks.ATTACHMENT)))

    def checks(self) -> Checks | None:
        """What the encoder saw, or None where the file does not say."""
        with self.naming():
            payload = next(self._payloads(chunks.CHECKS), None)
            samples = next(self._payloads(chunks.SAMPLES), None)
            if payload is None:
                return None
            return Checks.unpack(payload, samples, self.header.frames)

    def check_all(self) -> None:
        """Verify the checksum of every chunk. Raises ChecksumError."""
        with self.naming():
            for chunk in self.chunks:
                chunks.check(self._file, chunk)

    def check_segments(self, first: int, stop: int) -> None:
        """The same of the segments [first, stop) only."""
        with self.naming():
            for chunk in chain(*self._contents.segments[first:stop]):
                chunks.check(self._file, chunk)

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes on disk by part, framing included; they add up to `size`."""
        parts = dict.fromkeys([*PARTS.values(), "other"], 0)
        parts["header"] += chunks.PREAMBLE.size
        for chunk in self.chunks:
            parts[PARTS.get(chunk.type, "other")] += chunk.size
        return {name: size for name, size in parts.items() if size or name in ALWAYS}

    @property
    def bpp(self) -> float:
        """Bits per pixel of the video: all bytes but the tracks and extras."""
        parts = self.bytes_by_part
        return 8 * (self.size - sum(parts.get(name, 0) for name in NO_VIDEO)) / self.header.pixels

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> NervFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(path: Path) -> tuple[BinaryIO, int]:
    """A file and its size. A pipe is read whole."""
    try:
        file = path.open("rb")
        if path.is_file():
            return file, path.stat().st_size
        with file:
            data = file.read()
        return io.BytesIO(data), len(data)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error

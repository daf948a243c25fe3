"""A .nerv file as a whole: its parts in order, written and read."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nervkit.container import chunks
from nervkit.container.chunks import Chunk
from nervkit.container.header import Header, Limits, Timing
from nervkit.container.track import Track
from nervkit.errors import FormatError, SourceError

CHECKS_HEAD = struct.Struct("<ff")

PARTS = {
    chunks.HEADER: "header",
    chunks.TIMING: "header",
    chunks.WEIGHTS: "weights",
    chunks.EMBEDDINGS: "embeddings",
    chunks.CHECKS: "checks",
    chunks.TRACK: "tracks",
}


@dataclass(frozen=True)
class Checks:
    """What the encoder saw when it decoded its own file.

    Attributes:
        psnr: dB, mean over frames of 8-bit RGB; None where unknown.
        ssim: mean over frames; None where unknown (frames too small for its window).
        crcs: (T,) uint32, CRC-32 of each frame's RGB bytes, rows from the top.
    """

    psnr: float | None
    ssim: float | None
    crcs: np.ndarray

    def pack(self) -> bytes:
        means = (math.nan if mean is None else mean for mean in (self.psnr, self.ssim))
        return CHECKS_HEAD.pack(*means) + self.crcs.astype("<u4").tobytes()

    @classmethod
    def unpack(cls, payload: bytes, frames: int) -> Checks:
        if len(payload) != CHECKS_HEAD.size + 4 * frames:
            raise FormatError(f"the frame checks do not cover {frames} frames")
        means = (mean if math.isfinite(mean) else None for mean in CHECKS_HEAD.unpack_from(payload))
        return cls(*means, np.frombuffer(payload, "<u4", offset=CHECKS_HEAD.size))


@dataclass(frozen=True)
class SegmentData:
    """The coded tensors of one segment."""

    weights: bytes
    embeddings: bytes


def pack_file(
    header: Header,
    timing: Timing,
    segments: Sequence[SegmentData],
    tracks: Sequence[Track] = (),
    checks: Checks | None = None,
) -> bytes:
    """The bytes of a whole file."""
    parts = [(chunks.HEADER, header.pack()), (chunks.TIMING, timing.pack())]
    for segment in segments:
        parts.append((chunks.WEIGHTS, segment.weights))
        if segment.embeddings:
            parts.append((chunks.EMBEDDINGS, segment.embeddings))
    if checks is not None:
        parts.append((chunks.CHECKS, checks.pack()))
    parts += [(chunks.TRACK, track.pack()) for track in tracks]
    parts.append((chunks.END, b""))
    return chunks.preamble() + b"".join(chunks.pack_chunk(*part) for part in parts)


class NervFile:
    """An open .nerv file. Opening reads the header only; each part is checked when it is read.

    Args:
        source: a path, or the bytes of a file.
        limits: what may be declared.

    Raises:
        SourceError: no such file, or not readable.
        FormatError: not a valid .nerv file.
    """

    def __init__(self, source: str | Path | bytes, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self.name = "these bytes" if isinstance(source, bytes) else str(source)
        self._file: BinaryIO
        if isinstance(source, bytes):
            self._file, self.size = io.BytesIO(source), len(source)
        else:
            try:
                self._file = Path(source).open("rb")  # noqa: SIM115 - closed by close()
                self.size = Path(source).stat().st_size
            except OSError as error:
                raise SourceError(f"{source}: {error.strerror}") from error
        try:
            with self.naming():
                self._open(limits)
        except BaseException:
            self.close()
            raise

    def _open(self, limits: Limits) -> None:
        self.chunks = chunks.scan_chunks(self._file, self.size)
        types = [chunk.type for chunk in self.chunks]
        if types[:2] != [chunks.HEADER, chunks.TIMING]:
            raise FormatError("the file does not begin with its header and timing")
        self.header = Header.unpack(self._payload(self.chunks[0]), limits)
        self.timing = Timing.unpack(self._payload(self.chunks[1]), self.header.frames)
        self._segments = self._match_segments()

    def _match_segments(self) -> list[tuple[Chunk, Chunk | None]]:
        """(weights, embeddings) of every segment; checks the order of all other chunks."""
        segments: list[tuple[Chunk, Chunk | None]] = []
        for before, chunk in zip(self.chunks[1:], self.chunks[2:], strict=False):
            if chunk.type == chunks.WEIGHTS:
                segments.append((chunk, None))
            elif chunk.type == chunks.EMBEDDINGS and before.type == chunks.WEIGHTS:
                segments[-1] = (before, chunk)
            elif chunk.type not in PARTS and chunk.type != chunks.END and chunk.type[:1].isupper():
                raise FormatError(
                    f"chunk {chunk.type.decode()} is not known here, and needed: "
                    "install a newer nervkit"
                )
            elif chunk.type in (chunks.HEADER, chunks.TIMING, chunks.EMBEDDINGS):
                raise FormatError(f"chunk {chunk.type.decode()} is repeated or out of place")
        if len(segments) != len(self.header.segments):
            raise FormatError(
                f"the header declares {len(self.header.segments)} segments, "
                f"the file holds {len(segments)}"
            )
        if len([c for c in self.chunks if c.type == chunks.CHECKS]) > 1:
            raise FormatError("chunk cHCK is repeated")
        return segments

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
        weights, embeddings = self._segments[index]
        return SegmentData(
            self._payload(weights), b"" if embeddings is None else self._payload(embeddings)
        )

    def tracks(self) -> list[Track]:
        """All audio and subtitle tracks."""
        with self.naming():
            return [Track.unpack(self._payload(c)) for c in self.chunks if c.type == chunks.TRACK]

    def checks(self) -> Checks | None:
        """What the encoder saw, or None where the file does not say."""
        for chunk in self.chunks:
            if chunk.type == chunks.CHECKS:
                with self.naming():
                    return Checks.unpack(self._payload(chunk), self.header.frames)
        return None

    def check_all(self) -> None:
        """Verify the checksum of every chunk. Raises ChecksumError."""
        with self.naming():
            chunks.check_all(self._file, self.chunks)

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes on disk by part, framing included; they add up to `size`."""
        parts = dict.fromkeys([*PARTS.values(), "other"], 0)
        parts["header"] += chunks.PREAMBLE.size
        for chunk in self.chunks:
            parts["header" if chunk.type == chunks.END else PARTS.get(chunk.type, "other")] += (
                chunk.size
            )
        return {name: size for name, size in parts.items() if size or name != "other"}

    @property
    def bpp(self) -> float:
        """Bits per pixel of the video: all bytes but the tracks."""
        pixels = self.header.frames * self.header.width * self.header.height
        return 8 * (self.size - self.bytes_by_part["tracks"]) / pixels

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> NervFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

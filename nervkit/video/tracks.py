"""Audio and subtitle tracks: packets that are copied, never transcoded.

A track is stored as a small media file of its own (the carrier: MP4, MOV or Matroska, whichever
can hold it), which keeps the codec's parameters, beside a table of the packets' exact times,
which carriers round.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer

from nervkit.container.chunks import inflate
from nervkit.errors import FormatError

CARRIERS = ("mp4", "mov", "matroska")
KINDS = ("audio", "subtitle")
HEAD = struct.Struct("<III")  # bytes of description, of compressed times; number of packets
MAX_DESCRIPTION = 1 << 12
MAX_PACKETS = 1 << 26
UNKNOWN = -(1 << 62)  # a timestamp or duration that the source does not give


@dataclass(frozen=True)
class Track:
    """One audio or subtitle stream.

    Attributes:
        kind: "audio" or "subtitle".
        codec, language: ffmpeg's names; language may be empty.
        time_base: seconds per unit of `times`.
        times: (N, 3) int64: pts, dts and duration of every packet.
        carrier: "mp4", "mov" or "matroska".
        data: the carrier file.
    """

    kind: str
    codec: str
    language: str
    time_base: Fraction
    times: np.ndarray
    carrier: str
    data: bytes

    @classmethod
    def from_packets(cls, packets: Sequence[av.Packet], origin: Fraction) -> Track | None:
        """The track of one source stream's packets, with time `origin` (seconds) moved to 0.

        None where no carrier holds this codec. The packets are used up.
        """
        stream = packets[0].stream
        time_base = Fraction(stream.time_base or packets[0].time_base)
        shift = round(origin / time_base)
        rows = [(_shifted(p.pts, shift), _shifted(p.dts, shift), p.duration or UNKNOWN) for p in packets]
        times = np.array(rows, np.int64).reshape(-1, 3)
        contents = [bytes(p) for p in packets]
        for carrier in CARRIERS:
            data = _carry(packets, carrier)
            if data is not None and _count_packets(data) == len(contents):
                language = stream.language or ""
                codec = stream.codec_context.codec.name
                return cls(stream.type, codec, language, time_base, times, carrier, data)
        return None

    def pack(self) -> bytes:
        """The payload of a track chunk."""
        description = {
            "kind": self.kind,
            "codec": self.codec,
            "language": self.language,
            "time_base": [self.time_base.numerator, self.time_base.denominator],
            "carrier": self.carrier,
        }
        text = json.dumps(description, separators=(",", ":")).encode()
        # Differences down the columns: packets mostly follow each other at one pace.
        times = np.diff(self.times, axis=0, prepend=np.zeros((1, 3), np.int64))
        packed = zlib.compress(times.T.astype("<i8").tobytes(), 9)
        return HEAD.pack(len(text), len(packed), len(times)) + text + packed + self.data

    @classmethod
    def unpack(cls, payload: bytes) -> Track:
        """The inverse of `pack`. Raises FormatError. The carrier is not opened."""
        if len(payload) < HEAD.size:
            raise FormatError("a track is too short")
        text_size, times_size, count = HEAD.unpack_from(payload)
        start = HEAD.size + text_size
        if text_size > MAX_DESCRIPTION or start + times_size > len(payload) or count > MAX_PACKETS:
            raise FormatError("a track's sizes are impossible")
        raw = inflate(payload[start : start + times_size], 24 * count, "a track's times")
        if len(raw) != 24 * count:
            raise FormatError("a track's times are incomplete")
        try:
            fields = json.loads(payload[HEAD.size : start])
            kind, codec, language, carrier = (
                str(fields[k]) for k in ("kind", "codec", "language", "carrier")
            )
            time_base = Fraction(*(int(part) for part in fields["time_base"]))
        except (ValueError, KeyError, TypeError, RecursionError, ZeroDivisionError) as error:
            raise FormatError("a track's description is not understood") from error
        if kind not in KINDS or carrier not in CARRIERS or time_base <= 0:
            raise FormatError("a track's description is not understood")
        times = np.cumsum(np.frombuffer(raw, "<i8").reshape(3, count).T, axis=0)
        data = payload[start + times_size :]
        return cls(kind, codec, language, time_base, times.astype(np.int64), carrier, data)

    def packets(self, window: tuple[Fraction, Fraction] | None = None) -> list[av.Packet]:
        """The packets with their exact times; with `window` (seconds), those that start in it,
        its beginning moved to 0. Raises FormatError where the carrier is damaged."""
        start, end = window or (None, None)
        shift = round(start / self.time_base) if start is not None else 0
        result = []
        try:
            # Stays open: the packets' stream is the template of the one they are copied to.
            carrier = av.open(io.BytesIO(self.data))
            found = [p for p in carrier.demux(carrier.streams[0]) if p.size]
        except (av.error.FFmpegError, IndexError) as error:
            raise FormatError(f"the {self.kind} track cannot be read") from error
        if len(found) != len(self.times):
            raise FormatError(f"the {self.kind} track has lost packets")
        for packet, (pts, dts, duration) in zip(found, self.times.tolist(), strict=True):
            seconds = (pts if pts != UNKNOWN else dts) * self.time_base
            if start is not None and end is not None and not start <= seconds < end:
                continue
            packet.time_base = self.time_base
            packet.pts = None if pts == UNKNOWN else pts - shift
            packet.dts = None if dts == UNKNOWN else dts - shift
            packet.duration = 0 if duration == UNKNOWN else duration
            result.append(packet)
        return result


def add_track(container: OutputContainer, packets: Sequence[av.Packet]) -> bool:
    """Add a stream for `packets` to an output, and point them at it. False where the output's
    format cannot hold the codec."""
    template = packets[0].stream
    try:
        stream = container.add_stream_from_template(template)
    except (ValueError, av.error.FFmpegError):
        return False
    if template.language:
        stream.metadata["language"] = template.language
    for packet in packets:
        packet.stream = stream
    return True


def _carry(packets: Sequence[av.Packet], carrier: str) -> bytes | None:
    buffer = io.BytesIO()
    before = [(p.stream, p.time_base, p.pts, p.dts, p.duration) for p in packets]
    try:
        with av.open(buffer, "w", format=carrier) as output:
            if not add_track(output, packets):
                return None
            for packet in packets:
                output.mux(packet)
    except av.error.FFmpegError:
        return None
    finally:
        for packet, (stream, time_base, pts, dts, duration) in zip(packets, before, strict=True):
            packet.stream, packet.time_base = stream, time_base
            packet.pts, packet.dts, packet.duration = pts, dts, duration
    return buffer.getvalue()


def _count_packets(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as carrier:
        return sum(1 for p in carrier.demux(carrier.streams[0]) if p.size)


def _shifted(time: int | None, shift: int) -> int:
    return UNKNOWN if time is None else time - shift

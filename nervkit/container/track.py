"""One audio or subtitle track as bytes: a description, the packets' exact times, the carrier.

The carrier is a small media file of one stream (MP4, MOV or Matroska), which keeps the codec's
parameters; it is not opened here. Carriers round times, so they are kept beside it.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nervkit.container.chunks import inflate
from nervkit.errors import FormatError

CARRIERS = ("mp4", "mov", "matroska")
KINDS = ("audio", "subtitle")
#: what a track may be marked as: ffmpeg's names of dispositions
FLAGS = (
    *("default", "dub", "original", "comment", "lyrics", "karaoke", "forced"),
    *("hearing_impaired", "visual_impaired", "captions", "descriptions"),
)
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
        title: what players show for the track; may be empty.
        flags: from FLAGS, such as "default" and "forced".
    """

    kind: str
    codec: str
    language: str
    time_base: Fraction
    times: np.ndarray
    carrier: str
    data: bytes
    title: str = ""
    flags: tuple[str, ...] = ()

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
        except (ValueError, LookupError, TypeError, RecursionError, ArithmeticError) as error:
            raise FormatError("a track's description is not understood") from error
        if kind not in KINDS or carrier not in CARRIERS or time_base <= 0:
            raise FormatError("a track's description is not understood")
        times = np.cumsum(np.frombuffer(raw, "<i8").reshape(3, count).T, axis=0)
        data = payload[start + times_size :]
        return cls(kind, codec, language, time_base, times.astype(np.int64), carrier, data)

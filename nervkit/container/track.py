"""One audio or subtitle track as bytes: a description, the packets' exact times, the carrier.

The carrier is a small media file of one stream (MP4, MOV, Matroska or NUT), which keeps the codec's
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
from nervkit.container.fields import an_object, check_time_base, fraction, line, parse_json, text
from nervkit.container.limits import MOST_PACKETS
from nervkit.container.timing import MOST_SECONDS
from nervkit.errors import FormatError

CARRIERS = ("mp4", "mov", "matroska", "nut")
KINDS = ("audio", "subtitle")
#: what a track may be marked as: ffmpeg's names of dispositions
FLAGS = (
    *("default", "dub", "original", "comment", "lyrics", "karaoke", "forced"),
    *("hearing_impaired", "visual_impaired", "captions", "descriptions"),
)
HEAD = struct.Struct("<III")  # bytes of description, of compressed times; number of packets
MAX_DESCRIPTION = 1 << 13
MAX_TITLE = 1 << 10
UNKNOWN = -(1 << 62)  # a timestamp or duration that the source does not give


@dataclass(frozen=True)
class Track:
    """One audio or subtitle stream. Raises FormatError where a field is impossible.

    Attributes:
        kind: "audio" or "subtitle".
        codec, language: ffmpeg's names, printable; language may be empty.
        time_base: seconds per unit of `times`; 31 bits each way.
        times: (N, 3) int64, N >= 1: pts, dts and duration of every packet; within 68 years of 0,
            dts in order, durations not negative, or UNKNOWN.
        carrier: "mp4", "mov", "matroska" or "nut".
        data: the carrier file, at least N bytes.
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

    def __post_init__(self) -> None:
        known = self.kind in KINDS and self.carrier in CARRIERS and set(self.flags) <= {*FLAGS}
        if not known:
            raise FormatError("a track's description is not understood")
        line(self.codec, "a track's codec", 64)
        line(self.language, "a track's language", 64)
        text(self.title, "a track's title", MAX_TITLE)
        base = self.time_base
        check_time_base(base, "a track's time base")
        # A packet has a byte at least.
        if not 1 <= len(self.times) <= min(MOST_PACKETS, len(self.data)):
            raise FormatError("a track declares more packets than its data can hold, or none")
        known = self.times != UNKNOWN
        most = min(MOST_SECONDS * base.denominator // base.numerator, 1 << 61)
        times = self.times[known]
        if ((times > most) | (times < -most)).any():
            raise FormatError("a track has times further than 68 years from 0")
        dts = self.times[known[:, 1], 1]
        if (dts[1:] < dts[:-1]).any() or (self.times[known[:, 2], 2] < 0).any():
            raise FormatError("a track's times run backwards")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Track):
            return NotImplemented
        mine, theirs = ({**vars(t), "times": t.times.tolist()} for t in (self, other))
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]

    def pack(self) -> bytes:
        """The payload of a track chunk."""
        description = {
            "kind": self.kind,
            "codec": self.codec,
            "language": self.language,
            "time_base": [self.time_base.numerator, self.time_base.denominator],
            "carrier": self.carrier,
        }
        if self.title:
            description["title"] = self.title
        if self.flags:
            description["flags"] = list(self.flags)
        content = json.dumps(description, separators=(",", ":")).encode()
        # Differences down the columns: packets mostly follow each other at one pace.
        times = np.diff(self.times, axis=0, prepend=np.zeros((1, 3), np.int64))
        packed = zlib.compress(times.T.astype("<i8").tobytes(), 9)
        return HEAD.pack(len(content), len(packed), len(times)) + content + packed + self.data

    @classmethod
    def unpack(cls, payload: bytes) -> Track:
        """The inverse of `pack`. Raises FormatError. The carrier is not opened."""
        size, times_size, count = _sizes(payload)
        start = HEAD.size + size
        fields = an_object(
            parse_json(payload[HEAD.size : start], "a track's description"),
            "a track's description",
            ("kind", "codec", "language", "time_base", "carrier"),
            ("title", "flags"),
        )
        flags = fields.get("flags", [])
        if not isinstance(flags, list) or not all(flag in FLAGS for flag in flags):
            raise FormatError("a track's flags are not understood")
        raw = inflate(payload[start : start + times_size], 24 * count, "a track's times")
        if len(raw) != 24 * count:
            raise FormatError("a track's times are incomplete")
        times = np.cumsum(np.frombuffer(raw, "<i8").reshape(3, count).T, axis=0, dtype=np.int64)
        return cls(
            kind=line(fields["kind"], "a track's kind", 64),
            codec=fields["codec"],
            language=fields["language"],
            time_base=fraction(fields["time_base"], "a track's time base"),
            times=times,
            carrier=line(fields["carrier"], "a track's carrier", 64),
            data=payload[start + times_size :],
            title=fields.get("title", ""),
            flags=tuple(flags),
        )


def count_packets(payload: bytes) -> int:
    """How many packets a track chunk declares: no more than its data can hold. Raises
    FormatError."""
    return _sizes(payload)[2]


def _sizes(payload: bytes) -> tuple[int, int, int]:
    if len(payload) < HEAD.size:
        raise FormatError("a track is too short")
    size, times_size, count = HEAD.unpack_from(payload)
    left = len(payload) - HEAD.size - size - times_size
    if size > MAX_DESCRIPTION or not 1 <= count <= min(left, MOST_PACKETS):
        raise FormatError("a track's sizes are impossible")
    return size, times_size, count

"""An audio or subtitle track: a description, the exact packet timestamps, and the carrier.

The carrier is a small media file with one stream (MP4, MOV, Matroska or NUT), which keeps the codec
parameters; this module does not open it. Carriers round timestamps, so a table has the exact ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from nervkit.errors import FormatError
from nervkit.media.checks import MOST_SECONDS, check_time_base, line, text

CARRIERS = ("mp4", "mov", "matroska", "nut")
KINDS = ("audio", "subtitle")
#: the dispositions that a track may have, under ffmpeg's names
FLAGS = (
    *("default", "dub", "original", "comment", "lyrics", "karaoke", "forced"),
    *("hearing_impaired", "visual_impaired", "captions", "descriptions"),
)
MAX_TITLE = 1 << 10
MOST_PACKETS = 1 << 22  # in all tracks together: a day of AAC
UNKNOWN = -(1 << 62)  # marks a timestamp or duration that the source does not have


@dataclass(frozen=True)
class Track:
    """One audio or subtitle stream. Raises FormatError if a field is invalid.

    Attributes:
        kind: "audio" or "subtitle".
        codec, language: ffmpeg's names, printable; language may be empty.
        time_base: seconds per unit of `times`; 31 bits for numerator and denominator.
        times: (N, 3) int64, N >= 1: pts, dts and duration of every packet, each possibly UNKNOWN.
            Timestamps are within 68 years of 0, dts do not decrease, durations are not negative.
        carrier: container format of `data`: "mp4", "mov", "matroska" or "nut".
        data: the carrier file, at least N bytes.
        title: the track name that players show; may be empty.
        flags: dispositions from FLAGS, such as "default" and "forced".
        later: the track's later parts, sorted by time. Each has its own times, carrier and data;
            all other fields are equal.
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
    later: tuple[Track, ...] = ()

    def __post_init__(self) -> None:
        valid = self.kind in KINDS and self.carrier in CARRIERS and set(self.flags) <= {*FLAGS}
        if not valid:
            raise FormatError("a track's description is invalid")
        line(self.codec, "a track's codec", 64)
        line(self.language, "a track's language", 64)
        text(self.title, "a track's title", MAX_TITLE)
        check_time_base(self.time_base, "a track's time base")
        # A packet has at least one byte.
        if not 1 <= len(self.times) <= min(MOST_PACKETS, len(self.data)):
            raise FormatError("a track declares no packets, or more than its data can hold")
        self._check_times()
        self._check_parts()

    def _check_times(self) -> None:
        base = self.time_base
        known = self.times != UNKNOWN
        most = min(MOST_SECONDS * base.denominator // base.numerator, 1 << 61)
        times = self.times[known]
        if ((times > most) | (times < -most)).any():
            raise FormatError("a track has timestamps more than 68 years from 0")
        if (self.times[known[:, 2], 2] < 0).any():
            raise FormatError("a track has a negative packet duration")
        dts = np.concatenate([part.times[:, 1] for part in self.parts])
        dts = dts[dts != UNKNOWN]
        if (dts[1:] < dts[:-1]).any():
            raise FormatError("a track's dts run backwards")

    def _check_parts(self) -> None:
        if any(part._described != self._described for part in self.later):
            raise FormatError("a later part of a track has another description than the first")
        begins = [part._spans[:, 0] for part in self.parts]
        if self.later and not all(map(len, begins)):
            raise FormatError("a part of a track has no timestamps")
        if any(after.min() < before.max() for before, after in pairwise(begins)):
            raise FormatError("a track's parts run backwards")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Track):
            return NotImplemented
        mine, theirs = ({**vars(t), "times": t.times.tolist()} for t in (self, other))
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]

    @property
    def _described(self) -> tuple[object, ...]:
        return self.kind, self.codec, self.language, self.time_base, self.title, self.flags

    @property
    def _spans(self) -> np.ndarray:
        """(K, 2): start and end of each packet of this part. The start is the pts or, if unknown,
        the dts; packets without both are left out."""
        pts, dts, duration = self.times.T
        begin = np.where(pts == UNKNOWN, dts, pts)
        end = begin + np.where(duration == UNKNOWN, 0, duration)
        return np.stack([begin, end], axis=1)[begin != UNKNOWN]

    @property
    def parts(self) -> tuple[Track, ...]:
        """All parts of the track, this one first."""
        return (self, *self.later)

    @property
    def packets(self) -> int:
        """Number of packets in all parts."""
        return sum(len(part.times) for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes of all carriers."""
        return sum(len(part.data) for part in self.parts)

    @property
    def span(self) -> tuple[int, int]:
        """Start of this part's first packet and end of its last, in milliseconds, rounded down and
        up; (0, 0) if no timestamp is known."""
        if not len(spans := self._spans):
            return 0, 0
        scale = 1000 * self.time_base
        return math.floor(int(spans[:, 0].min()) * scale), math.ceil(int(spans.max()) * scale)

"""One audio or subtitle track: a description, the packets' exact times, the carrier.

The carrier is a small media file of one stream (MP4, MOV, Matroska or NUT), which keeps the codec's
parameters; it is not opened here. Carriers round times, so they are kept beside it.
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
#: what a track may be marked as: ffmpeg's names of dispositions
FLAGS = (
    *("default", "dub", "original", "comment", "lyrics", "karaoke", "forced"),
    *("hearing_impaired", "visual_impaired", "captions", "descriptions"),
)
MAX_TITLE = 1 << 10
MOST_PACKETS = 1 << 22  # of all tracks: a day of AAC
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
        later: parts of the track that lie elsewhere in the file, in order of time: with times, a
            carrier and data of their own, and the same in all else.
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
        if (self.times[known[:, 2], 2] < 0).any():
            raise FormatError("a track's times run backwards")
        dts = np.concatenate([part.times[:, 1] for part in self.parts])
        dts = dts[dts != UNKNOWN]
        if (dts[1:] < dts[:-1]).any():
            raise FormatError("a track's times run backwards")
        if any(part._described != self._described for part in self.later):
            raise FormatError("a part of a track is not described as the track is")
        begins = [part._spans[:, 0] for part in self.parts]
        if self.later and not all(map(len, begins)):
            raise FormatError("a part of a track says no time")
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
        """(K, 2): when each packet of this part begins and is over. It begins when it is shown or,
        where it does not say, decoded; packets that say neither are left out."""
        pts, dts, duration = self.times.T
        begin = np.where(pts == UNKNOWN, dts, pts)
        end = begin + np.where(duration == UNKNOWN, 0, duration)
        return np.stack([begin, end], axis=1)[begin != UNKNOWN]

    @property
    def parts(self) -> tuple[Track, ...]:
        """The track's first part, and the later ones."""
        return (self, *self.later)

    @property
    def packets(self) -> int:
        """How many there are, of all parts."""
        return sum(len(part.times) for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes of the carriers of all parts."""
        return sum(len(part.data) for part in self.parts)

    @property
    def span(self) -> tuple[int, int]:
        """When the first packet of this part begins, and when all of them are over: milliseconds,
        rounded down and up; 0 and 0 where no time is known."""
        if not len(spans := self._spans):
            return 0, 0
        scale = 1000 * self.time_base
        return math.floor(int(spans[:, 0].min()) * scale), math.ceil(int(spans.max()) * scale)

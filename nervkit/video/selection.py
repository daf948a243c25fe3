"""The wanted part of a source, picture by picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np

from nervkit.errors import FormatError, SourceError
from nervkit.media.extras import Extras
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.video.clip import Details
from nervkit.video.edit import Edit
from nervkit.video.extras import placed
from nervkit.video.source import Picture, Source
from nervkit.video.streams import DEFAULT_FPS
from nervkit.video.timeline import mended
from nervkit.video.tracks import store_track, time_of, within

PREROLL = Fraction(1, 10)  # seconds of sound before what is heard that a decoder may need


class Selection:
    """The wanted pictures of a source, one after another, and then all else that a Clip has.

    Attributes:
        size: width and height of every frame; (0, 0) before the first.
        edit: what is kept; from the first frame on, with the size that they get.
        passed: pictures of the source that were taken so far.
        skipped: of those, the ones before the first that is wanted.
        kept: of those, the ones that are wanted.
        seconds: when the latest wanted one is shown, counted as a Clip's times are; where they are
            mended, nearly so.
    """

    def __init__(self, source: Source, edit: Edit) -> None:
        self.source, self.edit = source, edit
        self.size = self._full_size = (0, 0)
        self.passed = self.skipped = self.kept = 0
        self.seconds = Fraction(0)
        self._times: list[int | None] = []  # as the source gives them: of the frames that are kept,
        self._durations: list[int | None] = []  # and of the first one after them

    def pictures(self) -> Iterator[Picture]:
        """The wanted pictures; `frame` makes their pixels."""
        edit, time_base = self.edit, self.source.time_base
        zero = time = 0
        origin = Fraction(0)
        late = over = False
        index = -1  # counted from `start`
        for picture, following in _with_next(self.source.pictures()):
            follows = time  # where the times are wild, it is shown after the one before
            time = time if picture.pts is None else picture.pts
            if self.passed == 0:
                zero = int(self._zero(time * time_base) / time_base)
            self.passed += 1
            # A single wild time is not taken for the start: the next frame must confirm it.
            confirmed = following is None or following.pts is None or following.pts >= time
            late |= confirmed and (time - zero) * time_base >= edit.start
            late |= edit.start == 0
            over |= edit.to is not None and confirmed and (time - zero) * time_base >= edit.to
            shown = (time if confirmed or self.passed == 1 else follows) * time_base
            time += picture.duration or 1
            index += late
            if not over and (not late or index < edit.first):
                self.skipped += 1
                continue
            self._times.append(picture.pts)
            self._durations.append(picture.duration)
            if over or (edit.stop is not None and index >= edit.stop):
                self.source.skip_rest()
                return
            if self.kept == 0:
                origin = self._origin(shown)
            self.seconds = shown - origin
            self.kept += 1
            yield picture

    def frame(self, picture: Picture) -> np.ndarray:
        """The (H, W, 3) uint8 pixels of the latest picture, as the edit shapes them. Raises
        SourceError where they are of another size than the first one's."""
        rgb = picture.rgb()
        self._full_size = rgb.shape[1], rgb.shape[0]
        if self.size == (0, 0):
            self.edit = self.edit.settled(*self._full_size)
        frame = self.edit.shape(rgb)
        size = frame.shape[1], frame.shape[0]
        if self.size == (0, 0):
            self.size = size
        elif size != self.size:
            raise SourceError(
                f"{self.source.name}: frame {self.passed - 1} has {size[0]}x{size[1]} pixels, "
                f"the first one {self.size[0]}x{self.size[1]}; "
                "all must have one size (--resize WxH makes them)"
            )
        return frame

    def details(self, strict: bool) -> Details:
        """All that a Clip has besides its frames, once every picture was taken. Raises
        SourceError where nothing is left, or with `strict` where the source is damaged."""
        source, edit = self.source, self.edit
        if source.damage and strict:
            raise SourceError(f"{source.name}: {source.damage}; --strict refuses it")
        if not self.kept:
            raise SourceError(self._why_empty())
        if source.damage:
            source.note(source.damage)
        ratio = edit.sample_aspect_ratio(source.sample_aspect_ratio, *self._full_size)
        timing = self._timing()
        first, last = timing.seconds
        origin = self._origin(first)
        tracks = self._tracks(origin, last)
        if not edit.trims and origin:
            source.description["start"] = float(origin)
        shift = int(origin / source.time_base)
        return Details(
            timing=Timing(timing.pts - shift, timing.time_base, timing.duration),
            sample_aspect_ratio=ratio,
            colour=source.colour,
            tracks=tracks,
            extras=self._extras(origin, last),
            source=source.description,
            edit=edit.counted(self.kept).to_dict(),
            skipped=self.skipped,
            notes=source.notes,
        )

    def _origin(self, first: Fraction) -> Fraction:
        """Which of the source's times is a Clip's 0, where its first frame is shown at `first`."""
        return first if self.edit.trims else self._zero(first)

    def _zero(self, first: Fraction) -> Fraction:
        """Which of the source's times becomes 0, where its first frame is shown at `first`: that
        of the earliest track. Sound before 0 is what a decoder needs and nobody hears."""
        earliest = min([first, *self.source.starts])
        if earliest < 0 <= first:
            return Fraction(0)
        return earliest // self.source.time_base * self.source.time_base

    def _timing(self) -> Timing:
        times, changed = mended(self._times, self._durations)
        if changed:
            self.source.note(
                f"{changed} frames had missing, repeated or wild timestamps: spaced anew"
            )
        pts = np.array(times[: self.kept], np.int64)
        last_duration = self._durations[self.kept - 1]
        if len(times) > self.kept:
            duration = times[self.kept] - times[self.kept - 1]
        elif last_duration:
            duration = last_duration
        elif len(pts) > 1:
            duration = int(pts[-1] - pts[-2])
        else:
            duration = round(1 / (DEFAULT_FPS * self.source.time_base))
        try:
            return Timing(pts, self.source.time_base, max(1, duration))
        except FormatError as error:
            raise SourceError(f"{self.source.name}: {error}") from error

    def _tracks(self, origin: Fraction, end: Fraction) -> list[Track]:
        tracks = []
        for packets in self.source.side_packets():
            stream = packets[0].stream
            if stream.type == "audio":
                self._mend(packets)
            else:
                packets.sort(key=time_of)
            if self.edit.trims:
                cut = _cut_sound if stream.type == "audio" else _cut_text
                time_base = Fraction(packets[0].time_base)
                packets = cut(packets, round(origin / time_base), round(end / time_base))
            else:
                packets = [p for p in packets if not _unheard(p, origin)]
            if not packets:
                continue
            codec = stream.codec_context.codec.canonical_name
            lost = f"the {stream.type} track ({codec}) cannot be stored: left out"
            try:
                track = store_track(packets, origin)
            except FormatError as error:
                self.source.note(f"{lost} ({error})")
                continue
            if track is not None:
                tracks.append(track)
            else:
                self.source.note(lost)
        return tracks

    def _mend(self, packets: list[av.Packet]) -> None:
        """Put the times of sound in order."""
        given = [p.pts if p.dts is None else p.dts for p in packets]
        times, changed = mended(given, [p.duration for p in packets], strictly=False)
        if not changed:
            return
        for packet, before, after in zip(packets, given, times, strict=True):
            if before != after:
                packet.pts = packet.dts = after
        self.source.note(f"{changed} packets of sound had missing or wild timestamps: spaced anew")

    def _extras(self, origin: Fraction, end: Fraction) -> Extras:
        extras = self.source.extras()
        if self.skipped and "timecode" in extras.tags:
            self.source.note("the timecode is left out: the video's beginning is cut off")
            tags = {name: text for name, text in extras.tags.items() if name != "timecode"}
            extras = replace(extras, tags=tags)
        return placed(extras, origin, end if self.edit.trims else None)

    def _why_empty(self) -> str:
        name, edit = self.source.name, self.edit.to_dict()
        if self.passed == 0:
            damage = f" ({self.source.damage})" if self.source.damage else ""
            return f"{name}: no frame can be decoded{damage}"
        chosen = ", ".join(f"--{k} {edit[k]}" for k in ("start", "to", "frames") if k in edit)
        return f"{name}: {chosen} selects nothing: the source has {self.passed} frames"


def _with_next(pictures: Iterator[Picture]) -> Iterator[tuple[Picture, Picture | None]]:
    """Every picture with the one that follows it."""
    before = next(pictures, None)
    while before is not None:
        after = next(pictures, None)
        yield before, after
        before = after


def _cut_sound(packets: list[av.Packet], start: int, end: int) -> list[av.Packet]:
    """The packets that begin in [start, end)."""
    return [p for p in packets if within(time_of(p), 0, start, end)]


def _cut_text(packets: list[av.Packet], start: int, end: int) -> list[av.Packet]:
    """The subtitles that are on screen in [start, end), for that long. One without a duration
    stays until the next packet, which may only clear it."""
    kept = []
    for packet, following in pairwise([*packets, None]):
        time = time_of(packet)
        until = end if following is None else max(time, time_of(following))
        part = within(time, packet.duration or until - time, start, end)
        if part is None:
            continue
        if part[0] != time:
            packet.pts = packet.dts = part[0]
        if packet.duration:
            packet.duration = part[1]
        kept.append(packet)
    return kept


def _unheard(packet: av.Packet, origin: Fraction) -> bool:
    """Whether an edit list hides this packet of sound long before the beginning."""
    if not packet.is_discard or packet.pts is None:
        return False
    return (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base) < origin - PREROLL

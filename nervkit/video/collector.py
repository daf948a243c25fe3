"""The wanted part of a source, gathered into a Clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np

from nervkit.container.extras import Extras
from nervkit.container.timing import Timing
from nervkit.container.track import Track
from nervkit.errors import FormatError, ResourceError, SourceError
from nervkit.video.clip import Clip
from nervkit.video.edit import Edit
from nervkit.video.extras import placed
from nervkit.video.memory import available_memory, human_bytes
from nervkit.video.source import Picture, Source
from nervkit.video.streams import DEFAULT_FPS
from nervkit.video.timeline import mended
from nervkit.video.tracks import store_track, time_of, within

MEMORY_SHARE = 0.8  # of the free memory may hold frames; the rest is the fit's
PREROLL = Fraction(1, 10)  # seconds of sound before what is heard that a decoder may need


class Collector:
    """Gathers the wanted pictures of a source into one array."""

    def __init__(
        self, source: Source, edit: Edit, on_picture: Callable[[Picture], None] | None
    ) -> None:
        self.source, self.edit, self.on_picture = source, edit, on_picture
        self.frames = np.empty((0, 0, 0, 3), np.uint8)
        self.times: list[int | None] = []  # as the source gives them: of the frames that are kept,
        self.durations: list[int | None] = []  # and of the first one after them
        self.kept = 0
        self.passed = 0  # pictures seen in all
        self.skipped = 0  # of those, before the first that is kept

    def collect(self, strict: bool) -> Clip:
        """The Clip. Raises SourceError where nothing is left, or with `strict` where it is
        damaged; ResourceError where it does not fit into memory."""
        self._take_pictures()
        source, edit = self.source, self.edit
        if source.damage and strict:
            raise SourceError(f"{source.name}: {source.damage}; --strict refuses it")
        if not self.kept:
            raise SourceError(self._why_empty())
        if source.damage:
            source.note(source.damage)
        ratio = edit.sample_aspect_ratio(source.sample_aspect_ratio, *self.full_size)
        timing = self._timing()
        first, last = timing.seconds
        origin = first if edit.trims else self._zero(first)
        tracks = self._tracks(origin, last)
        if not edit.trims and origin:
            source.description["start"] = float(origin)
        shift = int(origin / source.time_base)
        return Clip(
            frames=self.frames[: self.kept],
            timing=Timing(timing.pts - shift, timing.time_base, timing.duration),
            sample_aspect_ratio=ratio,
            colour=source.colour,
            tracks=tracks,
            extras=self._extras(origin, last),
            source=source.description,
            edit=edit.to_dict(),
            skipped=self.skipped,
            notes=source.notes,
        )

    def _take_pictures(self) -> None:
        edit = self.edit
        zero = time = 0
        late = False
        index = -1  # counted from `start`
        for picture, following in _with_next(self.source.pictures()):
            time = time if picture.pts is None else picture.pts
            if self.passed == 0:
                zero = int(self._zero(time * self.source.time_base) / self.source.time_base)
            self.passed += 1
            # A single wild time is not taken for the start: the next frame must confirm it.
            confirmed = following is None or following.pts is None or following.pts >= time
            late |= confirmed and (time - zero) * self.source.time_base >= edit.start
            late |= edit.start == 0
            time += picture.duration or 1
            index += late
            if not late or index < edit.first:
                self.skipped += 1
                continue
            self.times.append(picture.pts)
            self.durations.append(picture.duration)
            if edit.stop is not None and index >= edit.stop:
                self.source.skip_rest()
                return
            self._keep(picture.rgb())
            self.kept += 1
            if self.on_picture is not None:
                self.on_picture(picture)

    def _zero(self, first: Fraction) -> Fraction:
        """Which of the source's times becomes 0, where its first frame is shown at `first`: that
        of the earliest track. Sound before 0 is what a decoder needs and nobody hears."""
        earliest = min([first, *self.source.starts])
        if earliest < 0 <= first:
            return Fraction(0)
        return earliest // self.source.time_base * self.source.time_base

    def _keep(self, rgb: np.ndarray) -> None:
        self.full_size = rgb.shape[1], rgb.shape[0]
        frame = self.edit.shape(rgb)
        kept = self.kept
        if kept == 0:
            total = self.source.count()
            ahead = 1 if total is None else max(1, total - self.passed + 1)
            if self.edit.stop is not None:
                ahead = min(ahead, self.edit.stop - self.edit.first)
            self._reserve(ahead, frame.shape)
        elif frame.shape != self.frames.shape[1:]:
            height, width = self.frames.shape[1:3]
            raise SourceError(
                f"{self.source.name}: frame {self.passed - 1} has "
                f"{frame.shape[1]}x{frame.shape[0]} pixels, "
                f"the first one {width}x{height}; all must have one size (--resize WxH makes them)"
            )
        elif kept == len(self.frames):
            self._reserve(2 * kept, frame.shape)
        self.frames[kept] = frame

    def _reserve(self, count: int, shape: tuple[int, ...]) -> None:
        need, have = count * int(np.prod(shape)), available_memory()
        if need > MEMORY_SHARE * have:
            fits = int(MEMORY_SHARE * have / np.prod(shape))
            raise ResourceError(
                f"{self.source.name}: {count} frames of {shape[1]}x{shape[0]} take "
                f"{human_bytes(need)}, {human_bytes(have)} of memory are free; "
                f"keep fewer (--frames 0:{fits}) or smaller ones (--resize, --crop)"
            )
        grown = np.empty((count, *shape), np.uint8)
        grown[: len(self.frames)] = self.frames.reshape(-1, *shape)
        self.frames = grown

    def _timing(self) -> Timing:
        times, changed = mended(self.times, self.durations)
        if changed:
            self.source.note(
                f"{changed} frames had missing, repeated or wild timestamps: spaced anew"
            )
        pts = np.array(times[: self.kept], np.int64)
        last_duration = self.durations[self.kept - 1]
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
        chosen = ", ".join(f"--{k} {edit[k]}" for k in ("start", "frames") if k in edit)
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

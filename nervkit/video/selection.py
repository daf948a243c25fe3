"""Selection of the wanted pictures of a source, and the details of the resulting Clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from nervkit.errors import FormatError, SourceError
from nervkit.keywords import option
from nervkit.media.extras import Extras
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.video.clip import Details
from nervkit.video.edit import Edit
from nervkit.video.extras import shift_extras
from nervkit.video.packets import Packet, packet_time
from nervkit.video.source import Picture, Source
from nervkit.video.streams import DEFAULT_FPS
from nervkit.video.timeline import repair_times
from nervkit.video.tracks import store_track, within

PREROLL = Fraction(1, 10)  # seconds of audio before the start that a decoder may need


class Selection:
    """Yields the wanted pictures of a source, and afterwards the other fields of a Clip.

    Attributes:
        size: width and height of every frame; (0, 0) before the first.
        edit: the edit; from the first frame on with both sides of `resize` computed.
        passed: number of pictures read from the source so far.
        skipped: number of those before the first wanted one.
        kept: number of wanted pictures so far.
        seconds: timestamp of the latest wanted picture on the Clip's timeline; approximate if
            timestamps need repair.
    """

    def __init__(self, source: Source, edit: Edit) -> None:
        self.source, self.edit = source, edit
        self.size = self._full_size = (0, 0)
        self.passed = self.skipped = self.kept = 0
        self.seconds = Fraction(0)
        # The source's values for the kept pictures and the first one after them.
        self._times: list[int | None] = []
        self._durations: list[int | None] = []

    def pictures(self) -> Iterator[Picture]:
        """Yield the wanted pictures; `frame` converts each to pixels."""
        edit, time_base = self.edit, self.source.time_base
        zero = time = 0
        origin = Fraction(0)
        late = over = False
        index = -1  # counted from `start`
        for picture, following in _with_next(self.source.pictures()):
            follows = time  # the expected time, used if the actual one is implausible
            time = time if picture.pts is None else picture.pts
            if self.passed == 0:
                zero = int(self._zero(time * time_base) / time_base)
            self.passed += 1
            # The next picture must confirm a timestamp, so that an outlier does not start the clip.
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
        """Return the latest picture as (H, W, 3) uint8, cropped and resized. Raises SourceError if
        its size differs from the first one's."""
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
                f"{self.source.name}: frame {self.passed - 1} is {size[0]}x{size[1]}, but the "
                f"first one is {self.size[0]}x{self.size[1]}; "
                f"set {option('resize')} (WxH) to make them equal"
            )
        return frame

    def details(self, strict: bool) -> Details:
        """Return all fields of the Clip except its frames, after the last picture. Raises
        SourceError if no picture is left or, with `strict`, if the source is damaged."""
        source, edit = self.source, self.edit
        if source.damage and strict:
            raise SourceError(
                f"{source.name}: {source.damage}; {option('strict')} refuses damaged input"
            )
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
        """Return the source time that becomes 0 in a Clip whose first frame is at `first`."""
        return first if self.edit.trims else self._zero(first)

    def _zero(self, first: Fraction) -> Fraction:
        """Return the source time that becomes 0 without trimming, for a first frame at `first`: the
        start of the earliest track. Audio before 0 is decoder preroll, which is not played."""
        earliest = min([first, *self.source.starts])
        if earliest < 0 <= first:
            return Fraction(0)
        return earliest // self.source.time_base * self.source.time_base

    def _timing(self) -> Timing:
        times, changed = repair_times(self._times, self._durations)
        if changed:
            self.source.note(
                f"nervkit replaced {changed} missing, repeated or implausible frame timestamps"
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
                self._repair(packets)
            else:
                packets.sort(key=packet_time)
            if self.edit.trims:
                cut = _cut_audio if stream.type == "audio" else _cut_subtitles
                time_base = Fraction(packets[0].time_base)
                packets = cut(packets, round(origin / time_base), round(end / time_base))
            else:
                packets = [p for p in packets if not _hidden(p, origin)]
            if not packets:
                continue
            codec = stream.codec_context.codec.canonical_name
            lost = f"nervkit drops the {stream.type} track ({codec}): no carrier can store it"
            try:
                track = store_track(packets, origin)
            except FormatError as error:
                self.source.note(f"nervkit drops the {stream.type} track ({codec}): {error}")
                continue
            if track is not None:
                tracks.append(track)
            else:
                self.source.note(lost)
        return tracks

    def _repair(self, packets: list[Packet]) -> None:
        """Replace timestamps of audio that are missing or out of order."""
        given = [p.pts if p.dts is None else p.dts for p in packets]
        times, changed = repair_times(given, [p.duration for p in packets], strictly=False)
        if not changed:
            return
        for packet, before, after in zip(packets, given, times, strict=True):
            if before != after:
                packet.pts = packet.dts = after
        self.source.note(
            f"nervkit replaced {changed} missing or implausible timestamps of audio packets"
        )

    def _extras(self, origin: Fraction, end: Fraction) -> Extras:
        extras = self.source.extras()
        if self.skipped and "timecode" in extras.tags:
            self.source.note("nervkit drops the timecode, because the clip starts later")
            tags = {name: text for name, text in extras.tags.items() if name != "timecode"}
            extras = replace(extras, tags=tags)
        return shift_extras(extras, origin, end if self.edit.trims else None)

    def _why_empty(self) -> str:
        name, edit = self.source.name, self.edit.to_dict()
        if self.passed == 0:
            damage = f" ({self.source.damage})" if self.source.damage else ""
            return f"{name}: no frame can be decoded{damage}"
        chosen = ", ".join(f"{k} {edit[k]}" for k in ("start", "to", "frames") if k in edit)
        return f"{name}: {chosen} selects no frame; the source has {self.passed} frames"


def _with_next(pictures: Iterator[Picture]) -> Iterator[tuple[Picture, Picture | None]]:
    """Yield every picture together with the next one."""
    before = next(pictures, None)
    while before is not None:
        after = next(pictures, None)
        yield before, after
        before = after


def _cut_audio(packets: list[Packet], start: int, end: int) -> list[Packet]:
    """Return the packets that begin in [start, end)."""
    return [p for p in packets if within(packet_time(p), 0, start, end)]


def _cut_subtitles(packets: list[Packet], start: int, end: int) -> list[Packet]:
    """Trim subtitles to [start, end). A packet without a duration lasts until the next one, which
    may only clear it."""
    kept = []
    for packet, following in zip(packets, [*packets[1:], None], strict=True):
        time = packet_time(packet)
        until = end if following is None else max(time, packet_time(following))
        part = within(time, packet.duration or until - time, start, end)
        if part is None:
            continue
        if part[0] != time:
            packet.pts = packet.dts = part[0]
        if packet.duration:
            packet.duration = part[1]
        kept.append(packet)
    return kept


def _hidden(packet: Packet, origin: Fraction) -> bool:
    """Whether an edit list hides this packet, and it ends more than PREROLL before `origin`."""
    if not packet.is_discard or packet.pts is None:
        return False
    return (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base) < origin - PREROLL

"""Tracks into movies; text subtitles in the form that a movie's format holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import OutputContainer
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.subtitle import SubtitleSet

from nervkit.container.track import Track
from nervkit.errors import OutputError
from nervkit.video.clocks import LARGEST, MILLISECOND, mp4_clock
from nervkit.video.labels import label_track
from nervkit.video.tracks import add_track

#: the text that a muxer's format holds, as ffmpeg chooses it
TEXT_FORMS = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "ass", ".webm": "webvtt"}
PLAIN_DIALOGUE = b"0,0,Default,,0,0,0,,"  # the fields of an ASS line before its text


def add_to_movie(
    container: OutputContainer, track: Track, packets: list[av.Packet], output: Path
) -> tuple[list[av.Packet], list[str]]:
    """Add a track to a movie: its packets for the output, none where it cannot be held, and
    notes on what was changed or left out. Raises OutputError where the format cannot hold
    the track's times."""
    if not packets:
        return [], [f"{track.codec} {track.kind}: nothing of it is in this part"]
    suffix, notes = output.suffix.lower(), []
    if not add_track(container, packets):
        refused = f"{suffix} cannot hold {track.codec} {track.kind}:"
        if track.kind != "subtitle" or not packets[0].stream.codec_context.codec.text_sub:
            hint = "" if suffix == ".mkv" else " (.mkv holds everything)"
            return [], [f"{refused} left out{hint}"]
        form = TEXT_FORMS[suffix]
        packets = _converted(container, packets, form)
        notes = [f"{refused} converted to {form}, which may not keep all styles"]
        if not packets:
            return [], notes
    added = packets[0].stream
    label_track(added, track)
    if suffix in (".mp4", ".mov"):
        _set_clock(added, track, packets, output)
    return packets, notes


def _set_clock(
    added: av.stream.Stream, track: Track, packets: list[av.Packet], output: Path
) -> None:
    """Let MP4 count in units that hold the track's times. (For sound it counts samples.)"""
    times = sorted(p.pts if p.dts is None else p.dts for p in packets)
    if track.kind == "audio":
        longest = max((b - a for a, b in pairwise(times)), default=0) * track.time_base
        fits = longest * added.codec_context.sample_rate < LARGEST
    else:
        ends = [p.pts + (p.duration or 0) for p in packets]
        rate = mp4_clock(sorted({*times, *ends}), track.time_base)
        fits = rate is not None
        if rate is not None:
            added.time_base = Fraction(1, rate)
    if not fits:
        raise OutputError(f"{output}: a gap in the {track.kind} is too long for MP4; use .mkv")


@dataclass(frozen=True)
class Cue:
    """Lines that are shown together, in the track's time base: ASS dialogue, all fields."""

    start: int
    end: int
    lines: tuple[bytes, ...]

    @property
    def dialogue(self) -> bytes:
        if len(self.lines) == 1:
            return self.lines[0]
        return PLAIN_DIALOGUE + rb"\N".join(line.split(b",", 8)[8] for line in self.lines)


def _converted(container: OutputContainer, packets: list[av.Packet], form: str) -> list[av.Packet]:
    """The packets of text subtitles as those of a new stream of the codec `form`."""
    time_base = packets[0].time_base
    decoder = packets[0].stream.codec_context
    cues = list(_cues(packets, decoder))
    if form == "mov_text":
        cues = _one_at_a_time(cues)
    added = container.add_stream(form)
    added.time_base = time_base
    encoder = added.codec_context
    encoder.subtitle_header = decoder.subtitle_header
    result = []
    for cue in cues:
        shown = round((cue.end - cue.start) * time_base / MILLISECOND)
        packet = encoder.encode_subtitle(SubtitleSet.create(cue.dialogue, 0, shown))
        packet.stream, packet.time_base = added, time_base
        packet.pts = packet.dts = cue.start
        packet.duration = cue.end - cue.start
        result.append(packet)
    return result


def _cues(packets: list[av.Packet], decoder: SubtitleCodecContext) -> Iterator[Cue]:
    for packet in packets:
        decoded = decoder.decode2(packet)
        if decoded is not None and len(decoded):
            lines = tuple(line.ass for line in decoded)
            yield Cue(packet.pts, packet.pts + packet.duration, lines)


def _one_at_a_time(cues: list[Cue]) -> list[Cue]:
    """The same text at every moment by cues that do not overlap: MP4 shows one at a time."""
    moments = sorted({moment for cue in cues for moment in (cue.start, cue.end)})
    result: list[Cue] = []
    for start, end in pairwise(moments):
        lines = tuple(
            line for cue in cues if cue.start < end and cue.end > start for line in cue.lines
        )
        if lines:
            result.append(Cue(start, end, lines))
    return result

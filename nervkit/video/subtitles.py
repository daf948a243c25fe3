"""Text subtitles from one codec to another, through the dialogue of ASS, as ffmpeg does it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import av
from av.container import OutputContainer
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.subtitle import SubtitleSet

from nervkit.video.clocks import MILLISECOND
from nervkit.video.tracks import time_of

PLAIN_DIALOGUE = b"0,0,Default,,0,0,0,,"  # the fields of an ASS line before its text


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


def converted(
    container: OutputContainer, packets: list[av.Packet], form: str
) -> tuple[list[av.Packet], int]:
    """The packets of text subtitles as those of a new stream of the codec `form`, and how many
    could not be read."""
    time_base = packets[0].time_base
    decoder = packets[0].stream.codec_context
    cues, unreadable = _cues(packets, decoder)
    if form == "mov_text":
        cues = _one_at_a_time(cues)
    if not cues:
        return [], unreadable
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
    return result, unreadable


def _cues(packets: list[av.Packet], decoder: SubtitleCodecContext) -> tuple[list[Cue], int]:
    cues, unreadable = [], 0
    for packet in packets:
        start = time_of(packet)
        try:
            decoded = decoder.decode2(packet)
        except av.error.FFmpegError:
            unreadable += 1
            continue
        if decoded is not None and len(decoded):
            lines = tuple(line.ass for line in decoded)
            cues.append(Cue(start, start + packet.duration, lines))
    return cues, unreadable


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

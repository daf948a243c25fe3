"""Conversion of text subtitles between codecs through ASS dialogue lines, as in ffmpeg."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import av
from av.container import OutputContainer
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from nervkit.video.clocks import MILLISECOND
from nervkit.video.packets import Packet, packet_time

TextCodec: TypeAlias = Literal["mov_text", "ass", "webvtt"]
PLAIN_DIALOGUE = b"0,0,Default,,0,0,0,,"  # the fields of an ASS line before its text


@dataclass(frozen=True)
class Cue:
    """Lines of ASS dialogue (all fields) on screen together, times in the track's time base."""

    start: int
    end: int
    lines: tuple[bytes, ...]

    @property
    def dialogue(self) -> bytes:
        if len(self.lines) == 1:
            return self.lines[0]
        return PLAIN_DIALOGUE + rb"\N".join(line.split(b",", 8)[8] for line in self.lines)


def convert_subtitles(
    container: OutputContainer, packets: list[Packet], codec: TextCodec
) -> tuple[list[Packet], int]:
    """Convert text subtitles to a new stream of `container` with another codec. Return its packets
    and the number of unreadable source packets."""
    time_base = packets[0].time_base
    decoder = packets[0].stream.codec_context
    assert isinstance(decoder, SubtitleCodecContext)
    cues, unreadable = _cues(packets, decoder)
    if codec == "mov_text":
        cues = _one_at_a_time(cues)
    if not cues:
        return [], unreadable
    added = container.add_stream(codec)
    added.time_base = time_base
    encoder = added.codec_context
    encoder.subtitle_header = decoder.subtitle_header
    result: list[Packet] = []
    for cue in cues:
        shown = round((cue.end - cue.start) * time_base / MILLISECOND)
        packet = encoder.encode_subtitle(SubtitleSet.create(cue.dialogue, 0, shown))
        packet.stream, packet.time_base = added, time_base
        packet.pts = packet.dts = cue.start
        packet.duration = cue.end - cue.start
        result.append(packet)
    return result, unreadable


def _cues(packets: list[Packet], decoder: SubtitleCodecContext) -> tuple[list[Cue], int]:
    """Decode packets to cues; also return the number of unreadable packets."""
    cues, unreadable = [], 0
    for packet in packets:
        start = packet_time(packet)
        try:
            decoded = decoder.decode2(packet)
        except av.error.FFmpegError:
            unreadable += 1
            continue
        if decoded is not None and len(decoded):
            lines = tuple(line.ass for line in decoded if isinstance(line, AssSubtitle))
            cues.append(Cue(start, start + (packet.duration or 0), lines))
    return cues, unreadable


def _one_at_a_time(cues: list[Cue]) -> list[Cue]:
    """Return cues without overlap that show the same text, because MP4 shows one cue at a time."""
    moments = sorted({moment for cue in cues for moment in (cue.start, cue.end)})
    result: list[Cue] = []
    for start, end in pairwise(moments):
        lines = tuple(
            line for cue in cues if cue.start < end and cue.end > start for line in cue.lines
        )
        if lines:
            result.append(Cue(start, end, lines))
    return result

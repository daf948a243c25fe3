"""Adds tracks to movies, as far as each movie format can hold them."""

from __future__ import annotations

import io
import re
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
from av.container import OutputContainer
from av.stream import Stream

from nervkit.errors import OutputError
from nervkit.media.track import Track
from nervkit.video.clocks import LARGEST, mp4_clock
from nervkit.video.labels import label_track
from nervkit.video.packets import Packet, packet_time
from nervkit.video.subtitles import TextCodec, convert_subtitles

FORMATS = {
    ".mp4": "mp4",
    ".mkv": "matroska",
    ".mov": "mov",
    ".webm": "webm",
    ".m4a": "ipod",
    ".mka": "matroska",
}
MATROSKA, MP4 = (".mkv", ".mka"), (".mp4", ".mov", ".m4a")
#: text subtitle codec of each movie format, to which unsupported codecs are converted
TEXT_CODECS: dict[str, TextCodec] = {
    ".mp4": "mov_text",
    ".mov": "mov_text",
    ".mkv": "ass",
    ".webm": "webvtt",
}


def movie_target(partial: Path, suffix: str, tracks: list[list[Packet]]) -> tuple[str, str]:
    """Return the file name and the muxer to open for a movie with these tracks. ("file:" tells that
    a colon in the name is no protocol.)"""
    if suffix in MATROSKA and any(_is_held_as_wav(packets) for packets in tracks):
        # PyAV checks a muxer's list of codecs, and that of Matroska lacks the codecs that it stores
        # as WAV does. PyAV does not check the tee muxer, which passes everything on.
        name = re.sub(r"([\\'|\s])", r"\\\1", f"file:{partial}")
        return f"[f=matroska]{name}", "tee"
    return f"file:{partial}", FORMATS[suffix]


def add_to_movie(
    container: OutputContainer, track: Track, packets: list[Packet], output: Path
) -> tuple[list[Packet], list[str]]:
    """Add a track to a movie. Return its packets for the output (none if the format cannot hold
    it) and notes on changes and losses. Raises OutputError if the format cannot hold the track's
    timestamps."""
    if not packets:
        return [], [f"the {track.codec} {track.kind} track has nothing in this part"]
    suffix, notes = output.suffix.lower(), []
    if _is_held(packets, suffix):
        stream = _add(container, packets[0].stream)
        for packet in packets:
            packet.stream = stream
    else:
        refused = f"{suffix} cannot hold {track.codec} {track.kind}:"
        if track.kind != "subtitle" or not packets[0].stream.codec_context.codec.text_sub:
            other = ".mka" if suffix == ".m4a" else ".mkv"
            hint = "" if suffix in MATROSKA else f" ({other} holds everything)"
            return [], [f"{refused} left out{hint}"]
        codec = TEXT_CODECS[suffix]
        packets, unreadable = convert_subtitles(container, packets, codec)
        notes = [f"{refused} converted to {codec}, which may lose styles"]
        if unreadable:
            notes.append(f"nervkit drops {unreadable} unreadable subtitles ({track.codec})")
        if not packets:
            return [], notes
    added = packets[0].stream
    label_track(added, track)
    if suffix in MP4:
        _set_clock(added, track, packets, output)
    return packets, notes


def _is_held(packets: list[Packet], suffix: str) -> bool:
    """Whether a movie can hold these packets. Writes one to find out, because some muxers refuse a
    codec only then."""
    if suffix in MATROSKA and _is_held_as_wav(packets):
        return True
    packet: Packet = av.Packet(bytes(packets[0]))
    packet.pts = packet.dts = 0
    try:
        with av.open(io.BytesIO(), "w", format=FORMATS[suffix]) as container:
            packet.stream = _add(container, packets[0].stream)
            packet.time_base = packets[0].time_base
            container.mux(packet)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _is_held_as_wav(packets: list[Packet]) -> bool:
    """Whether Matroska stores this codec as WAV does (codec ID A_MS/ACM), such as G.711."""
    name = packets[0].stream.codec_context.codec.name
    return name in _codecs_of("wav") and name not in _codecs_of("matroska")


@cache
def _codecs_of(format: str) -> set[str]:
    with av.open(io.BytesIO(), "w", format=format) as container:
        return container.supported_codecs


def _add(container: OutputContainer, template: Stream) -> Stream:
    """Add a stream with the template's codec. Raises ValueError or FFmpegError if the format cannot
    hold the codec."""
    added = container.add_stream_from_template(template)
    if isinstance(template, av.AudioStream) and isinstance(added, av.AudioStream):
        layout = template.codec_context.layout
        if layout.name.endswith(" channels"):
            # Unnamed channels get the default order, as in ffmpeg.
            added.codec_context.layout = f"{layout.nb_channels}c"
    return added


def _set_clock(added: Stream, track: Track, packets: list[Packet], output: Path) -> None:
    """Set an MP4 timescale that represents the track's timestamps. (For audio it is the sample
    rate.) Raises OutputError."""
    times = sorted(packet_time(p) if p.dts is None else p.dts for p in packets)
    if isinstance(added, av.AudioStream):
        longest = max((b - a for a, b in pairwise(times)), default=0) * track.time_base
        fits = longest * added.codec_context.sample_rate < LARGEST
    else:
        ends = [packet_time(p) + (p.duration or 0) for p in packets]
        rate = mp4_clock(sorted({*times, *ends}), track.time_base)
        fits = rate is not None
        if rate is not None:
            added.time_base = Fraction(1, rate)
    if not fits:
        other = "mka" if output.suffix.lower() == ".m4a" else "mkv"
        raise OutputError(f"{output}: a gap in the {track.kind} is too long for MP4; use .{other}")

"""Tracks into movies, as each kind of movie can hold them."""

from __future__ import annotations

import io
import re
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
from av.container import OutputContainer

from nervkit.errors import OutputError
from nervkit.media.track import Track
from nervkit.video.clocks import LARGEST, mp4_clock
from nervkit.video.labels import label_track
from nervkit.video.subtitles import converted
from nervkit.video.tracks import time_of

FORMATS = {
    ".mp4": "mp4",
    ".mkv": "matroska",
    ".mov": "mov",
    ".webm": "webm",
    ".m4a": "ipod",
    ".mka": "matroska",
}
MATROSKA, MP4 = (".mkv", ".mka"), (".mp4", ".mov", ".m4a")
#: the text subtitles that a movie is given in place of those that it cannot hold, as by ffmpeg
TEXT_FORMS = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "ass", ".webm": "webvtt"}


def movie_target(partial: Path, suffix: str, tracks: list[list[av.Packet]]) -> tuple[str, str]:
    """The file and the muxer to open for a movie of the kind `suffix` with such tracks.
    ("file:" says that a colon in the name is no protocol.)"""
    if suffix in MATROSKA and any(_is_held_as_wav(packets) for packets in tracks):
        # PyAV asks a muxer which codecs it holds, and Matroska's keeps back those it takes as WAV
        # does. The tee muxer, which hands all on to it, is not asked.
        name = re.sub(r"([\\'|\s])", r"\\\1", f"file:{partial}")
        return f"[f=matroska]{name}", "tee"
    return f"file:{partial}", FORMATS[suffix]


def add_to_movie(
    container: OutputContainer, track: Track, packets: list[av.Packet], output: Path
) -> tuple[list[av.Packet], list[str]]:
    """Add a track to a movie: its packets for the output, none where it cannot be held, and
    notes on what was changed or left out. Raises OutputError where the format cannot hold
    the track's times."""
    if not packets:
        return [], [f"{track.codec} {track.kind}: nothing of it is in this part"]
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
        form = TEXT_FORMS[suffix]
        packets, unreadable = converted(container, packets, form)
        notes = [f"{refused} converted to {form}, which may not keep all styles"]
        if unreadable:
            notes.append(f"{unreadable} subtitles ({track.codec}) cannot be read: left out")
        if not packets:
            return [], notes
    added = packets[0].stream
    label_track(added, track)
    if suffix in MP4:
        _set_clock(added, track, packets, output)
    return packets, notes


def _is_held(packets: list[av.Packet], suffix: str) -> bool:
    """Whether a movie can hold such packets, found by writing one: some muxers refuse a codec only
    then, and with it the whole movie."""
    if suffix in MATROSKA and _is_held_as_wav(packets):
        return True
    packet = av.Packet(bytes(packets[0]))
    packet.pts = packet.dts = 0
    try:
        with av.open(io.BytesIO(), "w", format=FORMATS[suffix]) as container:
            packet.stream = _add(container, packets[0].stream)
            packet.time_base = packet.stream.time_base
            container.mux(packet)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _is_held_as_wav(packets: list[av.Packet]) -> bool:
    """Whether Matroska holds these packets in the way of WAV (codec ID A_MS/ACM), such as G.711."""
    name = packets[0].stream.codec_context.codec.name
    return name in _codecs_of("wav") and name not in _codecs_of("matroska")


@cache
def _codecs_of(format: str) -> set[str]:
    with av.open(io.BytesIO(), "w", format=format) as container:
        return container.supported_codecs


def _add(container: OutputContainer, template: av.stream.Stream) -> av.stream.Stream:
    """A stream of the template's codec. Raises ValueError or FFmpegError where the format does
    not hold it."""
    added = container.add_stream_from_template(template)
    if template.type == "audio" and template.codec_context.layout.name.endswith(" channels"):
        # Channels that are only counted are taken in the default order, as by ffmpeg.
        added.codec_context.layout = f"{template.codec_context.layout.nb_channels}c"
    return added


def _set_clock(
    added: av.stream.Stream, track: Track, packets: list[av.Packet], output: Path
) -> None:
    """Let MP4 count in units that hold the track's times. (For sound it counts samples.)"""
    times = sorted(time_of(p) if p.dts is None else p.dts for p in packets)
    if track.kind == "audio":
        longest = max((b - a for a, b in pairwise(times)), default=0) * track.time_base
        fits = longest * added.codec_context.sample_rate < LARGEST
    else:
        ends = [time_of(p) + (p.duration or 0) for p in packets]
        rate = mp4_clock(sorted({*times, *ends}), track.time_base)
        fits = rate is not None
        if rate is not None:
            added.time_base = Fraction(1, rate)
    if not fits:
        other = "mka" if output.suffix.lower() == ".m4a" else "mkv"
        raise OutputError(f"{output}: a gap in the {track.kind} is too long for MP4; use .{other}")

"""Audio and subtitle tracks through PyAV: packets that are copied, never transcoded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, takewhile

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from nervkit.container.fields import printable
from nervkit.errors import FormatError
from nervkit.media.track import CARRIERS, FLAGS, MAX_TITLE, UNKNOWN, Track

DEMUXERS = {"mp4": "mov", "mov": "mov", "matroska": "matroska", "nut": "nut"}
PART_SECONDS = 4  # that a part of a track lasts at least, where it has several
PART_BYTES = 1 << 10  # that a part takes about, besides its packets and the codec's parameters
PART_SHARE = 128  # times as large its packets are at least
NO_PROTOCOLS = {"protocol_whitelist": "none"}  # a name that no protocol has
Window = tuple[Fraction, Fraction]  # [a, b) in seconds


def store_track(packets: Sequence[av.Packet], origin: Fraction) -> Track | None:
    """The track of one source stream's packets, with time `origin` (seconds) moved to 0, in parts
    of some seconds each.

    None where no carrier holds this codec. The packets are used up. Raises FormatError where the
    times are impossible.
    """
    stream = packets[0].stream
    time_base = Fraction(stream.time_base or packets[0].time_base)
    shift = round(origin / time_base)
    runs = _runs(packets, time_base)

    def part(run: Sequence[av.Packet], carrier: str) -> Track | None:
        data = _carry(run, carrier)
        if data is None:
            return None
        return Track(
            kind=stream.type,
            codec=stream.codec_context.codec.canonical_name,
            language=printable(stream.language or "", 64),
            time_base=time_base,
            times=_times(run, shift),
            carrier=carrier,
            data=data,
            title=stream.metadata.get("title", "")[:MAX_TITLE],
            flags=tuple(f for f in FLAGS if Disposition[f] in stream.disposition),
        )

    for carrier in CARRIERS:
        made = (part(run, carrier) for run in runs)
        parts = list(takewhile(_comes_back, made))
        if len(parts) == len(runs):
            return replace(parts[0], later=tuple(parts[1:]))
    return None


def time_of(packet: av.Packet) -> int:
    """When a packet is shown or, where it does not say, decoded, in its time base; else 0."""
    return next((ticks for ticks in (packet.pts, packet.dts) if ticks is not None), 0)


def decoded_at(packet: av.Packet) -> Fraction:
    """When a packet is decoded or, where it does not say, shown: seconds."""
    time = packet.dts if packet.dts is not None else packet.pts
    return Fraction(time or 0) * Fraction(packet.time_base)


def over_at(packets: Sequence[av.Packet]) -> Fraction:
    """When the last packet of a track is over: seconds."""
    last = packets[-1]
    return decoded_at(last) + (last.duration or 0) * Fraction(last.time_base)


def within(pts: int, duration: int, start: int, end: int) -> tuple[int, int] | None:
    """What lies in [start, end) of something that is there from `pts` for `duration`: its pts and
    duration then; None where nothing does. All in one unit. Without a duration, only `pts` counts.
    """
    first, last = max(pts, start), min(pts + duration, end)
    if duration == 0:
        return (pts, 0) if start <= pts < end else None
    return (first, last - first) if first < last else None


def track_packets(track: Track, window: Window | None = None) -> list[av.Packet]:
    """The packets as of `packets_within`, with the beginning of `window` moved to 0."""
    first = round(window[0] / track.time_base) if window else 0
    packets = packets_within(track, window)
    for packet in packets:
        packet.pts = None if packet.pts is None else packet.pts - first
        packet.dts = None if packet.dts is None else packet.dts - first
    return packets


def packets_within(track: Track, window: Window | None = None) -> list[av.Packet]:
    """The packets with their exact times; with `window` (seconds), the sound that begins in it,
    and of subtitles what is shown in it. Raises FormatError where the carrier is damaged."""
    first, last = (round(t / track.time_base) for t in window) if window else (0, None)
    result = []
    carried: list[av.Packet] = []
    for part in track.parts:
        carried += _carried(part)
        for packet in carried[-len(part.times) :]:
            packet.stream = carried[0].stream  # so that only the first carrier stays open
    times = [row for part in track.parts for row in part.times.tolist()]
    for packet, (pts, dts, duration) in zip(carried, times, strict=True):
        if last is not None:
            start = pts if pts != UNKNOWN else dts
            shown = duration if track.kind == "subtitle" and duration != UNKNOWN else 0
            kept = within(start, shown, first, last)
            if kept is None:
                continue
            if shown:
                (pts, duration), dts = kept, kept[0]
        packet.time_base = track.time_base
        packet.pts = None if pts == UNKNOWN else pts
        packet.dts = None if dts == UNKNOWN else dts
        packet.duration = 0 if duration == UNKNOWN else duration
        result.append(packet)
    return result


def open_carrier(data: bytes, carrier: str) -> InputContainer:
    """A track's carrier, opened by the demuxer of its declared kind and by no other: libavformat
    left to itself takes bytes for a playlist, and opens what that names. Raises FFmpegError."""
    return av.open(io.BytesIO(data), format=DEMUXERS[carrier], options=NO_PROTOCOLS)


def _carried(track: Track) -> list[av.Packet]:
    """The packets that the carrier of a track's part holds. Raises FormatError."""
    found: list[av.Packet] = []
    left = len(track.data)
    try:
        # Stays open while the packets are of it: it is the template of the one they are copied to.
        carrier = open_carrier(track.data, track.carrier)
        if [stream.type for stream in carrier.streams] != [track.kind]:
            raise FormatError(f"the {track.kind} track's carrier does not hold one such stream")
        for packet in carrier.demux(carrier.streams[0]):
            left -= packet.size
            # An index can name the same bytes again and again.
            if left < 0 or len(found) > len(track.times):
                raise FormatError(f"the {track.kind} track holds more than it declares")
            if packet.size:
                found.append(packet)
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        reason = printable(getattr(error, "strerror", None) or error)
        raise FormatError(f"the {track.kind} track cannot be read ({reason})") from error
    if len(found) != len(track.times):
        raise FormatError(f"the {track.kind} track holds less than it declares")
    return found


def add_track(container: OutputContainer, packets: Sequence[av.Packet]) -> bool:
    """Add a stream for `packets` to an output, and point them at it. False where the output's
    format cannot hold the codec."""
    template = packets[0].stream
    try:
        stream = container.add_stream_from_template(template)
    except (ValueError, av.error.FFmpegError):
        return False
    if template.language:
        stream.metadata["language"] = template.language
    for packet in packets:
        packet.stream = stream
    return True


def _runs(packets: Sequence[av.Packet], time_base: Fraction) -> list[Sequence[av.Packet]]:
    """The packets in runs, of some seconds and large beside what a part takes besides them. A run
    begins with a key packet, and no packet in it begins before one of an earlier run."""
    if any(packet.pts is None and packet.dts is None for packet in packets):
        return [packets]
    parameters = packets[0].stream.codec_context.extradata or b""
    least = PART_SHARE * (PART_BYTES + len(parameters))
    times = np.array([time_of(packet) for packet in packets])
    latest = np.maximum.accumulate(times)
    earliest = np.minimum.accumulate(times[::-1])[::-1]
    starts, size = [0], 0
    for place, packet in enumerate(packets):
        lasts = int(times[place] - times[starts[-1]]) * time_base
        large = size >= least and lasts >= PART_SECONDS
        if large and packet.is_keyframe and latest[place - 1] <= earliest[place]:
            starts.append(place)
            size = 0
        size += packet.size
    if len(starts) > 1 and size < least:
        starts.pop()
    return [packets[start:stop] for start, stop in pairwise([*starts, None])]


def _times(packets: Sequence[av.Packet], shift: int) -> np.ndarray:
    """(N, 3) int64: pts, dts and duration of each packet, `shift` units earlier."""
    rows = [
        (_shifted(p.pts, shift), _shifted(p.dts, shift), p.duration or UNKNOWN) for p in packets
    ]
    return np.array(rows, np.int64)


def _carry(packets: Sequence[av.Packet], carrier: str) -> bytes | None:
    buffer = io.BytesIO()
    before = [(p.stream, p.time_base, p.pts, p.dts, p.duration) for p in packets]
    try:
        with av.open(buffer, "w", format=carrier) as output:
            if not add_track(output, packets):
                return None
            for packet in packets:
                output.mux(packet)
    except av.error.FFmpegError:
        return None
    finally:
        for packet, (stream, time_base, pts, dts, duration) in zip(packets, before, strict=True):
            packet.stream, packet.time_base = stream, time_base
            packet.pts, packet.dts, packet.duration = pts, dts, duration
    return buffer.getvalue()


def _comes_back(part: Track | None) -> bool:
    """Whether there is a part, whose carrier gives back what it is to hold."""
    try:
        return part is not None and bool(_carried(part))
    except FormatError:
        return False


def _shifted(time: int | None, shift: int) -> int:
    return UNKNOWN if time is None else time - shift

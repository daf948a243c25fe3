"""Audio and subtitle tracks through PyAV; packets are copied, never transcoded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from nervkit.container.fields import printable
from nervkit.errors import FormatError
from nervkit.media.track import CARRIERS, FLAGS, MAX_TITLE, UNKNOWN, Track
from nervkit.video.packets import Packet, packet_time

DEMUXERS = {"mp4": "mov", "mov": "mov", "matroska": "matroska", "nut": "nut"}
PART_SECONDS = 4  # minimum duration of a part if a track has several
PART_BYTES = 1 << 10  # approximate overhead of a part, without the codec parameters
PART_SHARE = 128  # minimum ratio of packet bytes to overhead
NO_PROTOCOLS = {"protocol_whitelist": "none"}  # no protocol is called "none"
Window = tuple[Fraction, Fraction]  # [a, b) in seconds


def store_track(packets: Sequence[Packet], origin: Fraction) -> Track | None:
    """Build a track, in parts of a few seconds, from the packets of one source stream. Time
    `origin` (seconds) becomes 0.

    Returns None if no carrier can hold the codec. Raises FormatError for timestamps out of range.
    """
    stream = packets[0].stream
    time_base = Fraction(stream.time_base or packets[0].time_base)
    shift = round(origin / time_base)
    runs = _runs(packets, time_base)

    def part(run: Sequence[Packet], carrier: str) -> Track | None:
        data = _carry(run, carrier)
        if data is None:
            return None
        made = Track(
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
        return made if _is_readable(made) else None

    for carrier in CARRIERS:
        parts: list[Track] = []
        for run in runs:
            made = part(run, carrier)
            if made is None:
                break
            parts.append(made)
        else:
            return replace(parts[0], later=tuple(parts[1:]))
    return None


def within(pts: int, duration: int, start: int, end: int) -> tuple[int, int] | None:
    """Intersect [pts, pts + duration) with [start, end): return its pts and duration, or None if it
    is empty. All values have one unit. If `duration` is 0, only `pts` counts.
    """
    first, last = max(pts, start), min(pts + duration, end)
    if duration == 0:
        return (pts, 0) if start <= pts < end else None
    return (first, last - first) if first < last else None


def track_packets(track: Track, window: Window | None = None) -> list[Packet]:
    """Return the packets of `packets_within`, with the start of `window` moved to 0."""
    first = round(window[0] / track.time_base) if window else 0
    packets = packets_within(track, window)
    for packet in packets:
        packet.pts = None if packet.pts is None else packet.pts - first
        packet.dts = None if packet.dts is None else packet.dts - first
    return packets


def packets_within(track: Track, window: Window | None = None) -> list[Packet]:
    """Return the packets with their exact timestamps. With `window` (seconds): audio packets that
    begin in it, and subtitles trimmed to it. Raises FormatError if the carrier is damaged."""
    first, last = (round(t / track.time_base) for t in window) if window else (0, None)
    result = []
    carried: list[Packet] = []
    for part in track.parts:
        carried += _carried(part)
        for packet in carried[-len(part.times) :]:
            packet.stream = carried[0].stream  # lets all carriers but the first close
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
    """Open a track's carrier with the demuxer of its declared format and no other: if libavformat
    chose, it could take the bytes for a playlist and open the files in it. Raises FFmpegError."""
    return av.open(io.BytesIO(data), "r", format=DEMUXERS[carrier], options=NO_PROTOCOLS)


def _carried(track: Track) -> list[Packet]:
    """Return the packets in the carrier of one part of a track. Raises FormatError."""
    found: list[Packet] = []
    left = len(track.data)
    try:
        # Not closed: its stream is the template for the stream to which packets are copied.
        carrier = open_carrier(track.data, track.carrier)
        if [stream.type for stream in carrier.streams] != [track.kind]:
            raise FormatError(f"the {track.kind} track's carrier does not hold one such stream")
        for packet in carrier.demux(carrier.streams[0]):
            left -= packet.size
            # A hostile index can refer to the same bytes many times.
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


def add_track(container: OutputContainer, packets: Sequence[Packet]) -> bool:
    """Add a stream for `packets` to an output and assign them to it. Return False if the format
    cannot hold the codec."""
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


def _runs(packets: Sequence[Packet], time_base: Fraction) -> list[Sequence[Packet]]:
    """Divide packets into runs of several seconds, large compared with the overhead of a part. A
    run begins with a key packet, and no packet in it begins before one of an earlier run."""
    if any(packet.pts is None and packet.dts is None for packet in packets):
        return [packets]
    parameters = packets[0].stream.codec_context.extradata or b""
    least = PART_SHARE * (PART_BYTES + len(parameters))
    times = np.array([packet_time(packet) for packet in packets])
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


def _times(packets: Sequence[Packet], shift: int) -> np.ndarray:
    """Return (N, 3) int64: pts and dts minus `shift`, and duration, of each packet."""
    rows = [
        (_shifted(p.pts, shift), _shifted(p.dts, shift), p.duration or UNKNOWN) for p in packets
    ]
    return np.array(rows, np.int64)


def _carry(packets: Sequence[Packet], carrier: str) -> bytes | None:
    """Return packets as a carrier file, or None if its format cannot hold them."""
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


def _is_readable(part: Track) -> bool:
    """Whether the carrier of a part yields all its packets again."""
    try:
        return bool(_carried(part))
    except FormatError:
        return False


def _shifted(time: int | None, shift: int) -> int:
    return UNKNOWN if time is None else time - shift
